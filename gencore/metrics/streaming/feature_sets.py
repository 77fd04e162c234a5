"""Streaming measures that need the features of all real and all generated images."""

from typing import Any

import torch
from torch import Tensor

from gencore.metrics.coverage.density_coverage import density_coverage
from gencore.metrics.coverage.prd import prd
from gencore.metrics.coverage.precision_recall import precision_recall
from gencore.metrics.distances.kernel import kernel_distance
from gencore.metrics.distances.kernels import Kernel
from gencore.metrics.features.names import distance_name
from gencore.metrics.features.pixels import Features, pixel_features
from gencore.metrics.streaming.two_sets import TwoSets

__all__ = [
    "FeatureSets",
    "StreamingDensityCoverage",
    "StreamingKernelDistance",
    "StreamingPRD",
    "StreamingPrecisionRecall",
]


class FeatureSets(TwoSets):
    """Keeps the features of all real and all generated images.

    Args:
        features: Maps images [B, ...] to features [B, D].
        dtype: in which the features are kept.
        options: of `TwoSets`.
    """

    dim: Tensor

    def __init__(
        self,
        features: Features = pixel_features,
        *,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        super().__init__(features, dtype=dtype, **options)
        self.add_state("dim", torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")

    def reset(self) -> None:
        dim = self.dim
        super().reset()
        if not self.reset_real:
            self.dim = dim

    def sets(self) -> tuple[Tensor, Tensor]:
        """The features of all real and of all generated images, [N, D] and [M, D]."""
        return self._matrix("real"), self._matrix("generated")

    def _add(self, features: Tensor, name: str) -> None:
        if self.dim not in (0, features.shape[1]):
            raise ValueError(
                f"{type(self).__name__}.update: features of dimension {features.shape[1]}, "
                f"expected {int(self.dim)} as in earlier batches"
            )
        self.dim.fill_(features.shape[1])
        getattr(self, name).append(features.flatten().to(self.dtype))

    def _matrix(self, name: str) -> Tensor:
        values = self._joined(name)
        if len(values) == 0:
            raise ValueError(f"{type(self).__name__}.compute: no {name} images seen")
        return values.view(-1, int(self.dim))

    def _scalars(self, **values: float) -> dict[str, Tensor]:
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in values.items()
        }


class StreamingKernelDistance(FeatureSets):
    """:func:`gencore.metrics.kernel_distance` (on Inception features, KID) of streamed images.

    Args:
        features: Maps images [B, ...] to features [B, D].
        kernel: the polynomial kernel of the KID if None.
        options: of `FeatureSets`: ``reset_real``, ``dtype``; and of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingKernelDistance()
        >>> for batch in torch.zeros(10, 2).split(4):
        ...     metric.update(batch, real=True)
        ...     metric.update(batch + 1, real=False)
        >>> metric.compute()
        tensor(7., dtype=torch.float64)
    """

    def __init__(
        self, features: Features = pixel_features, kernel: Kernel | None = None, **options: Any
    ) -> None:
        super().__init__(features, **options)
        self.kernel = kernel

    @property
    def label(self) -> str:
        """The name for reports: "KID", or "kernel distance on …"; say which kernel if not KID's."""
        return distance_name("kernel distance", self.features)

    def compute(self) -> Tensor:
        """The squared distance, float64 []."""
        return self._scalars(distance=kernel_distance(*self.sets(), self.kernel))["distance"]


class StreamingPrecisionRecall(FeatureSets):
    """:func:`gencore.metrics.precision_recall` of streamed images.

    Args:
        features: Maps images [B, ...] to features [B, D].
        k: Which neighbour sets the radius.
        options: of `FeatureSets`: ``reset_real``, ``dtype``; and of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingPrecisionRecall(k=1)
        >>> line = torch.arange(10.0)[:, None]
        >>> metric.update(line, real=True), metric.update(line[:5], real=False)
        (None, None)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'precision': 1.0, 'recall': 0.6}
    """

    def __init__(self, features: Features = pixel_features, k: int = 3, **options: Any) -> None:
        super().__init__(features, **options)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """``precision`` and ``recall``."""
        return self._scalars(**precision_recall(*self.sets(), self.k)._asdict())


class StreamingDensityCoverage(FeatureSets):
    """:func:`gencore.metrics.density_coverage` of streamed images.

    Args:
        features: Maps images [B, ...] to features [B, D].
        k: Which neighbour sets the radius.
        options: of `FeatureSets`: ``reset_real``, ``dtype``; and of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingDensityCoverage(k=2)
        >>> line = torch.arange(10.0)[:, None]
        >>> metric.update(line, real=True), metric.update(line[:5], real=False)
        (None, None)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'density': 1.5, 'coverage': 0.6}
    """

    def __init__(self, features: Features = pixel_features, k: int = 5, **options: Any) -> None:
        super().__init__(features, **options)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """``density`` and ``coverage``."""
        return self._scalars(**density_coverage(*self.sets(), self.k)._asdict())


class StreamingPRD(FeatureSets):
    """F_8, F_{1/8} and the area of :func:`gencore.metrics.prd` of streamed images.

    Args:
        features: Maps images [B, ...] to features [B, D].
        num_clusters: of the clusterings.
        num_runs: Number of clusterings.
        seed: of the clusterings.
        options: of `FeatureSets`: ``reset_real``, ``dtype``; and of torchmetrics' ``Metric``.

    Example:
        >>> metric = StreamingPRD(num_runs=1)
        >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> metric.update(x, real=True), metric.update(x + 100, real=False)
        (None, None)
        >>> metric.compute()["f8"].item()
        0.0
    """

    def __init__(
        self,
        features: Features = pixel_features,
        *,
        num_clusters: int = 20,
        num_runs: int = 10,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(features, **options)
        self.num_clusters, self.num_runs, self.seed = num_clusters, num_runs, seed

    def compute(self) -> dict[str, Tensor]:
        """``f8`` (recall), ``f_eighth`` (precision) and ``auc``."""
        real, generated = self.sets()
        curve = prd(
            real,
            generated,
            num_clusters=self.num_clusters,
            num_runs=self.num_runs,
            seed=self.seed,
        )
        return self._scalars(f8=curve.f8, f_eighth=curve.f_eighth, auc=curve.auc)
