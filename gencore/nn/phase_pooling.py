"""Layers of phase pooling: what of a map is there, where it is, and back."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencore.ops import UnpoolMode, phase_pool, phase_unpool

__all__ = ["PhasePool", "PhaseUnpool"]


class PhasePool(nn.Module):
    """The soft maximum of each pool and the soft place of it: :func:`gencore.ops.phase_pool`.

    Args:
        kernel_size: elements of a pool along (features, rows, columns); an int is all three.
        stride: elements from a pool to the next along each; ``kernel_size`` if ``None``.
        beta: β ≥ 0, or > 0 where it is learnt: 0 is the mean, ∞ the maximum.
        learnable: whether β is a parameter. It is kept positive as e to the parameter
            ``log_beta``.
        padding: places before and after the (rows, columns) that pools may reach.
        circular: whether the last features are followed by the first ones.

    Raises:
        ValueError: for a β out of range.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, §3.2.1.

    Example:
        >>> import torch
        >>> from gencore.nn import PhasePool
        >>> pool = PhasePool((4, 4, 4), beta=3.0, learnable=True)
        >>> magnitude, phase = pool(torch.rand(1, 64, 32, 32))
        >>> magnitude.shape, phase.shape
        (torch.Size([1, 16, 8, 8]), torch.Size([1, 16, 3, 8, 8]))
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        *,
        beta: float = 1.0,
        learnable: bool = False,
        padding: int | Sequence[int] = (0, 0),
        circular: bool = True,
    ) -> None:
        super().__init__()
        if not 0.0 <= beta < math.inf or (learnable and beta == 0.0):
            bound = "positive" if learnable else "not negative"
            raise ValueError(f"PhasePool: beta is {beta}, expected a finite number, {bound}")
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.circular = circular
        self._beta = beta
        self.log_beta = nn.Parameter(torch.tensor(math.log(beta))) if learnable else None

    @property
    def beta(self) -> float | Tensor:
        """β."""
        return self._beta if self.log_beta is None else self.log_beta.exp()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitude [N, G, h, w] and phase [N, G, D, h, w] of maps [N, F, H, W]."""
        beta = self.beta
        if isinstance(beta, Tensor) and z.dtype == torch.float64:
            beta = beta.to(z.dtype)
        return phase_pool(
            z, self.kernel_size, self.stride, beta, padding=self.padding, circular=self.circular
        )

    def extra_repr(self) -> str:
        learnt = "" if self.log_beta is None else ", learnable=True"
        with torch.no_grad():
            beta = float(self.beta)
        return (
            f"{self.kernel_size}, {self.stride}, beta={beta:.4g}{learnt}, "
            f"padding={self.padding}, circular={self.circular}"
        )


class PhaseUnpool(nn.Module):
    """Maps with each magnitude at the place of its phase: :func:`gencore.ops.phase_unpool`.

    Args:
        kernel_size: elements of a pool along (features, rows, columns); an int is all three.
        stride: elements from a pool to the next along each; ``kernel_size`` if ``None``.
        output_size: (F, H, W) of the maps.
        padding: places before and after the (rows, columns) that pools may reach.
        circular: whether the last features are followed by the first ones.
        mode: of a phase outside of [−1, 1]: ``"clamp"`` or ``"drop"``.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, §3.2.1.

    Example:
        >>> import torch
        >>> from gencore.nn import PhasePool, PhaseUnpool
        >>> unpool = PhaseUnpool(4, output_size=(64, 32, 32))
        >>> unpool(*PhasePool(4)(torch.rand(1, 64, 32, 32))).shape
        torch.Size([1, 64, 32, 32])
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        *,
        output_size: Sequence[int],
        padding: int | Sequence[int] = (0, 0),
        circular: bool = True,
        mode: UnpoolMode = "clamp",
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.output_size = output_size
        self.padding = padding
        self.circular = circular
        self.mode: UnpoolMode = mode

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """Maps [N, F, H, W] of magnitudes [N, G, h, w] and phases [N, G, D, h, w]."""
        return phase_unpool(
            magnitude,
            phase,
            self.kernel_size,
            self.stride,
            output_size=self.output_size,
            padding=self.padding,
            circular=self.circular,
            mode=self.mode,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.kernel_size}, {self.stride}, output_size={self.output_size}, "
            f"padding={self.padding}, circular={self.circular}, mode={self.mode!r}"
        )
