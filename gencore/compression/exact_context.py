"""Compiled sessions of conditional models, whose context's features are exact as well."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gencore.compression.exact_arithmetic import exact_arithmetic, exact_copy, to_grid
from gencore.compression.exact_model import ExactModel
from gencore.compression.exact_weight_norm import with_exact_weight_norm
from gencore.compression.session import LevelFrequencies

if TYPE_CHECKING:
    from gencore.models import AutoregressiveImageModel

__all__ = ["session_given"]


def session_given(
    model: "AutoregressiveImageModel | ExactModel", num: int, context: Tensor | None
) -> LevelFrequencies:
    """A session of a compiled model, given a context [num, ...] that is the same on every machine.

    What such a model makes of the context alone, and normalised weights, torch computes, whose sums
    depend on the machine. Here norms are rounded once, and what is made of the context is computed
    by exact arithmetic from weights rounded to multiples of 2⁻¹⁶, and then rounded to float32, in
    which the compiled part goes on.

    Args:
        model: any whose network can be compiled; or an `ExactModel`, whose own session is exact in
            the context as well.
        num: images.
        context: what they are conditioned on, as the model has it; rounded to multiples of 2⁻¹⁶.

    Raises:
        ValueError: for a network that cannot be compiled, and for an operation on the context that
            cannot be computed exactly.
    """
    from gencore.models.autoregressive.coding import CodingSession
    from gencore.nn.causal.trace import trace

    if isinstance(model, ExactModel):
        return model.coding_session(num, context)
    model = with_exact_weight_norm(model)
    place = next(model.parameters())
    plan = model.plan(num, None if context is None else context.to(place.device, place.dtype))
    if context is not None:
        network, exact = exact_copy(model), to_grid(context.cpu().double())
        # Normalised weights belong to the compiled part, and exact arithmetic knows no norms.
        with parametrize.cached():
            for layer in network.modules():
                if parametrize.is_parametrized(layer, "weight"):
                    _ = layer.weight
            with exact_arithmetic(type(model).__name__):
                steps = trace(network, model.image_shape, num, exact, model.channel_groups)
        plan.give([values.to(torch.float32) for values in steps.given])
    return CodingSession(plan, num)
