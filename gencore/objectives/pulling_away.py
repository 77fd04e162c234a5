"""The pulling-away term of energy-based GANs: samples with codes in different directions."""

from torch import Tensor
from torch.nn.functional import normalize

from gencore.objectives.scores import check_scores

__all__ = ["pulling_away_term"]


def pulling_away_term(codes: Tensor) -> Tensor:
    r"""The mean squared cosine of the codes of two different samples, (6.61).

    .. math:: f_{PT}(S) = \frac{1}{N(N-1)} \sum_i \sum_{j \ne i}
              \left( \frac{S_i^\top S_j}{\lVert S_i \rVert \lVert S_j \rVert} \right)^2

    It is 0 of orthogonal codes, 1 of collinear ones, and the same for any lengths of them. Of N
    codes of s < N numbers it is at least (N − s)/(s (N − 1)), the Welch bound; of directions at
    random it has the mean 1/s. A code of zeros adds nothing and gets no gradient. It is for the
    generator's loss alone, with a weight such as 0.1, of the codes that the discriminator's encoder
    gives to a batch of samples.

    With unit codes as rows of U the sum is ‖UUᵀ‖² = ‖UᵀU‖², of the smaller matrix, less Σ ‖u_i‖⁴.

    Args:
        codes: S_i as rows, [N, ...], N ≥ 2; what follows N is one vector.

    Returns:
        A scalar.

    Raises:
        ValueError: for codes that are not floating point, of fewer than two samples, or without
            numbers.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §6.2.4. Zhao, Mathieu and LeCun,
        "Energy-based generative adversarial networks", 2017, §2.4. Welch, "Lower bounds on the
        maximum cross correlation of signals", 1974.

    Example:
        >>> import torch
        >>> pulling_away_term(torch.eye(3)), pulling_away_term(torch.tensor([[1.0], [-2.0]]))
        (tensor(0.), tensor(1.))
    """
    check_scores("pulling_away_term", codes=codes)
    if codes.dim() < 2 or len(codes) < 2:
        raise ValueError(
            f"pulling_away_term: codes have shape {list(codes.shape)}; expected [N, ...] of two "
            "samples or more"
        )
    num = len(codes)
    unit = normalize(codes.flatten(1))
    gram = unit @ unit.T if num <= unit.shape[1] else unit.T @ unit
    itself = unit.square().sum(1).square().sum()
    return (gram.square().sum() - itself) / (num * (num - 1))
