"""Probabilities of an image's levels as whole numbers, for an entropy coder."""

import torch
from torch import Tensor

from gencore.nn.causal.plan import PixelPlan

__all__ = ["CodingSession"]


class CodingSession:
    """The probabilities of levels, position after position, the same on every machine.

    Args:
        plan: the network.
        num: images N.

    Attributes:
        levels: L.
        positions: C H W: pixels in raster order, the channels of each in turn.

    Raises:
        ValueError: for a likelihood without a draw.
        TypeError: for weights that are not float32.
    """

    def __init__(self, plan: PixelPlan, num: int) -> None:
        if not plan.has_draw:
            raise ValueError("CodingSession: the likelihood gives no whole-number probabilities")
        if plan.state.dtype != torch.float32:
            raise TypeError(
                f"CodingSession: the weights are {plan.state.dtype}; expected float32, in which "
                "one machine's numbers are another's"
            )
        self._plan = plan
        self._num = num
        self.levels = plan.levels
        self.positions = plan.positions

    def frequencies(self, x: Tensor, begin: int, end: int) -> Tensor:
        """Whole numbers int32 [N, end − begin, L], positive and of sum 2²⁴, of positions
        [begin, end), given the levels before each.

        Args:
            x: levels int64 [N, C, H, W]. Of a single position those before it are read alone.
            begin: where the last call ended; 0 at first.
            end: the position behind the last.
        """
        device = self._plan.state.device
        numbers = torch.empty(
            (self._num, end - begin, self.levels), dtype=torch.int32, device=device
        )
        self._plan.run(x, begin, end, frequencies=numbers)
        return numbers
