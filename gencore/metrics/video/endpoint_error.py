"""How far estimated displacements are from the true ones."""

from torch import Tensor

from gencore.ops._support.checks import check_like, check_state

__all__ = ["endpoint_error"]


def endpoint_error(estimate: Tensor, truth: Tensor) -> Tensor:
    """The end-point error of displacements, ‖δ̂ − δ‖; its mean is the average one, AEE.

    Args:
        estimate: δ̂, [N, 2, H, W] or any [N, 2, ...], in pixels.
        truth: δ, of the same shape.

    Returns:
        [N, H, W], or [N, ...].

    Raises:
        TypeError, ValueError: dtypes or shapes do not fit.

    Source:
        Baker, Scharstein, Lewis, Roth, Black and Szeliski, "A Database and Evaluation Methodology
        for Optical Flow", 2011.

    Example:
        >>> import torch
        >>> offset = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
        >>> endpoint_error(offset, torch.zeros(1, 2, 2, 2)).mean()
        tensor(5.)
    """
    check_state("endpoint_error", estimate, "estimate")
    check_like("endpoint_error", estimate, truth, "truth", "estimate")
    if estimate.dim() < 2 or estimate.shape[1] != 2:
        raise ValueError(
            f"endpoint_error: estimate has shape {list(estimate.shape)}; expected [N, 2, ...]"
        )
    return (estimate - truth).norm(dim=1)
