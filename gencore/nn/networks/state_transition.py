"""The transition of a state from frame to frame, driven by noise."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencore.nn.networks.mlp import MLP
from gencore.sizes import check_positive

__all__ = ["StateTransition"]


class StateTransition(nn.Module):
    r"""A fully connected network that moves a state on, by noise and perhaps a fixed code.

    .. math:: s_t = \tanh\bigl(s_{t-1} + \mathrm{MLP}(s_{t-1}, \xi_t, m)\bigr) \qquad (3.1)

    Args:
        state_size: S, the numbers of a state.
        noise_size: Z, the numbers of the noise of a frame.
        hidden_widths: of the network; none makes it linear.
        code_size: K, of a code that stays the same through a sequence, such as the motion vector of
            §3.2.3; 0 for none.
        residual: the network gives the change of the state. Otherwise it gives the state itself.
        bounded: apply tanh, so that no state leaves (−1, 1) however long the sequence is.
        activation: of the hidden layers, as of :class:`MLP`.

    Shape:
        [N, S], [N, Z] and, with a code, [N, K] → [N, S].

    Raises:
        TypeError, ValueError: for sizes below 1 and, in a call, shapes that do not fit.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, (3.1) and (3.10). The tanh around the sum is that of the
        authors' published program.

    Example:
        >>> import torch
        >>> from gencore.nn import StateTransition
        >>> transition = StateTransition(3, 2, code_size=4)
        >>> states = transition.unroll(torch.zeros(5, 3), torch.randn(5, 7, 2), torch.zeros(5, 4))
        >>> states.shape
        torch.Size([5, 7, 3])
    """

    def __init__(
        self,
        state_size: int,
        noise_size: int,
        hidden_widths: Sequence[int] = (20, 20),
        *,
        code_size: int = 0,
        residual: bool = True,
        bounded: bool = True,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        check_positive("StateTransition", state_size=state_size, noise_size=noise_size)
        self.state_size, self.noise_size, self.code_size = state_size, noise_size, code_size
        self.residual, self.bounded = residual, bounded
        # Without zero_last: a change that does not depend on the noise gives none a gradient.
        self.network = MLP(
            state_size + noise_size, hidden_widths, state_size,
            activation=activation, zero_last=False, context_size=code_size,
        )  # fmt: skip

    def forward(self, state: Tensor, noise: Tensor, code: Tensor | None = None) -> Tensor:
        """The next states."""
        self._check(state, noise, 2)
        return self._next(state, noise, code)

    def unroll(self, start: Tensor, noise: Tensor, code: Tensor | None = None) -> Tensor:
        """The states s_1 … s_T [N, T, S] after s_0 [N, S], for noise [N, T, Z]."""
        self._check(start, noise, 3)
        states, state = [], start
        for frame_noise in noise.unbind(1):
            state = self._next(state, frame_noise, code)
            states.append(state)
        return torch.stack(states, 1) if states else start.new_empty(len(start), 0, self.state_size)

    def _next(self, state: Tensor, noise: Tensor, code: Tensor | None) -> Tensor:
        moved: Tensor = self.network(torch.cat([state, noise], 1), code)
        if self.residual:
            moved = state + moved
        return moved.tanh() if self.bounded else moved

    def _check(self, state: Tensor, noise: Tensor, dims: int) -> None:
        if (
            state.shape[1:] != (self.state_size,)
            or noise.dim() != dims
            or noise.shape[0] != state.shape[0]
            or noise.shape[-1] != self.noise_size
        ):
            frames = "T, " if dims == 3 else ""
            raise ValueError(
                f"StateTransition: states have shape {list(state.shape)} and noise "
                f"{list(noise.shape)}; expected [N, {self.state_size}] and "
                f"[N, {frames}{self.noise_size}]"
            )

    def extra_repr(self) -> str:
        return f"residual={self.residual}, bounded={self.bounded}"
