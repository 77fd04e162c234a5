"""The one check of a discriminator's scores."""

from torch import Tensor

__all__ = ["check_scores"]


def check_scores(owner: str, **scores: Tensor) -> None:
    """Raise a ValueError unless scores are floating point and not empty.

    Args:
        owner: the name that the error begins with.
        scores: tensors by the names that they have in the error.

    Example:
        >>> import torch
        >>> check_scores("Game", real=torch.zeros(0))
        Traceback (most recent call last):
            ...
        ValueError: Game: real is torch.float32 [0]; expected scores, floating point and not empty
    """
    for name, values in scores.items():
        if not values.is_floating_point() or not values.numel():
            raise ValueError(
                f"{owner}: {name} is {values.dtype} {list(values.shape)}; expected scores, "
                "floating point and not empty"
            )
