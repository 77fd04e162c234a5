"""Streaming scores of a classifier's predictions, which keep sums over the samples."""

from typing import Any

import torch
from torch import Tensor

from gencore.metrics.predictions.inception_score import (
    log_probabilities,
    score_of_means,
    tweaked_score_of_means,
)
from gencore.metrics.streaming.base import StreamingMetric

__all__ = ["StreamingInceptionScore", "StreamingTweakedInceptionScore"]


class _Predictions(StreamingMetric):
    """Sums of p(·|x) over the samples, and of one more thing."""

    num_samples: Tensor
    sum_p: Tensor

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        if num_classes < 1:
            raise ValueError(f"{type(self).__name__}: num_classes = {num_classes}, expected ≥ 1")
        zeros = torch.zeros(num_classes, dtype=torch.float64)
        self.add_state("num_samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sum_p", zeros, dist_reduce_fx="sum")

    def _add(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        name = f"{type(self).__name__}.update"
        log_p = log_probabilities(name, logits)
        if log_p.shape[1] != len(self.sum_p):
            raise ValueError(
                f"{name}: logits of {log_p.shape[1]} classes, expected {len(self.sum_p)}"
            )
        p = log_p.exp()
        self.sum_p += p.sum(0)
        self.num_samples += len(p)
        return p, log_p

    def _mean(self, total: Tensor) -> Tensor:
        if self.num_samples == 0:
            raise ValueError(f"{type(self).__name__}.compute: no samples seen")
        return total / self.num_samples


class StreamingInceptionScore(_Predictions):
    """:func:`gencore.metrics.inception_score` of streamed predictions.

    Args:
        num_classes: K.
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingInceptionScore(10)
        >>> for batch in (1000 * torch.eye(10)).split(4):
        ...     metric.update(batch)
        >>> round(metric.compute().item(), 6)
        10.0
    """

    sum_negative_entropy: Tensor

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(num_classes, **options)
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("sum_negative_entropy", zero, dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Add unnormalised log-probabilities [B, K]."""
        p, _ = self._add(logits)
        self.sum_negative_entropy += torch.special.xlogy(p, p).sum()

    def compute(self) -> Tensor:
        """The score, float64 []."""
        return score_of_means(self._mean(self.sum_p), self._mean(self.sum_negative_entropy))


class StreamingTweakedInceptionScore(_Predictions):
    """:func:`gencore.metrics.tweaked_inception_score` of streamed predictions.

    Args:
        num_classes: K.
        min_log_prob: If given, log-probabilities below are raised to it.
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingTweakedInceptionScore(10)
        >>> metric.update(torch.zeros(5, 10))
        >>> metric.compute()
        tensor(0., dtype=torch.float64)
    """

    sum_log_p: Tensor

    def __init__(
        self, num_classes: int, *, min_log_prob: float | None = None, **options: Any
    ) -> None:
        super().__init__(num_classes, **options)
        if min_log_prob is not None and not min_log_prob < 0:
            raise ValueError(
                f"StreamingTweakedInceptionScore: min_log_prob = {min_log_prob}, expected a "
                "negative number"
            )
        self.min_log_prob = min_log_prob
        zeros = torch.zeros(num_classes, dtype=torch.float64)
        self.add_state("sum_log_p", zeros, dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Add unnormalised log-probabilities [B, K]."""
        _, log_p = self._add(logits)
        if self.min_log_prob is not None:
            log_p = log_p.clamp(min=self.min_log_prob)
        self.sum_log_p += log_p.sum(0)

    def compute(self) -> Tensor:
        """The score, float64 []."""
        return tweaked_score_of_means(self._mean(self.sum_p), self._mean(self.sum_log_p))
