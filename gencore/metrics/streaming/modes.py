"""Streaming mode coverage, which keeps counts."""

from typing import Any

import torch
from torch import Tensor

from gencore.metrics.coverage.modes import high_quality_counts, mode_coverage_of_counts
from gencore.metrics.streaming.base import StreamingMetric

__all__ = ["StreamingModeCoverage"]


class StreamingModeCoverage(StreamingMetric):
    """:func:`gencore.metrics.mode_coverage` of streamed samples.

    Args:
        modes: The modes' centres, [K, D].
        radius: How far a high-quality sample may be from its mode.
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingModeCoverage(torch.tensor([[0.0, 0.0], [10.0, 0.0]]), radius=1.0)
        >>> metric.update(torch.tensor([[0.1, 0.0], [5.0, 0.0]]))
        >>> metric.update(torch.tensor([[9.5, 0.0], [10.1, 0.0]]))
        >>> result = metric.compute()
        >>> result["num_modes"].item(), result["high_quality"].item()
        (2.0, 0.75)
    """

    modes: Tensor
    counts: Tensor
    num_samples: Tensor

    def __init__(self, modes: Tensor, radius: float, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("modes", modes.double())
        self.radius = radius
        zeros = torch.zeros(len(modes), dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")
        self.add_state("num_samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, samples: Tensor) -> None:
        """Add samples [B, D]."""
        self.counts += high_quality_counts(samples, self.modes, self.radius)
        self.num_samples += len(samples)

    def compute(self) -> dict[str, Tensor]:
        """``num_modes``, ``high_quality`` and ``kl_to_uniform``, each float64 []."""
        if self.num_samples == 0:
            raise ValueError("StreamingModeCoverage.compute: no samples seen")
        result = mode_coverage_of_counts(self.counts, int(self.num_samples))
        values = result._asdict()
        del values["counts"]
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in values.items()
        }
