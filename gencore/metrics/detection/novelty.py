"""Novelty of data by an autoencoder: how far its code is from those of the data, and its error."""

import torch
from torch import Tensor, nn

__all__ = ["LatentNovelty", "MahalanobisDistance"]


class MahalanobisDistance(nn.Module):
    r"""Distances of codes from the mean of given ones, in units of their spread.

    .. math:: D_M(z) = \sqrt{(z - \mu)^T \Sigma^{-1} (z - \mu)}

    Of M given codes of d dimensions the mean of D_M² is d(M − 1)/M; of other normal codes alike it
    is about d. An affine map of all codes changes nothing.

    Args:
        codes: [M, d], of which μ is the mean and Σ the covariance matrix, divided by M − 1; M > d.

    Raises:
        ValueError: the codes have another shape, are too few, or lie in a plane of fewer
            dimensions; on a call, for codes of another size.

    Shape:
        [N, d] → [N], in the dtype of the given codes.

    Example:
        >>> import torch
        >>> from gencore.metrics import MahalanobisDistance
        >>> distance = MahalanobisDistance(torch.randn(1000, 3))
        >>> distance(torch.zeros(2, 3)).shape
        torch.Size([2])
    """

    mean: Tensor
    scale_tril: Tensor

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        if codes.dim() != 2 or not codes.is_floating_point() or len(codes) <= codes.shape[1]:
            raise ValueError(
                f"MahalanobisDistance: codes are {codes.dtype} {list(codes.shape)}; expected "
                "floating point [M, d] with M > d ≥ 1"
            )
        size = codes.shape[1]
        factor, failed = torch.linalg.cholesky_ex(torch.cov(codes.T).reshape(size, size))
        if bool(failed):
            raise ValueError(
                f"MahalanobisDistance: the codes lie in a plane of fewer than {size} dimensions; "
                "expected others"
            )
        self.register_buffer("mean", codes.mean(0))
        self.register_buffer("scale_tril", factor)

    def forward(self, codes: Tensor) -> Tensor:
        if codes.dim() != 2 or codes.shape[1] != len(self.mean):
            raise ValueError(
                f"MahalanobisDistance: codes have shape {list(codes.shape)}; expected "
                f"[N, {len(self.mean)}]"
            )
        centred = (codes.to(self.mean.dtype) - self.mean).T
        return torch.linalg.solve_triangular(self.scale_tril, centred, upper=False).norm(dim=0)


class LatentNovelty(nn.Module):
    r"""The latent Mahalanobis distance and the error of the reconstruction, in equal measure.

    .. math:: \mathrm{novelty}(x) = \alpha D_M(E(x)) + \beta \ell(x, D(E(x)))

    α and β are one over the standard deviations of the two terms on validation data. Of a VAE the
    code E(x) is the mean of the posterior.

    Args:
        codes: E(x) of the training data, [M, d], M > d.
        validation_codes: of the validation data, [V, d], V ≥ 2.
        validation_errors: ℓ of the same, [V], such as squared errors of an image.

    Raises:
        ValueError: as of :class:`MahalanobisDistance`, for other numbers of codes and errors, or
            where all validation data have one distance or one error.

    Shape:
        codes [N, d] and errors [N] → [N].

    Source:
        Bulusu et al., "Anomalous instance detection in deep learning: a survey", 2020. Yan, "Deep
        Generative Models: Design, Improvements and Applications", 2022, §4.2.6.

    Example:
        >>> import torch
        >>> from gencore.metrics import LatentNovelty
        >>> from gencore.models import VAE
        >>> from gencore.nn import MLP
        >>> vae = VAE(MLP(3, (8,), 4, zero_last=False), MLP(2, (8,), 3), 2)
        >>> def coded(x):
        ...     codes = vae.codes(x).detach()
        ...     return codes, (vae.decode(codes) - x).square().sum(1).detach()
        >>> novelty = LatentNovelty(coded(torch.randn(50, 3))[0], *coded(torch.randn(20, 3)))
        >>> novelty(*coded(torch.randn(4, 3))).shape
        torch.Size([4])
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, codes: Tensor, validation_codes: Tensor, validation_errors: Tensor) -> None:
        super().__init__()
        self.distance = MahalanobisDistance(codes)
        distances = self.distance(validation_codes)
        _check(validation_codes, validation_errors)
        if len(distances) < 2:
            raise ValueError("LatentNovelty: there is one validation code; expected two or more")
        spreads = distances.std(), validation_errors.to(distances.dtype).std()
        if not all(spread > 0 for spread in spreads):
            raise ValueError(
                "LatentNovelty: all validation data have one distance or one error; expected a "
                "standard deviation above 0"
            )
        self.register_buffer("alpha", 1 / spreads[0])
        self.register_buffer("beta", 1 / spreads[1])

    def forward(self, codes: Tensor, errors: Tensor) -> Tensor:
        _check(codes, errors)
        distances: Tensor = self.distance(codes)
        return self.alpha * distances + self.beta * errors.to(distances.dtype)


def _check(codes: Tensor, errors: Tensor) -> None:
    if errors.shape != codes.shape[:1]:
        raise ValueError(
            f"LatentNovelty: errors have shape {list(errors.shape)}; expected {[len(codes)]}, one "
            "for each code"
        )
