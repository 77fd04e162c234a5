"""A mixture of Gaussians, fitted by expectation maximisation or by gradients."""

import math
from typing import TypeVar, get_args

import torch
from torch import Generator, Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from gencore.choices import check_choice
from gencore.models.latent.mixture_fitting import component_log_prob, expectation_maximisation
from gencore.models.latent.names import MixtureCovariance
from gencore.models.starts import normal_starts
from gencore.ops._support.checks import accumulation_dtype, check_count, number

__all__ = ["GaussianMixture"]

T = TypeVar("T", bound="GaussianMixture")


class GaussianMixture(nn.Module):
    r"""p(z) = Σₖ πₖ N(z; μₖ, Σₖ) of vectors [L].

    ========================  =======================================  ====================
    ``covariance``            Σₖ                                       shape of ``factors``
    ========================  =======================================  ====================
    ``"full"``                any                                      [K, L, L]
    ``"tied"``                any, the same for all k                  [1, L, L]
    ``"diagonal"``            diag σₖ²                                 [K, L]
    ``"spherical"``           σₖ² I                                    [K, 1]
    ``"tied_spherical"``      σ² I, which is (2.6)                     [1, 1]
    ========================  =======================================  ====================

    With equal weights and "tied_spherical" the responsibilities are those of k-means as σ → 0.

    Args:
        features: L.
        num_components: K.
        covariance: as above.
        min_variance: positive; `fit` leaves no component a smaller variance in any direction, and
            no factor has a smaller square on its diagonal, so that densities stay finite where a
            component is on a single point.
        trainable: whether the parameters are trained by gradients, ``-mixture.log_prob(z).mean()``;
            the means start as normal numbers, or as `fit` leaves them. Otherwise they are buffers.

    Attributes:
        log_weights: log πₖ, [K]; where trained, any numbers, of which the softmax is taken.
        means: μₖ, [K, L].
        factors: the lower triangular Cholesky factors of Σₖ, or its standard deviations; where
            trained, only the absolute values on the diagonal count.
        is_fitted: whether `fit` was called, or the state of one loaded for which it was, or the
            mixture is trainable.

    Raises:
        ValueError: for a size below 1, another covariance, or a `min_variance` that is not
            positive.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §2.3, whose σ
        is a variance. Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the
        EM Algorithm", 1977.

    Example:
        >>> import torch
        >>> mixture = GaussianMixture(2, 3).fit(torch.randn(200, 2))
        >>> mixture.log_prob(torch.zeros(5, 2)).shape, mixture.sample(4).shape
        (torch.Size([5]), torch.Size([4, 2]))
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    fitted: Tensor

    def __init__(
        self,
        features: int,
        num_components: int = 10,
        *,
        covariance: MixtureCovariance = "full",
        min_variance: float = 1e-6,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        check_count("GaussianMixture", "features", features, least=1)
        check_count("GaussianMixture", "num_components", num_components, least=1)
        check_choice("GaussianMixture", "covariance", covariance, get_args(MixtureCovariance))
        self.covariance = covariance
        self.min_variance = number("GaussianMixture", "min_variance", min_variance)
        if self.min_variance == 0:
            raise ValueError("GaussianMixture: min_variance is 0; expected a positive number")
        factors = {
            "full": torch.eye(features).repeat(num_components, 1, 1),
            "tied": torch.eye(features)[None],
            "diagonal": torch.ones(num_components, features),
            "spherical": torch.ones(num_components, 1),
            "tied_spherical": torch.ones(1, 1),
        }[covariance]
        # Means that start alike would get the same gradient for ever.
        start = torch.randn if trainable else torch.zeros
        for name, value in (
            ("log_weights", torch.full((num_components,), -math.log(num_components))),
            ("means", start(num_components, features)),
            ("factors", factors),
        ):
            if trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.register_buffer("fitted", torch.tensor(trainable))

    @property
    def is_fitted(self) -> bool:
        return bool(self.fitted)

    @torch.no_grad()
    def fit(
        self: T, z: Tensor, *, max_steps: int = 100, tolerance: float = 1e-3, seed: int = 0
    ) -> T:
        """Fit to vectors [N, L] by expectation maximisation, from the clusters of k-means.

        No step loses likelihood. A component that is left without vectors stays where it was, with
        no weight to speak of.

        Args:
            z: data.
            max_steps: at most so many steps, 1 or more.
            tolerance: it stops where a step gains less, in nats a vector.
            seed: of k-means, which is scikit-learn's.

        Returns:
            The mixture itself.

        Raises:
            ValueError: z is not [N, L], is not finite, or has fewer rows than there are components.
        """
        components, features = self.means.shape
        if z.dim() != 2 or z.shape[1] != features or len(z) < components:
            raise ValueError(
                f"GaussianMixture: z has shape {list(z.shape)}; expected [N, {features}] of at "
                f"least {components} rows, one a component"
            )
        check_count("GaussianMixture.fit", "max_steps", max_steps, least=1)
        number("GaussianMixture.fit", "tolerance", tolerance)
        z = z.detach().cpu().double()
        if not bool(z.isfinite().all()):
            raise ValueError("GaussianMixture.fit: z is not all finite")
        found = expectation_maximisation(
            z, components, self.covariance, self.min_variance,
            max_steps=max_steps, tolerance=tolerance, seed=seed,
        )  # fmt: skip
        for own, value in zip((self.log_weights, self.means, self.factors), found, strict=True):
            own.copy_(value)
        self.fitted.fill_(True)
        return self

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of vectors [N, L], [N]: float64 where they or the mixture are, else float32.

        Raises:
            ValueError: z is not [N, L].
            RuntimeError: the mixture is not fitted.
        """
        parameters = self._to_compute("log_prob", "z", z, self.means.shape[1])
        return component_log_prob(z, *parameters).logsumexp(1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z) of vectors [N, L], [N, K]; raises as `log_prob`."""
        parameters = self._to_compute("responsibilities", "z", z, self.means.shape[1])
        return component_log_prob(z, *parameters).softmax(1)

    def distribution(self) -> MixtureSameFamily:
        """The same as a :class:`torch.distributions.Distribution` over [L].

        Raises:
            RuntimeError: the mixture is not fitted.
        """
        components, features = self.means.shape
        log_weights, means, factors = self._to_compute(
            "distribution", "means", self.means, features
        )
        factors = factors.expand(components, *[features] * (factors.dim() - 1))
        component: Distribution
        if factors.dim() == 3:
            component = MultivariateNormal(means, scale_tril=factors)
        else:
            component = Independent(Normal(means, factors), 1)
        return MixtureSameFamily(Categorical(logits=log_weights), component)

    def sample(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Vectors [num, L], differentiable in the means and the factors.

        Args:
            num: number of samples.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of samples before these, of other processes.

        Raises:
            RuntimeError: the mixture is not fitted.
        """
        noise = normal_starts(
            self, num, (1 + self.means.shape[1],), generator=generator, key=key, first=first,
            stream="latents",
        )  # fmt: skip
        return self.from_noise(noise)

    def from_noise(self, noise: Tensor) -> Tensor:
        """The vectors of noise u ~ N(0, I), [N, 1 + L]: z = μₖ + Lₖ u₁…, where Φ(u₀) chooses k.

        The first number has no gradient. The vectors have the dtype of the noise.

        Raises:
            ValueError: the noise is not [N, 1 + L].
            RuntimeError: the mixture is not fitted.
        """
        log_weights, means, factors = self._to_compute(
            "from_noise", "noise", noise, 1 + self.means.shape[1]
        )
        # Φ in double precision: the component is an integral over it.
        uniform = torch.special.ndtr(noise[:, 0].double())
        edges = log_weights.detach().double().exp().cumsum(0)
        choice = torch.searchsorted(edges, uniform, right=True).clamp(max=len(edges) - 1)
        moves = noise[:, 1:].to(factors.dtype)
        chosen = factors.expand(len(means), *factors.shape[1:])[choice]
        moved = chosen * moves if chosen.dim() == 2 else torch.einsum("nij,nj->ni", chosen, moves)
        return (means[choice] + moved).to(noise.dtype)

    def _to_compute(
        self, function: str, name: str, x: Tensor, size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weights' logarithms, the means and the factors, in the dtype to compute x [N, size]
        in."""
        if x.dim() != 2 or x.shape[1] != size:
            raise ValueError(
                f"GaussianMixture.{function}: {name} has shape {list(x.shape)}; expected "
                f"[N, {size}]"
            )
        if not self.is_fitted:
            raise RuntimeError(
                f"GaussianMixture.{function}: the mixture is not fitted; call fit first"
            )
        dtype = torch.promote_types(accumulation_dtype(x), accumulation_dtype(self.means))
        log_weights = self.log_weights.to(dtype).log_softmax(0)
        return log_weights, self.means.to(dtype), self._floored(self.factors.to(dtype))

    def _floored(self, factors: Tensor) -> Tensor:
        """Lower triangles, whose diagonals, like standard deviations, are not less than the floor.

        The floor passes gradients, so that a component that reached it can grow again.
        """
        scales = (factors.diagonal(dim1=1, dim2=2) if factors.dim() == 3 else factors).abs()
        floor = math.sqrt(self.min_variance)
        scales = scales + (scales.clamp(min=floor) - scales).detach()
        return factors.tril(-1) + scales.diag_embed() if factors.dim() == 3 else scales

    def extra_repr(self) -> str:
        components, features = self.means.shape
        return (
            f"features={features}, num_components={components}, covariance={self.covariance!r}, "
            f"is_fitted={self.is_fitted}"
        )
