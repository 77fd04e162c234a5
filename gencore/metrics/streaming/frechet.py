"""The streaming Fréchet distance, which keeps moments and no features."""

import torch
from torch import Tensor

from gencore.metrics.distances.frechet import frechet_distance
from gencore.metrics.distances.moments import StreamingMoments
from gencore.metrics.features.names import distance_name
from gencore.metrics.streaming.two_sets import TwoSets

__all__ = ["StreamingFrechetDistance"]


class StreamingFrechetDistance(TwoSets):
    """:func:`gencore.metrics.frechet_distance` (on Inception features, FID) of streamed images.

    Args:
        features: Maps images [B, ...] to features [B, D]; a module moves with the measure to its
            device.
        reset_real: Whether `reset` forgets the real images too; False keeps the reference over the
            evaluations of a training run.
        options: of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingFrechetDistance()
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> for batch in x.split(64):
        ...     metric.update(batch, real=True)
        ...     metric.update(batch + 0.5, real=False)
        >>> round(metric.compute().item(), 6)
        1.0
    """

    @property
    def label(self) -> str:
        """The name for reports: "FID", or "Fréchet distance on …"."""
        return distance_name("Fréchet distance", self.features)

    def compute(self) -> Tensor:
        """The squared distance, float64 [].

        Raises:
            ValueError: fewer than two real or two generated images were seen.
        """
        real, generated = self._moments("real"), self._moments("generated")
        distance = frechet_distance(real, generated)
        return torch.tensor(distance, dtype=torch.float64, device=self.device)

    def _add(self, features: Tensor, name: str) -> None:
        moments = self._moments(name)
        moments.update(features)
        setattr(self, name, [moments.to_vector()])

    def _moments(self, name: str) -> StreamingMoments:
        return StreamingMoments.from_vector(self._joined(name))
