"""How near the other members of a batch are, as more features (Salimans et al. 2016)."""

import torch
from torch import Tensor, nn

from gencore.sizes import check_positive

__all__ = ["MinibatchDiscrimination"]


class MinibatchDiscrimination(nn.Module):
    r"""Features of each member of a set, and its closeness to all members in K learned ways.

    .. math:: M_b = x_b T \in \mathbb R^{K \times C}, \qquad
              o_{bk} = \sum_{b'} \exp(-\lVert M_{bk} - M_{b'k} \rVert_1)

    The sum has the member itself too, as in the source, which makes it at least 1. A permutation of
    the members permutes the outputs alike. The cost grows with the square of B.

    Args:
        in_features: F.
        num_kernels: K, the features that are added.
        kernel_size: C, numbers that each distance is of.

    Attributes:
        weight: T, [F, K, C], N(0, 1/F) at first.

    Shape:
        [N, B, F] → [N, B, F + K].

    Raises:
        ValueError: for sizes below 1, and on a call for another shape.

    References:
        Salimans, Goodfellow, Zaremba, Cheung, Radford and Chen, "Improved techniques for training
        GANs", 2016, §3.2.

    Example:
        >>> import torch
        >>> from gencore.nn import MinibatchDiscrimination
        >>> MinibatchDiscrimination(3, num_kernels=2)(torch.ones(1, 4, 3))[0, 0]  # all are alike
        tensor([1., 1., 1., 4., 4.], grad_fn=<SelectBackward0>)
    """

    def __init__(self, in_features: int, *, num_kernels: int = 50, kernel_size: int = 5) -> None:
        super().__init__()
        check_positive(
            "MinibatchDiscrimination", in_features=in_features, num_kernels=num_kernels,
            kernel_size=kernel_size,
        )  # fmt: skip
        size = in_features, num_kernels, kernel_size
        self.weight = nn.Parameter(torch.empty(size).normal_(std=in_features**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        features = len(self.weight)
        if x.dim() != 3 or x.shape[2] != features:
            raise ValueError(
                f"MinibatchDiscrimination: x has shape {list(x.shape)}; expected [N, B, {features}]"
            )
        rows = torch.einsum("nbf,fkc->nbkc", x, self.weight)
        distances = (rows.unsqueeze(2) - rows.unsqueeze(1)).abs().sum(4)
        return torch.cat([x, torch.exp(-distances).sum(2)], 2)

    def extra_repr(self) -> str:
        features, num_kernels, kernel_size = self.weight.shape
        return f"{features}, num_kernels={num_kernels}, kernel_size={kernel_size}"
