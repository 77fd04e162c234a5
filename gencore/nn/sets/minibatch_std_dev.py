"""The standard deviation over a batch as one more feature (Karras et al. 2018)."""

import torch
from torch import Tensor, nn

from gencore.nn.processes import num_processes, sum_over_processes

__all__ = ["MinibatchStdDev"]


class MinibatchStdDev(nn.Module):
    r"""Features of each member of a set, and the mean standard deviation of them over the set.

    .. math:: s = \frac{1}{CHW} \sum_{chw} \sqrt{\frac1B \sum_b (x_{bchw} - \rho(x)_{chw})^2
              + \epsilon}

    One number a set, the same for all members, positions and permutations. Its place is before the
    last layers of a discriminator, where samples that are too much alike show.

    Args:
        epsilon: ε, which keeps gradients finite where members are equal.
        over_processes: take what all processes of torch's default group have for the members, of
            which each has as many.

    Shape:
        [N, B, F] → [N, B, F + 1]; [N, B, C, H, W] → [N, B, C + 1, H, W]; and so on.

    Raises:
        ValueError: on a call for fewer than three dimensions.

    References:
        Karras, Aila, Laine and Lehtinen, "Progressive growing of GANs for improved quality,
        stability, and variation", 2018, §3.

    Example:
        >>> import torch
        >>> from gencore.nn import MinibatchStdDev
        >>> MinibatchStdDev()(torch.tensor([[[1.0], [3.0]]]))
        tensor([[[1., 1.],
                 [3., 1.]]])
    """

    def __init__(self, epsilon: float = 1e-8, *, over_processes: bool = False) -> None:
        super().__init__()
        self.epsilon, self.over_processes = epsilon, over_processes

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            raise ValueError(
                f"MinibatchStdDev: x has shape {list(x.shape)}; expected [N, B, F, ...]"
            )
        shared = self.over_processes and num_processes() > 1
        variance = _shared_variance(x) if shared else x.var(1, correction=0)
        std = (variance.flatten(1) + self.epsilon).sqrt().mean(1)
        feature = std.view(-1, *[1] * (x.dim() - 1)).expand_as(x[:, :, :1])
        return torch.cat([x, feature], 2)

    def extra_repr(self) -> str:
        shared = ", over_processes=True" if self.over_processes else ""
        return f"epsilon={self.epsilon}{shared}"


def _shared_variance(x: Tensor) -> Tensor:
    """Over the members [N, B, ...] of all processes."""
    members = x.shape[1] * num_processes()
    mean = sum_over_processes(x.sum(1, keepdim=True)) / members
    return sum_over_processes((x - mean).square().sum(1)) / members
