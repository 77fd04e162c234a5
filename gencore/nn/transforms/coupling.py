"""What couplings share: which part of the data moves, and the network that says how."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.nn.transforms.base import Rewound, Transform, gradients
from gencore.ops import CouplingMask
from gencore.ops.affine_coupling_reference import checkerboard, transformed_channels

__all__ = ["Coupling", "OwnMask"]

OwnMask = Sequence[bool] | Tensor


class Coupling(FixedBuffers, Transform):
    r"""Part x₁ passes through, x₂ is mapped entry by entry as a network of x₁ says.

    .. math:: z_1 = x_1, \qquad z_2 = g(x_2; \theta), \qquad \theta = \mathrm{network}(x_1, c)

    A subclass says what g is, and how many parameters it has for an entry of x₂.

    Args:
        network: maps x₁, or x₁ and a context, to the parameters [N, M·P, ...]: P for each of the M
            entries of dimension 1 that move, in an order that the subclass says.
        mask: "channel", "checkerboard", or booleans [C], true for the entries of dimension 1 that
            move.
        swap: exchange the two parts.
    """

    kept_index: Tensor
    moved_index: Tensor

    def __init__(self, network: nn.Module, mask: CouplingMask | OwnMask, swap: bool) -> None:
        super().__init__()
        self.network = network
        self.swap = swap
        self.mask: CouplingMask | None = None
        """Which parts there are, if those are not indices."""
        if isinstance(mask, str) and mask in get_args(CouplingMask):
            self.mask = mask
            return
        with with_values():
            moves = _booleans(type(self).__name__, mask)
            if swap:
                moves = ~moves
            if not moves.any():
                raise ValueError(f"{type(self).__name__}: mask moves none of {len(moves)} entries")
            indices = torch.arange(len(moves))
            kept, moved = indices[~moves], indices[moves]
        self.register_fixed("kept_index", kept)
        self.register_fixed("moved_index", moved)

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """P, the parameters of an entry."""

    @abstractmethod
    def map_part(self, x: Tensor, parameters: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """The whole of x, the moving part of which is mapped, and the log-determinant [N]."""

    def rewind_part(
        self, z: Tensor, parameters: Tensor, grad_z: Tensor, grad_log_det: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The x of ``z = map_part(x, parameters)``, and the gradients of both."""
        with torch.no_grad():
            x = self.map_part(z, parameters, inverse=True)[0]
        with torch.enable_grad():
            leaves = x.requires_grad_(), parameters.detach().requires_grad_()
            outputs = self.map_part(*leaves, inverse=False)
        grad_x, grad_parameters = torch.autograd.grad(outputs, leaves, (grad_z, grad_log_det))
        return x.detach(), grad_x, grad_parameters

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check_data(x)
        return self.map_part(x, self._evaluate(x, self.kept(x), context), inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check_data(z)
        return self.map_part(z, self._evaluate(z, self.kept(z), context), inverse=True)

    def rewind(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> Rewound:
        # x₁ is in the output: one evaluation of the network serves the inverse and the gradients.
        with torch.enable_grad():
            kept = self.kept(z).detach().requires_grad_()
            if context is not None:
                context = context.detach().requires_grad_(context.requires_grad)
            parameters = self._evaluate(z, kept, context)
        x, grad_x, grad_parameters = self.rewind_part(z, parameters.detach(), grad_z, grad_log_det)
        (grad_kept, grad_context), grads = gradients(
            self.network, (parameters,), (grad_parameters,), (kept, context)
        )
        if grad_x is grad_z:  # which is not ours to write to
            grad_x = grad_x.clone()
        if grad_kept is not None:
            if self.mask == "channel":
                self.kept(grad_x).add_(grad_kept)
            elif self.mask == "checkerboard":
                grad_x.add_(self.kept(grad_kept))
            else:
                grad_x.index_add_(1, self.kept_index, grad_kept)
        return Rewound(x, grad_x, grad_context, grads)

    def moved(self, t: Tensor) -> Tensor:
        """x₂ of x: [N, M, ...], or of a checkerboard its P positions that move, [N, C, P].

        Of parameters that belong to the positions of a checkerboard, [N, C, H, W, ...], likewise
        [N, C, P, ...].
        """
        if self.mask == "channel":
            first = self._first(t.shape[1])
            return t[:, :first] if self.swap else t[:, first:]
        if self.mask == "checkerboard":
            return t.flatten(2, 3).index_select(2, self._positions(t))
        return t.index_select(1, self.moved_index)

    def with_moved(self, x: Tensor, moved: Tensor) -> Tensor:
        """x with another x₂."""
        if self.mask == "channel":
            kept = self.kept(x)
            return torch.cat([moved, kept] if self.swap else [kept, moved], 1)
        if self.mask == "checkerboard":
            return x.flatten(2).index_copy(2, self._positions(x), moved).view(x.shape)
        return x.index_copy(1, self.moved_index, moved)

    def extra_repr(self) -> str:
        if self.mask is None:
            moved = self.moved_index.numel()
            return f"moves {moved} of {moved + self.kept_index.numel()}"
        return f"mask={self.mask!r}, swap={self.swap}"

    def kept(self, x: Tensor) -> Tensor:
        """x₁, a view of the channels, or all of x with zeros where a checkerboard moves it."""
        if self.mask == "channel":
            first = self._first(x.shape[1])
            return x[:, first:] if self.swap else x[:, :first]
        if self.mask == "checkerboard":
            return x.masked_fill(checkerboard(x, self.swap), 0.0)
        return x.index_select(1, self.kept_index)

    def _evaluate(self, x: Tensor, kept: Tensor, context: Tensor | None) -> Tensor:
        output: Tensor = self.network(kept) if context is None else self.network(kept, context)
        shape = (x.shape[0], self._num_moved(x) * self.num_parameters, *x.shape[2:])
        if output.shape != shape:
            raise ValueError(
                f"{type(self).__name__}: the network gives {list(output.shape)}; expected "
                f"{list(shape)}, {self.num_parameters} for each of {self._num_moved(x)} entries "
                "that move"
            )
        return output.to(x.dtype)  # under autocast, networks give half precision

    def _check_data(self, x: Tensor) -> None:
        if self.mask == "checkerboard":
            fits, expected = x.dim() == 4, "[N, C, H, W]"
        elif self.mask == "channel":
            fits, expected = x.dim() > 1, "[N, C, ...]"
        else:
            size = self.moved_index.numel() + self.kept_index.numel()
            fits, expected = x.dim() > 1 and x.shape[1] == size, f"[N, {size}, ...]"
        if not fits:
            raise ValueError(
                f"{type(self).__name__}: data have shape {list(x.shape)}; expected {expected}"
            )
        if not self._num_moved(x):
            raise ValueError(
                f"{type(self).__name__}: data have shape {list(x.shape)}, of which nothing moves; "
                "a single entry needs swap=True"
            )

    def _first(self, channels: int) -> int:
        """How many channels the first part has."""
        return channels - channels // 2

    def _num_moved(self, x: Tensor) -> int:
        """M, the entries of dimension 1 that move."""
        if self.mask == "channel":
            return transformed_channels(x.shape[1], self.swap)
        return x.shape[1] if self.mask == "checkerboard" else self.moved_index.numel()

    def _positions(self, t: Tensor) -> Tensor:
        """Where a checkerboard moves [N, C, H, W, ...], as indices of the H·W positions.

        Their number does not depend on data, as it would for a compiler if they were looked up.
        """
        height, width = t.shape[2:4]
        start = 0 if self.swap else 1
        if width % 2:  # the colours alternate from each row's end to the next row's start
            return torch.arange(start, height * width, 2, device=t.device)
        rows = torch.arange(height, device=t.device)[:, None]
        columns = torch.arange(0, width, 2, device=t.device)
        return (width * rows + columns + (rows + start) % 2).flatten()


def _booleans(owner: str, mask: object) -> Tensor:
    """A mask as booleans [C], or raise."""
    try:
        moves = torch.as_tensor(mask)
    except (RuntimeError, TypeError, ValueError):  # which torch raises for one or the other
        moves = torch.empty(0)
    if moves.dtype != torch.bool or moves.dim() != 1:
        raise ValueError(
            f"{owner}: mask is {mask!r}; expected one of channel, checkerboard, or booleans [C], "
            "true for what moves"
        )
    return moves
