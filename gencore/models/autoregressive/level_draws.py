"""Levels under logits: how probable they are, and which one a uniform number chooses."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["choose", "choose_level", "level_log_prob"]


def level_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """log p of levels x [...] under logits [..., 1] of level 1, or [..., levels] of all."""
    if logits.shape[-1] == 1:
        logit = logits.squeeze(-1)
        return -functional.binary_cross_entropy_with_logits(
            logit, x.to(logit.dtype), reduction="none"
        )
    log_prob = logits.log_softmax(-1)
    return log_prob.gather(-1, x.to(torch.int64).unsqueeze(-1)).squeeze(-1)


def choose_level(logits: Tensor, number: Tensor) -> Tensor:
    """The levels [N] that uniform numbers [N] choose under logits [N, 1 or levels]."""
    if logits.shape[1] == 1:
        return (number < torch.sigmoid(logits[:, 0])).to(torch.int64)
    return choose(logits, number)


def choose(logits: Tensor, number: Tensor) -> Tensor:
    """The one of K with probabilities softmax(logits [N, K]) that uniform numbers [N] choose."""
    cumulative = logits.softmax(-1).cumsum(-1)[:, :-1]
    return (number.unsqueeze(1) >= cumulative).sum(1)
