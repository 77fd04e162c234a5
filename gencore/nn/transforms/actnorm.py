"""Normalisation of channels with a log-determinant."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.nn.processes import sum_over_processes
from gencore.nn.transforms.base import Rewound, Transform, check_channels
from gencore.ops import actnorm
from gencore.ops.actnorm import actnorm_backward_from_output

__all__ = ["ActNorm"]


class ActNorm(FixedBuffers, Transform):
    r"""A scale and shift of every channel, chosen so that the first batch has mean 0, variance 1.

    .. math:: z_c = e^{a_c} x_c + b_c, \qquad \log\lvert\det\rvert = P \textstyle\sum_c a_c

    for P positions in a channel. The first forward pass in training mode sets a and b from its
    batch, together with those of all processes when torch.distributed is running; from then on
    they are ordinary parameters. An empty batch is none. Whether that has happened is part of the
    state dict. A channel that is constant keeps the scale 1.

    Args:
        channels: C, entries of dimension 1 of the data [N, C, ...]; at least 1.
        std: of the first batch's z, where not 1.

    Raises:
        ValueError: for no channels or a deviation that is not positive; on a call, for data with
            another number of channels, and for a first batch that is not finite, after which the
            next one is the first.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018, §3.1.

    Example:
        >>> import torch
        >>> from gencore.nn import ActNorm
        >>> layer = ActNorm(2)
        >>> z, log_det = layer(torch.tensor([[0.0, 10.0], [4.0, 10.0]]))
        >>> z.detach()
        tensor([[-1.,  0.],
                [ 1.,  0.]])
        >>> log_det.detach()
        tensor([-0.6931, -0.6931])
    """

    is_initialized: Tensor

    def __init__(self, channels: int, *, std: float = 1.0) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"ActNorm: channels is {channels}; expected at least 1")
        if not 0 < std < math.inf:
            raise ValueError(f"ActNorm: std is {std}; expected a positive number")
        self.std = std
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        with with_values():
            is_initialized = torch.tensor(False)
        self.register_fixed("is_initialized", is_initialized)
        # Spares a read of the device's memory on every call; a false one is looked up there.
        self._surely_initialized = False

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.awaits_data():
            self.initialize(x)
        return actnorm(x, self.log_scale, self.bias)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return actnorm(z, self.log_scale, self.bias, inverse=True)

    def rewind(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> Rewound:
        x, grad_x, *grads = actnorm_backward_from_output(
            z, self.log_scale, self.bias, grad_z, grad_log_det
        )
        pairs = zip((self.log_scale, self.bias), grads, strict=True)
        return Rewound(x, grad_x, None, {p: grad for p, grad in pairs if p.requires_grad})

    def awaits_data(self) -> bool:
        """Whether the next batch is the first one in training."""
        if not self.training or self._surely_initialized:
            return False
        self._surely_initialized = bool(self.is_initialized)
        return not self._surely_initialized

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set a and b from the batch ``x`` [N, C, ...], of which every process gives its part."""
        check_channels("ActNorm", x, self.log_scale.numel())
        count, mean, variance = channel_moments(x)
        if not count:
            return
        usable = variance.isfinite() & mean.isfinite()
        if not usable.all():
            wrong = (~usable).nonzero().flatten().tolist()
            raise ValueError(
                f"ActNorm: the first batch, which sets scale and shift, has a variance of "
                f"{variance[wrong[0]].item()} in channel {wrong[0]} ({len(wrong)} of {len(usable)} "
                "channels are not finite); look for NaN, infinite or huge values in the data"
            )
        log_scale = math.log(self.std) - 0.5 * variance.log()
        log_scale = log_scale.where(varies(mean, variance, x), 0.0)
        self.log_scale.copy_(log_scale)
        self.bias.copy_(-mean * log_scale.exp())
        self.is_initialized.fill_(True)
        self._surely_initialized = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._surely_initialized = False

    def extra_repr(self) -> str:
        return f"{self.log_scale.numel()}"


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The number of elements a channel of [N, C, ...], their mean and variance over all processes,
    in float64."""
    x = x.to(torch.float64).transpose(0, 1).flatten(1)
    count = torch.tensor(float(x.shape[1]), dtype=torch.float64, device=x.device)
    total = sum_over_processes(torch.cat([x.sum(1), count[None]]))
    count, mean = total[-1], total[:-1] / total[-1]
    squares = sum_over_processes((x - mean[:, None]).square().sum(1))
    return count, mean, squares / count


def varies(mean: Tensor, variance: Tensor, x: Tensor) -> Tensor:
    """Which channels of x, with that mean and variance, are not constant."""
    # Rounding leaves a constant channel a variance of about (mean·ε)².
    floor = (mean.abs() * torch.finfo(x.dtype).eps * 8).square()
    return (variance > floor) & (variance > torch.finfo(torch.float32).tiny)
