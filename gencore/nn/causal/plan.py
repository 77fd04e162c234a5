"""Causal networks that compute the features of one pixel after another.

:mod:`gencore.nn.causal.trace` finds the network's operations, :mod:`gencore.nn.causal.program`
writes them down as numbers, and the operator ``pixel_plan_`` runs them. Here is what keeps the
features of the images in the making.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gencore.nn.causal.program import Program
from gencore.nn.causal.trace import trace
from gencore.ops.pixel_plan import pixel_plan_

if TYPE_CHECKING:
    from gencore.nn.likelihoods import DrawSpec

__all__ = ["PixelPlan"]


class PixelPlan:
    """A network's features of some images, up to the position that was computed last.

    Positions are the channels of pixels in raster order: number t is channel t mod C of pixel
    t div C. They are computed in turn, each given the levels before it, by the arithmetic of
    csrc/math/portable.h, which has the same bits on every machine, for any number of threads.

    Args:
        network: (levels [N, C, H, W], context) → parameters [N, P, H, W], of causal layers.
        image_shape: [C, H, W].
        draw: how levels are drawn from parameters; ``None`` if they are not.
        num: images N.
        context: the network's second argument.
        channel_groups: C where the channels of a pixel depend on each other through the network,
            else 1.
        keep_all: whether every map of features is kept whole, as :meth:`features` needs them.

    Raises:
        TypeError: for weights of a half type.
        ValueError: for a network that is not causal, or has an operation that no instruction does.

    Example:
        >>> import torch
        >>> from gencore.nn import CausalConv2d, DrawSpec, PixelInput, PixelPlan
        >>> left = CausalConv2d(1, 4, (1, 2), last=(0, -1))
        >>> network = torch.nn.Sequential(PixelInput(1, 4), left)
        >>> plan = PixelPlan(network, (1, 3, 3), DrawSpec("categorical", 4), num=5)
        >>> x = torch.zeros(5, 1, 3, 3, dtype=torch.int64)
        >>> plan.run(x, 0, plan.positions, uniforms=torch.rand(5, 1, 3, 3))  # draws x
    """

    def __init__(
        self,
        network: nn.Module,
        image_shape: tuple[int, int, int],
        draw: "DrawSpec | None",
        num: int,
        context: Tensor | None = None,
        *,
        channel_groups: int = 1,
        keep_all: bool = False,
    ) -> None:
        steps = trace(network, image_shape, num, context, channel_groups)
        self.program = Program(steps, image_shape, draw, channel_groups, keep_all=keep_all)
        self.image_shape = image_shape
        self.positions = image_shape[0] * image_shape[1] * image_shape[2]
        self.levels = self.program.levels
        self.has_draw = draw is not None
        if self.program.weights.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"PixelPlan: the weights are {self.program.weights.dtype}; expected float32 or "
                "float64 (method='naive' draws from any)"
            )
        self.state = self.program.start(num)

    def run(
        self,
        x: Tensor,
        begin: int,
        end: int,
        *,
        uniforms: Tensor | None = None,
        known: Tensor | None = None,
        parameters: Tensor | None = None,
        frequencies: Tensor | None = None,
    ) -> None:
        """Computes positions [begin, end), of which ``begin`` is where the last call ended.

        Args:
            x: levels int64 [N, C, H, W]; those before ``begin`` are given.
            begin: the first position.
            end: the one behind the last.
            uniforms: float32 [N, U, H, W]: levels are drawn and written into ``x``, but where they
                are known. Without them ``x`` holds those of all positions before ``end`` − 1.
            known: bool [N, C, H, W].
            parameters: [N, P, H, W], written where given.
            frequencies: int32 [N, end − begin, L], written where given: probabilities of the levels
                as whole numbers, positive and of sum 2²⁴.
        """
        p = self.program
        pixel_plan_(
            p.numbers, p.weights, self.state, x, uniforms, known, parameters,
            frequencies, begin, end,
        )  # fmt: skip

    def give(self, maps: Sequence[Tensor]) -> None:
        """Puts other numbers in the place of the features that torch made of the context.

        Args:
            maps: [N, K, h, w], as many and of the shapes as `trace` gives of the network
                (:attr:`gencore.nn.causal.steps.Steps.given`).
        """
        self.program.give(self.state, maps)

    def features(self) -> dict[str, Tensor]:
        """Name of the network's operation → its features [N, K, h, w], where all are kept."""
        return {
            name: torch.cat([self.program.read(self.state, part) for part in parts], 1)
            for name, parts in self.program.steps.named.items()
        }
