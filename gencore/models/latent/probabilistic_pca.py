"""Probabilistic PCA: a model of latents whose likelihood, posterior and bounds are closed forms."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from gencore.inference.gaussian_posterior import NormalParameters
from gencore.models.latent.latent_generator import LatentGenerator
from gencore.ops._support.checks import accumulation_dtype, check_count

__all__ = ["ProbabilisticPCA"]

T = TypeVar("T", bound="ProbabilisticPCA")


class ProbabilisticPCA(LatentGenerator):
    r"""Data that are linear in normal latents, with the same noise in every direction.

    .. math:: z \sim N(0, I_L) \quad (2.7), \qquad x \mid z \sim N(\mu + Wz, \sigma^2 I_D) \quad
              (2.8), \qquad x \sim N(\mu, WW^T + \sigma^2 I_D) \quad (2.9)

    The posterior has one precision Λ for all data and is

    .. math:: z \mid x \sim N\bigl(M^{-1} W^T (x - \mu),\ \Lambda^{-1}\bigr), \qquad
              \Lambda = M / \sigma^2, \qquad M = W^T W + \sigma^2 I_L

    Every bound of log p(x) can therefore be held against the truth. Only matrices of L² numbers are
    factorised. The parameters are those that are given, those of `fit`, or trained:
    ``-model.log_prob(x).mean()`` is a loss.

    Args:
        features: D.
        latent_size: L.
        weight: W, [D, L]; of normal numbers with variance 1/D by default.
        mean: μ, [D]; 0 by default.
        variance: σ², positive.

    Attributes:
        weight: W, [D, L].
        mean: μ, [D].
        log_variance: log σ², a scalar.
        noise_size: L + D, the numbers of noise of one sample.

    Raises:
        ValueError: for a size below 1, a tensor of another shape, or a variance that is not finite
            and positive.
        torch.linalg.LinAlgError: on a call, where WᵀW has no inverse, as with more latents than
            features, and σ² is less than its rounding.

    References:
        Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999. Lucas, "Deep
        generative models: over-generalisation and mode-dropping", 2020, §2.3, whose σ is a
        variance.

    Example:
        >>> import torch
        >>> from gencore.models import ProbabilisticPCA
        >>> truth = ProbabilisticPCA(3, 1, weight=torch.tensor([[3.0], [4.0], [0.0]]))
        >>> x = truth.sample(1000, key=torch.tensor([0, 0]))
        >>> model = ProbabilisticPCA(3, 1).fit(x)
        >>> bool(model.log_prob(x).mean() >= truth.log_prob(x).mean())
        True
        >>> model.posterior(x).mean.shape
        torch.Size([1000, 1])
    """

    def __init__(
        self,
        features: int,
        latent_size: int,
        *,
        weight: Tensor | None = None,
        mean: Tensor | None = None,
        variance: float = 1.0,
    ) -> None:
        super().__init__()
        name = "ProbabilisticPCA"
        check_count(name, "features", features, least=1)
        check_count(name, "latent_size", latent_size, least=1)
        if not 0 < variance < math.inf:
            raise ValueError(f"{name}: variance is {variance}; expected a finite positive number")
        if weight is None:
            # At W = 0 its gradient is 0: the density is even in W.
            weight = torch.randn(features, latent_size) / math.sqrt(features)
        if mean is None:
            mean = weight.new_zeros(features)
        for what, tensor, shape in (
            ("weight", weight, [features, latent_size]),
            ("mean", mean, [features]),
        ):
            if list(tensor.shape) != shape:
                raise ValueError(f"{name}: {what} has shape {list(tensor.shape)}; expected {shape}")
        self.weight = nn.Parameter(weight.detach().clone())
        self.mean = nn.Parameter(mean.detach().to(weight.dtype, copy=True))
        self.log_variance = nn.Parameter(weight.new_tensor(math.log(variance)))
        self.latent_size = latent_size
        self.noise_size = latent_size + features

    @property
    def variance(self) -> Tensor:
        """σ², a scalar."""
        return self.log_variance.exp()

    @torch.no_grad()
    def fit(self: T, x: Tensor, *, correction: int = 0) -> T:
        r"""The parameters of largest likelihood of data [N, D].

        .. math:: W = U_L (\mathrm{diag}(\lambda_1 \dots \lambda_L) - \sigma^2 I)^{1/2}, \qquad
                  \sigma^2 = \frac{1}{D - L} \sum_{i > L} \lambda_i

        U and λ are the eigenvectors and the eigenvalues of the covariance matrix of the data, the
        largest first. They determine W but for a rotation of the latents.

        Args:
            x: data.
            correction: the covariance is divided by N − correction; 1 for the estimate of
                scikit-learn's PCA, 0 for the largest likelihood.

        Returns:
            The model itself.

        Raises:
            ValueError: x is not [N, D] of more than `correction` rows, or not finite, L is not less
                than D, or the data lie in a plane of L dimensions, where the likelihood is
                unbounded.
        """
        features, size = self.weight.shape
        if x.dim() != 2 or x.shape[1] != features or len(x) <= max(correction, 0):
            raise ValueError(
                f"ProbabilisticPCA.fit: x has shape {list(x.shape)}; expected [N, {features}] of "
                f"more than {max(correction, 0)} rows"
            )
        if size >= features:
            raise ValueError(
                f"ProbabilisticPCA.fit: {size} latents of {features} features leave no direction "
                "to estimate the noise from; expected fewer"
            )
        x = x.detach().double()
        if not bool(x.isfinite().all()):
            raise ValueError("ProbabilisticPCA.fit: x is not all finite")
        covariance = torch.cov(x.T, correction=correction).reshape(features, features)
        values, vectors = torch.linalg.eigh(covariance)
        variance = values[:-size].clamp(min=0).mean()
        # Rounding errors of the eigenvalues are of this size.
        if not variance > features * torch.finfo(x.dtype).eps * values[-1]:
            raise ValueError(
                f"ProbabilisticPCA.fit: the data lie in a plane of {size} dimensions or "
                "fewer, where the likelihood has no maximum; expected fewer latents"
            )
        scales = (values[-size:] - variance).clamp(min=0).sqrt()
        self.weight.copy_((vectors[:, -size:] * scales).flip(1))
        self.mean.copy_(x.mean(0))
        self.log_variance.copy_(variance.log())
        return self

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of data [N, D], [N], in nats: float64 where they or the model are, else float32.

        Raises:
            ValueError: x is not [N, D].
        """
        weight, log_variance, residual = self._to_compute("log_prob", x)
        variance, factor = log_variance.exp(), _factor(weight, log_variance)
        code = _code(weight, factor, residual)
        # (x − μ)ᵀ C⁻¹ (x − μ) as the least of ‖x − μ − Wz‖²/σ² + ‖z‖²: a sum of squares, where
        # Woodbury's difference would cancel for a small σ.
        error = (residual - code @ weight.T).square().sum(1)
        square = error / variance + code.square().sum(1)
        # log det C = (D − L) log σ² + log det M.
        features, size = weight.shape
        log_det = (features - size) * log_variance + 2 * factor.diagonal().log().sum()
        return -0.5 * (square + log_det + features * math.log(2 * math.pi))

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x) of data [N, D]: N Gaussians of [L], with one covariance matrix.

        Raises:
            ValueError: x is not [N, D].
        """
        weight, log_variance, residual = self._to_compute("posterior", x)
        factor = _factor(weight, log_variance)
        precision = factor @ factor.T / log_variance.exp()
        mean = _code(weight, factor, residual)
        return MultivariateNormal(mean, precision_matrix=precision, validate_args=False)

    def mean_field_posterior(self, x: Tensor) -> NormalParameters:
        """The diagonal Gaussian q of the largest `elbo`, for data [N, D].

        It has the posterior's mean, and the variances 1/Λᵢᵢ: those of each latent given the others,
        which are less than the posterior's.

        Raises:
            ValueError: x is not [N, D].
        """
        weight, log_variance, residual = self._to_compute("mean_field_posterior", x)
        mean = _code(weight, _factor(weight, log_variance), residual)
        log_std = -0.5 * (_precisions(weight, log_variance)).log()
        return NormalParameters(mean, log_std.expand_as(mean))

    def gap(self) -> Tensor:
        """log p(x) less the largest bound of a diagonal Gaussian, a scalar, for every x alike:

            KL(q ‖ p(z | x)) = ½ (Σᵢ log Λᵢᵢ − log det Λ).

        It is 0 where the columns of W are orthogonal, as after `fit`.
        """
        dtype = accumulation_dtype(self.weight)
        weight, log_variance = self.weight.to(dtype), self.log_variance.to(dtype)
        log_det = 2 * _factor(weight, log_variance).diagonal().log().sum()
        log_det = log_det - self.latent_size * log_variance
        return 0.5 * (_precisions(weight, log_variance).log().sum() - log_det)

    def elbo(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """E_q[log p(x | z)] − KL(q ‖ p(z)) for q = N(mean, diag std²), exactly, [N].

        Args:
            x: data [N, D].
            mean: of q, [N, L] or what broadcasts to it.
            std: standard deviations of q, likewise.

        Raises:
            ValueError: x is not [N, D], or the others do not broadcast to [N, L].
        """
        weight, log_variance, residual = self._to_compute("elbo", x)
        shape = torch.Size((len(x), self.latent_size))
        for name, tensor in (("mean", mean), ("std", std)):
            try:
                fits = torch.broadcast_shapes(tensor.shape, shape) == shape
            except RuntimeError:
                fits = False
            if not fits:
                raise ValueError(
                    f"ProbabilisticPCA.elbo: {name} has shape {list(tensor.shape)}; expected "
                    f"{list(shape)}"
                )
        mean = mean.to(residual.dtype).expand(shape)
        second = std.to(residual.dtype).square()
        # E‖x − μ − Wz‖² is the error of the mean and Σᵢ sᵢ² ‖wᵢ‖².
        error = (residual - mean @ weight.T).square().sum(1)
        error = error + (second * weight.square().sum(0)).expand(shape).sum(1)
        log_norm = len(weight) * (log_variance + math.log(2 * math.pi))
        kl = 0.5 * (second + mean.square() - 1 - second.log()).sum(1)
        return -0.5 * (error / log_variance.exp() + log_norm) - kl

    def encode(self, x: Tensor) -> Tensor:
        """The posterior means of data [N, D], [N, L]."""
        weight, log_variance, residual = self._to_compute("encode", x)
        return _code(weight, _factor(weight, log_variance), residual)

    def decode(self, z: Tensor) -> Tensor:
        """The expected data μ + Wz of latents [N, L]."""
        return self.mean + z.to(self.weight.dtype) @ self.weight.T

    def decode_noise(self, noise: Tensor) -> Tensor:
        """μ + Wu₁ + σu₂ of noise [u₁, u₂], [N, L + D]: data with the density of the model."""
        latents, error = noise.split([self.latent_size, len(self.mean)], 1)
        return self.decode(latents) + (0.5 * self.log_variance).exp() * error

    def _to_compute(self, function: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """W, log σ² and x − μ, in the dtype to compute in."""
        features = len(self.mean)
        if x.dim() != 2 or x.shape[1] != features:
            raise ValueError(
                f"ProbabilisticPCA.{function}: x has shape {list(x.shape)}; expected "
                f"[N, {features}]"
            )
        dtype = torch.promote_types(accumulation_dtype(x), accumulation_dtype(self.weight))
        return self.weight.to(dtype), self.log_variance.to(dtype), x.to(dtype) - self.mean.to(dtype)

    def extra_repr(self) -> str:
        return f"features={len(self.mean)}, latent_size={self.latent_size}"


def _factor(weight: Tensor, log_variance: Tensor) -> Tensor:
    """The Cholesky factor of M, [L, L]."""
    size = weight.shape[1]
    unit = torch.eye(size, dtype=weight.dtype, device=weight.device)
    return torch.linalg.cholesky(weight.T @ weight + log_variance.exp() * unit)


def _code(weight: Tensor, factor: Tensor, residual: Tensor) -> Tensor:
    """M⁻¹Wᵀ(x − μ) a row, [N, L]."""
    return torch.cholesky_solve((residual @ weight).T, factor).T


def _precisions(weight: Tensor, log_variance: Tensor) -> Tensor:
    """Λᵢᵢ, [L]."""
    return weight.square().sum(0) / log_variance.exp() + 1
