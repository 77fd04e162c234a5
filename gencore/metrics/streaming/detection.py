"""Streaming detection scores, which keep the scores of all data."""

from typing import Any

import torch
from torch import Tensor

from gencore.metrics.detection.scores import detection_scores
from gencore.metrics.streaming.base import StreamingMetric

__all__ = ["StreamingDetection"]


class StreamingDetection(StreamingMetric):
    """:func:`gencore.metrics.detection_scores` of streamed scores.

    Args:
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingDetection()
        >>> metric.update(torch.tensor([0.0, 1.0]), out_of_distribution=False)
        >>> metric.update(torch.tensor([2.0, 3.0]), out_of_distribution=True)
        >>> metric.compute()["auroc"].item()
        1.0
    """

    negative: list[Tensor]
    positive: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("negative", [], dist_reduce_fx="cat")
        self.add_state("positive", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, out_of_distribution: bool) -> None:
        """Add scores [B], higher for data from elsewhere, of such data or of the data itself."""
        if scores.ndim != 1 or scores.isnan().any():
            raise ValueError(
                f"StreamingDetection.update: scores have shape {tuple(scores.shape)}, expected [B] "
                "and none of them NaN"
            )
        if len(scores):
            state = self.positive if out_of_distribution else self.negative
            state.append(scores.to(self.dtype))

    def compute(self) -> dict[str, Tensor]:
        """``auroc``, ``auprc`` and ``fpr80``, each float64 []."""
        negative, positive = (
            torch.cat(state) if isinstance(state, list) and state else torch.as_tensor(state)
            for state in (self.negative, self.positive)
        )
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in detection_scores(negative, positive)._asdict().items()
        }
