"""The one check of labels that condition a layer or a network."""

from torch import Tensor

__all__ = ["check_labels"]


def check_labels(owner: str, labels: Tensor, num_rows: int, num_classes: int) -> None:
    """Raise unless there is a class for each data point.

    Labels on an accelerator are not looked at: that would stop the host.

    Args:
        owner: the name that errors begin with.
        labels: int64 [N], each from 0 to `num_classes` − 1.
        num_rows: N.
        num_classes: K.

    Raises:
        ValueError: for labels of another shape.
        IndexError: for one that is not below K.

    Example:
        >>> import torch
        >>> check_labels("Network", torch.tensor([0, 3]), 2, 3)
        Traceback (most recent call last):
            ...
        IndexError: Network: labels are from 0 to 3; expected classes from 0 to 2
    """
    if labels.shape != (num_rows,):
        raise ValueError(
            f"{owner}: labels have shape {list(labels.shape)} for {num_rows} data points; expected "
            f"[{num_rows}]"
        )
    if labels.device.type == "cpu" and ((labels < 0) | (labels >= num_classes)).any():
        raise IndexError(
            f"{owner}: labels are from {int(labels.min())} to {int(labels.max())}; expected "
            f"classes from 0 to {num_classes - 1}"
        )
