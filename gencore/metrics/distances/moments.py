"""Mean and covariance of feature vectors, accumulated batch by batch in double precision."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.metrics.features.pixels import Features, pixel_features

__all__ = ["GaussianMoments", "StreamingMoments", "gaussian_moments"]


class GaussianMoments(NamedTuple):
    """The Gaussian that has the mean and covariance of a set of feature vectors."""

    mean: Tensor
    """float64 [D]."""

    covariance: Tensor
    """float64 [D, D], normalised by N - 1."""

    num_samples: int
    """Number of vectors N that it was estimated from."""


class StreamingMoments:
    r"""Mean and covariance of a stream of feature vectors, in one pass and without storing it.

    A batch with N_b vectors, mean m_b and scatter S_b = Σ (x − m_b)(x − m_b)ᵀ is merged with the
    N_a seen before by, with δ = m_b − m_a and N = N_a + N_b,

        m = m_a + δ·N_b/N,    S = S_a + S_b + δδᵀ·N_a·N_b/N.

    No sum of squares is ever subtracted from another, so the result is the one-shot result up to
    rounding however the stream is cut. `merge` does the same with the stream of another process.

    Source:
        Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances", 1979, eq. (2.1).

    Example:
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> moments = StreamingMoments()
        >>> for batch in x.split(32):
        ...     moments.update(batch)
        >>> moments
        StreamingMoments(num_samples=100, dim=3)
        >>> torch.allclose(moments.result().covariance, x.double().T.cov())
        True
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def __repr__(self) -> str:
        dim = None if self._mean is None else len(self._mean)
        return f"StreamingMoments(num_samples={self.num_samples}, dim={dim})"

    def update(self, features: Tensor) -> None:
        """Add a batch of feature vectors, [N, D] floating point; N = 0 changes nothing.

        Raises:
            TypeError: `features` is not floating point.
            ValueError: `features` is not [N, D], its D differs from that of earlier batches, or it
                holds NaN or infinite values.
        """
        if not features.is_floating_point():
            raise TypeError(
                f"StreamingMoments.update: features are {features.dtype}, expected floating point"
            )
        if features.ndim != 2:
            raise ValueError(
                "StreamingMoments.update: features have shape "
                f"{tuple(features.shape)}, expected [N, D]"
            )
        if len(features) == 0:
            return
        features = features.detach().to(torch.float64)
        if not features.isfinite().all():
            raise ValueError("StreamingMoments.update: features hold NaN or infinite values")
        mean = features.mean(0)
        centred = features - mean
        self._merge(len(features), mean, centred.T @ centred)

    def merge(self, other: "StreamingMoments") -> None:
        """Add everything that another instance has seen.

        Raises:
            ValueError: the two have seen vectors of different dimension.
        """
        if other._mean is not None and other._scatter is not None:
            self._merge(other.num_samples, other._mean, other._scatter)

    def result(self) -> GaussianMoments:
        """Return the moments of everything seen so far.

        Raises:
            ValueError: fewer than two vectors have been seen.
        """
        if self._mean is None or self._scatter is None or self.num_samples < 2:
            raise ValueError(
                f"StreamingMoments.result: {self.num_samples} vectors seen, a covariance needs at "
                "least 2"
            )
        covariance = self._scatter / (self.num_samples - 1)
        return GaussianMoments(self._mean.clone(), covariance, self.num_samples)

    def to_vector(self) -> Tensor:
        """All that it has seen as one vector, float64: [N, D, mean, scatter], or [] of nothing.

        Vectors of several streams, one after another, are those of the whole for `from_vector`.
        """
        if self._mean is None or self._scatter is None:
            return torch.empty(0, dtype=torch.float64)
        head = self._mean.new_tensor([self.num_samples, len(self._mean)])
        return torch.cat([head, self._mean, self._scatter.flatten()])

    @classmethod
    def from_vector(cls, vector: Tensor) -> "StreamingMoments":
        """The moments of one or several streams, from what `to_vector` made of each."""
        moments = cls()
        while len(vector):
            num, dim = int(vector[0]), int(vector[1])
            mean, scatter = vector[2 : 2 + dim], vector[2 + dim : 2 + dim + dim * dim]
            moments._merge(num, mean, scatter.view(dim, dim))
            vector = vector[2 + dim + dim * dim :]
        return moments

    def _merge(self, num: int, mean: Tensor, scatter: Tensor) -> None:
        if self._mean is None or self._scatter is None:
            self.num_samples, self._mean, self._scatter = num, mean.clone(), scatter.clone()
            return
        if mean.shape != self._mean.shape:
            raise ValueError(
                f"StreamingMoments: vectors of dimension {len(mean)}, expected {len(self._mean)} "
                "as in earlier batches"
            )
        total = self.num_samples + num
        shift = mean.to(self._mean.device) - self._mean
        self._mean = self._mean + shift * (num / total)
        between = torch.outer(shift, shift) * (self.num_samples * num / total)
        self._scatter = self._scatter + scatter.to(self._scatter.device) + between
        self.num_samples = total


def gaussian_moments(
    images: Tensor, features: Features = pixel_features, *, batch_size: int = 1024
) -> GaussianMoments:
    """Mean and covariance of the features of a set of images.

    Args:
        images: [N, ...] with N ≥ 2, in whatever format `features` takes.
        features: Maps [B, ...] to [B, D].
        batch_size: Number of images whose features are held at a time.

    Returns:
        The moments, in float64.

    Raises:
        ValueError: there are fewer than two images, or `features` returns something else than
            finite [B, D].

    Example:
        >>> gaussian_moments(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).mean
        tensor([1., 1.], dtype=torch.float64)
    """
    if batch_size < 1:
        raise ValueError(f"gaussian_moments: batch_size = {batch_size}, expected at least 1")
    if images.ndim == 0 or len(images) < 2:
        raise ValueError(
            f"gaussian_moments: images have shape {tuple(images.shape)}, expected [N, ...] with "
            "N ≥ 2"
        )
    moments = StreamingMoments()
    with torch.no_grad():
        for batch in torch.split(images, batch_size):
            moments.update(features(batch))
    return moments.result()
