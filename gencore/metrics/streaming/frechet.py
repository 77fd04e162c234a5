"""The streaming Fréchet distance, which keeps moments and no features."""

from typing import Any

import torch
from torch import Tensor

from gencore.metrics.distances.frechet import frechet_distance
from gencore.metrics.distances.moments import StreamingMoments
from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features
from gencore.metrics.streaming.base import StreamingMetric

__all__ = ["StreamingFrechetDistance"]


class StreamingFrechetDistance(StreamingMetric):
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

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(
        self, features: Features = pixel_features, *, reset_real: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.features = features
        self.reset_real = reset_real
        # Each a list of at most one vector; synchronisation joins those of all processes.
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images [B, ...], real ones or generated ones.

        Raises:
            ValueError: the features are not [B, D], or of another dimension than before.
        """
        if len(images) == 0:
            return
        name = "real" if real else "generated"
        moments = self._moments(name)
        moments.update(extract_features(images, self.features))
        setattr(self, name, [moments.to_vector()])

    def compute(self) -> Tensor:
        """The squared distance, float64 [].

        Raises:
            ValueError: fewer than two real or two generated images were seen.
        """
        real, generated = self._moments("real"), self._moments("generated")
        distance = frechet_distance(real, generated)
        return torch.tensor(distance, dtype=torch.float64, device=self.device)

    def reset(self) -> None:
        """Forget the images; with ``reset_real=False`` the generated ones only."""
        kept = None if self.reset_real else list(self.real)  # torchmetrics empties the list itself
        super().reset()
        if kept is not None:
            self.real = kept

    def _moments(self, name: str) -> StreamingMoments:
        state = getattr(self, name)
        if isinstance(state, list):
            state = torch.cat(state) if state else torch.empty(0, dtype=torch.float64)
        return StreamingMoments.from_vector(state)
