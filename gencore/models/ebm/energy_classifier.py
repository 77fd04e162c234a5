"""Energies of classes make a classifier, by Bayes' rule (Gao 2021, §2.1.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencore.models.starts import like
from gencore.samplers.energy import energies

__all__ = ["EnergyClassifier"]


class EnergyClassifier(nn.Module):
    """The posterior of K classes whose densities are p_k(x) = exp(−E_k(x)) / Z_k:

        p(k | x) = exp(b_k − E_k(x)) / Σ_j exp(b_j − E_j(x)),   b_k = log ρ_k − log Z_k    (2.9)

    with the prior probabilities ρ_k. A background class 0 has E_0 = 0; the densities are then
    p_k(x) = exp(−E_k(x)) q(x) / Z_k relative to its density q, which need not be known, and
    b_k = log(ρ_k/ρ_0) − log Z_k, b_0 = 0. (The source has (2.9) with densities that are not
    relative; Bayes' rule then gives it only for a constant q.) The b_k are parameters: training the
    classifier learns them where Z_k is not known.

    Args:
        energies: E_1 to E_K, each a module [N, ...] → [N].
        log_z: log Z_1 to log Z_K; 0 where they are missing.
        priors: ρ_1 to ρ_K, or ρ_0 to ρ_K with a background, of any sum; equal where missing.
        background: whether there is a class 0, of energy 0.

    Shape:
        [N, ...] → logits b_k − E_k(x), [N, K], or [N, K + 1] with a background.

    Raises:
        ValueError: for no energies, constants or priors of another number, or priors that are not
            positive.

    Example:
        >>> from gencore.nn import MLPEnergy
        >>> classifier = EnergyClassifier([MLPEnergy(2), MLPEnergy(2), MLPEnergy(2)])
        >>> classifier.log_posterior(torch.zeros(5, 2)).shape
        torch.Size([5, 3])

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, (2.9); Jin, Lazarow and Tu, "Introspective
        classification with convolutional nets", 2017.
    """

    def __init__(
        self,
        energies: Sequence[nn.Module],
        *,
        log_z: Sequence[float] | Tensor | None = None,
        priors: Sequence[float] | Tensor | None = None,
        background: bool = False,
    ) -> None:
        super().__init__()
        num = len(energies)
        if num == 0:
            raise ValueError("EnergyClassifier: energies is empty; expected at least one class")
        constants = _numbers(log_z, [0.0] * num)
        shares = _numbers(priors, [1.0] * (num + background))
        for name, values, size in (("log_z", constants, num), ("priors", shares, num + background)):
            if values.shape != (size,):
                raise ValueError(
                    f"EnergyClassifier: {name} has shape {list(values.shape)} for {num} energies "
                    f"{'with' if background else 'without'} a background; expected [{size}]"
                )
        if not bool((shares > 0).all()):
            raise ValueError(f"EnergyClassifier: priors are {priors}; expected positive numbers")
        reference = shares[0] if background else shares.sum()
        bias = (shares[-num:] / reference).log() - constants
        self.energies = nn.ModuleList(energies)
        of = like(self.energies)
        self.bias = nn.Parameter(bias.to(of.device, of.dtype))
        self.background = background

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the classes."""
        values = [energies("EnergyClassifier", energy, x) for energy in self.energies]
        logits = self.bias - torch.stack(values, 1)
        return nn.functional.pad(logits, (1, 0)) if self.background else logits

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(k | x), of the shape of the logits."""
        return self(x).log_softmax(1)

    def extra_repr(self) -> str:
        return f"background={self.background}"


def _numbers(given: Sequence[float] | Tensor | None, default: list[float]) -> Tensor:
    values = torch.as_tensor(default if given is None else given, dtype=torch.float64)
    return values.detach().cpu()
