"""Drawing the coordinates of vectors one after another."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gencore.models.autoregressive.level_draws import choose_level, level_log_prob

__all__ = ["ancestral"]


def ancestral(
    x: Tensor,
    known: Tensor,
    draws: Tensor,
    order: Tensor,
    steps: Callable[[Tensor], Iterator[Tensor]],
    inputs: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Draw coordinates one after another, and weigh those that are known.

    Args:
        x: int64 [N, D]; its known coordinates are kept.
        known: bool [N, D].
        draws: uniform numbers [N, D], in the order.
        order: the coordinates from first to last, [D] or [N, D].
        steps: the logits of one coordinate after another, of inputs that are filled in between.
        inputs: of a network, from integers.

    Returns:
        The vectors, and log Π p(x_i | what comes before i) over the known i, [N].
    """
    x, order = x.clone(), order.expand(x.shape)
    u = inputs(x)
    log_weight = u.new_zeros(len(x))
    # zip asks for the next logits only after this step's coordinate was written.
    for place, number, logits in zip(order.unbind(1), draws.unbind(1), steps(u), strict=True):
        column = place.unsqueeze(1)
        fixed, value = known.gather(1, column)[:, 0], x.gather(1, column)[:, 0]
        log_weight += torch.where(fixed, level_log_prob(logits, value), 0)
        value = torch.where(fixed, value, choose_level(logits, number))
        x.scatter_(1, column, value.unsqueeze(1))
        u.scatter_(1, column, inputs(value).unsqueeze(1))
    return x, log_weight
