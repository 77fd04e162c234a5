"""A mixture of Gaussians with full covariances, fitted by expectation maximisation."""

import math
import warnings
from typing import TypeVar

import torch
from torch import Tensor, nn

from gencore.extras import training_extra
from gencore.ops._support.checks import accumulation_dtype
from gencore.samplers.chains import check_count

__all__ = ["GaussianMixture"]

T = TypeVar("T", bound="GaussianMixture")


class GaussianMixture(nn.Module):
    r"""p(z) = Σₖ πₖ N(z; μₖ, Σₖ) of vectors [L], fitted by scikit-learn.

    Args:
        features: L.
        num_components: K.

    Attributes:
        is_fitted: whether `fit` was called, or the state of one loaded for which it was.

    Example:
        >>> import torch
        >>> mixture = GaussianMixture(2, 3).fit(torch.randn(200, 2))
        >>> mixture.log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    fitted: Tensor

    def __init__(self, features: int, num_components: int = 10) -> None:
        super().__init__()
        check_count("GaussianMixture", "features", features, least=1)
        check_count("GaussianMixture", "num_components", num_components, least=1)
        uniform = torch.full((num_components,), -math.log(num_components))
        self.register_buffer("log_weights", uniform)
        self.register_buffer("means", torch.zeros(num_components, features))
        self.register_buffer("factors", torch.eye(features).repeat(num_components, 1, 1))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def is_fitted(self) -> bool:
        return bool(self.fitted)

    def fit(self: T, z: Tensor, *, max_steps: int = 100, seed: int = 0) -> T:
        """Fit to vectors [N, L] by expectation maximisation, from the centres of k-means.

        Args:
            z: data.
            max_steps: at most so many steps; it stops where they gain less than 10⁻³ nats a vector.
            seed: of k-means.

        Returns:
            The mixture itself.

        Raises:
            ValueError: z is not [N, L], or has fewer rows than there are components.
        """
        components, features = self.means.shape
        if z.dim() != 2 or z.shape[1] != features or len(z) < components:
            raise ValueError(
                f"GaussianMixture: z has shape {list(z.shape)}; expected [N, {features}] of at "
                f"least {components} rows, one a component"
            )
        with training_extra("GaussianMixture.fit"):
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.mixture import GaussianMixture as Mixture

        mixture = Mixture(components, max_iter=max_steps, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # The last step is as good a fit as one that the tolerance stopped at.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(z.detach().cpu().double().numpy())
        covariances = torch.from_numpy(mixture.covariances_)
        self.log_weights.copy_(torch.from_numpy(mixture.weights_).log())
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.factors.copy_(torch.linalg.cholesky(covariances))
        self.fitted.fill_(True)
        return self

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of vectors [N, L], [N]: float64 where they or the mixture are, else float32.

        Raises:
            ValueError: z is not [N, L].
            RuntimeError: the mixture is not fitted.
        """
        log_weights, means, factors = self._to_compute("log_prob", "z", z, self.means.shape[1])
        residual = (z[:, None] - means).unsqueeze(-1)
        scaled = torch.linalg.solve_triangular(factors, residual, upper=False).squeeze(-1)
        log_det = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
        each = log_weights - log_det - 0.5 * scaled.square().sum(2) - constant
        return each.logsumexp(1)

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
        edges = log_weights.double().exp().cumsum(0)
        choice = torch.searchsorted(edges, uniform, right=True).clamp(max=len(edges) - 1)
        moved = torch.einsum("nij,nj->ni", factors[choice], noise[:, 1:].to(factors.dtype))
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
        return self.log_weights.to(dtype), self.means.to(dtype), self.factors.to(dtype)

    def extra_repr(self) -> str:
        components, features = self.means.shape
        return f"features={features}, num_components={components}, is_fitted={self.is_fitted}"
