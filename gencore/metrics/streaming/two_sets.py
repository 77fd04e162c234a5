"""What streaming comparisons of real with generated images share."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from gencore.metrics.features.extraction import extract_features
from gencore.metrics.features.pixels import Features, pixel_features
from gencore.metrics.streaming.base import StreamingMetric

__all__ = ["TwoSets"]


class TwoSets(StreamingMetric):
    """Two streams of images, and one vector of what is kept of each.

    Args:
        features: Maps images [B, ...] to features [B, D]; a module moves with the measure to its
            device.
        reset_real: Whether `reset` forgets the real images too; False keeps the reference over the
            evaluations of a training run.
        options: of `StreamingMetric`.
    """

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(
        self, features: Features = pixel_features, *, reset_real: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.features = features
        self.reset_real = reset_real
        # Vectors, whatever they hold: a process without images joins in with an empty one.
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("generated", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images [B, ...], real ones or generated ones.

        Raises:
            ValueError: the features are not [B, D], or of another dimension than before.
        """
        if len(images) > 0:
            self._add(extract_features(images, self.features), "real" if real else "generated")

    def reset(self) -> None:
        """Forget the images; with ``reset_real=False`` the generated ones only."""
        kept = None if self.reset_real else list(self.real)  # torchmetrics empties the list itself
        super().reset()
        if kept is not None:
            self.real = kept

    @abstractmethod
    def _add(self, features: Tensor, name: str) -> None:
        """Keep what is needed of a batch's features [B, D], B ≥ 1, in the state of that name."""

    def _joined(self, name: str) -> Tensor:
        """The state of a set as one vector: a list before synchronisation, one tensor after."""
        state = getattr(self, name)
        if isinstance(state, Tensor):
            return state
        return torch.cat(state) if state else torch.empty(0, dtype=self.dtype, device=self.device)
