"""The distribution of latents that were found for the data, to draw new ones from."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.ops._support.checks import check_state

__all__ = ["LatentDistribution", "LatentDistributionForm"]

_LOG_TWO_PI = math.log(2 * math.pi)

LatentDistributionForm = Literal["empirical", "gaussian", "kde"]


class LatentDistribution(nn.Module):
    r"""An estimate of a distribution from M latents, such as those inferred for training data.

    - ``"empirical"``: the latents themselves, each with probability 1/M;
    - ``"gaussian"``: :math:`\mathcal N(\mu, \Sigma)` of their mean and unbiased covariance;
    - ``"kde"``: a kernel density estimate with Gaussians of covariance :math:`h^2\Sigma` around
      each, of Scott's bandwidth :math:`h = M^{-1/(D+4)}`,

    .. math:: p(\delta) = \frac1M \sum_{m=1}^M \mathcal N(\delta; \delta_m, h^2 \Sigma).

    A Gaussian puts most of its mass between two groups of latents, where no data were; the others
    keep the groups apart, and only the latter two have values between the latents. The tensors are
    buffers, which a checkpoint keeps; to load one, make the object from as many other latents, with
    the same form and bandwidth.

    Args:
        latents: [M, ...]; of more than one dimension a row, D is the number of all.
        form: as above.
        bandwidth: h, where it is not to be Scott's.

    Raises:
        ValueError: for no latents, latents that are not finite, too few or too alike for a
            covariance matrix, a bandwidth that is not positive or not used, or another form.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.2.2, which leaves the form
        open; Scott, "Multivariate Density Estimation", 1992.

    Example:
        >>> import torch
        >>> from gencore.inference import LatentDistribution
        >>> latents = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
        >>> estimate = LatentDistribution(latents, "kde")
        >>> delta = estimate.sample(6, generator=torch.Generator().manual_seed(0))
        >>> delta.shape, estimate.log_prob(delta).shape
        (torch.Size([6, 2]), torch.Size([6]))
    """

    latents: Tensor
    mean: Tensor
    scale_tril: Tensor

    def __init__(
        self,
        latents: Tensor,
        form: LatentDistributionForm = "empirical",
        *,
        bandwidth: float | None = None,
    ) -> None:
        super().__init__()
        owner = "LatentDistribution"
        check_choice(owner, "form", form, get_args(LatentDistributionForm))
        check_state(owner, latents, "latents")
        if latents.dim() < 2 or latents.numel() == 0:
            raise ValueError(
                f"{owner}: latents have shape {list(latents.shape)}; expected [M, ...], not empty"
            )
        if not bool(latents.isfinite().all()):
            raise ValueError(f"{owner}: latents are not all finite")
        if bandwidth is not None and (form != "kde" or not 0 < bandwidth < math.inf):
            raise ValueError(
                f"{owner}: bandwidth is {bandwidth} with form {form!r}; expected a positive number "
                "with 'kde' and none otherwise"
            )
        latents = latents.detach().clone()
        num, size = len(latents), latents[0].numel()
        if form != "empirical" and num <= size:
            raise ValueError(
                f"{owner}: {num} latents of {size} numbers have no covariance matrix that can be "
                f"inverted; expected more than {size}, or the form 'empirical'"
            )
        self.form: LatentDistributionForm = form
        self.bandwidth = num ** (-1 / (size + 4)) if bandwidth is None else bandwidth
        flat = latents.flatten(1)
        if form == "empirical":
            scale_tril = flat.new_zeros(size, size)
        else:
            scale_tril, failed = torch.linalg.cholesky_ex(torch.cov(flat.T).reshape(size, size))
            if bool(failed):
                raise ValueError(
                    f"{owner}: the latents lie in a plane of fewer than {size} dimensions, where "
                    "they have no density; expected others, or the form 'empirical'"
                )
        self.register_buffer("latents", latents[:0] if form == "gaussian" else latents)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("scale_tril", scale_tril)

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents [num, ...]."""
        shape = (num, *self.latents.shape[1:])
        if self.form != "gaussian":
            index = torch.randint(
                len(self.latents), (num,), generator=generator, device=self.mean.device
            )
            drawn = self.latents[index]
            if self.form == "empirical":
                return drawn
            centre, scale = drawn.flatten(1), self.bandwidth
        else:
            centre, scale = self.mean, 1.0
        noise = torch.randn(
            num, len(self.mean), generator=generator, dtype=self.mean.dtype, device=self.mean.device
        )
        return (centre + scale * noise @ self.scale_tril.T).view(shape)

    def log_prob(self, latents: Tensor) -> Tensor:
        """Logarithm of the density at latents [N, ...], [N], in nats.

        Raises:
            ValueError: for the empirical distribution, which has none, or rows of another shape.
        """
        if self.form == "empirical":
            raise ValueError(
                "LatentDistribution: the empirical distribution has no density; expected the form "
                "'gaussian' or 'kde'"
            )
        if latents.shape[1:] != self.latents.shape[1:]:
            raise ValueError(
                f"LatentDistribution: got latents of shape {list(latents.shape)}; expected "
                f"[N, {', '.join(map(str, self.latents.shape[1:]))}]"
            )
        points = self._whiten(latents)
        log_norm = self.scale_tril.diagonal().log().sum() + 0.5 * len(self.mean) * _LOG_TWO_PI
        if self.form == "gaussian":
            centre = torch.linalg.solve_triangular(self.scale_tril, self.mean[:, None], upper=False)
            return -0.5 * (points - centre.T).square().sum(1) - log_norm
        # Without the products of matrices that lose digits where distances are small.
        distances = torch.cdist(
            points, self._whiten(self.latents), compute_mode="donot_use_mm_for_euclid_dist"
        )
        values = -0.5 * (distances / self.bandwidth).square()
        log_num = math.log(len(self.latents)) + len(self.mean) * math.log(self.bandwidth)
        return values.logsumexp(1) - log_num - log_norm

    def _whiten(self, latents: Tensor) -> Tensor:
        """In coordinates in which Σ is the identity, [N, D]."""
        rows = latents.flatten(1).T
        return torch.linalg.solve_triangular(self.scale_tril, rows, upper=False).T

    def extra_repr(self) -> str:
        return f"form={self.form!r}, latents={list(self.latents.shape)}"
