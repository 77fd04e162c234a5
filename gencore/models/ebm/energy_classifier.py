"""Energies of classes make a classifier, by Bayes' rule (Gao 2021, §2.1.3, §4.2.3)."""

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

    Without a background the logits are log ρ_k p_k(x), of which `log_prob` is the mixture

        log p(x) = log Σ_k ρ_k p_k(x)                                           (4.16)

    and softmax the posterior (4.13), which here needs no background to be exact.

    Args:
        energies: E_1 to E_K, each a module [N, ...] → [N]; or one module → [N, K] of all, whose
            classes share layers.
        log_z: log Z_1 to log Z_K; 0 where they are missing.
        priors: ρ_1 to ρ_K, or ρ_0 to ρ_K with a background, of any sum; equal where missing.
        background: whether there is a class 0, of energy 0.
        num_classes: K, of one module of all energies.

    Shape:
        [N, ...] → logits b_k − E_k(x), [N, K], or [N, K + 1] with a background.

    Raises:
        ValueError: for no energies, a number of classes that is missing or not needed, constants or
            priors of another number, or priors that are not positive; on a call, for a module that
            gives another number; and by `log_prob` with a background.

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
        energies: Sequence[nn.Module] | nn.Module,
        *,
        log_z: Sequence[float] | Tensor | None = None,
        priors: Sequence[float] | Tensor | None = None,
        background: bool = False,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        num = _number_of(energies, num_classes)
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
        self.energies = energies if isinstance(energies, nn.Module) else nn.ModuleList(energies)
        of = like(self.energies)
        self.bias = nn.Parameter(bias.to(of.device, of.dtype))
        self.background = background

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the classes."""
        logits = self.bias - self._values(x)
        return nn.functional.pad(logits, (1, 0)) if self.background else logits

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(k | x), of the shape of the logits."""
        return self(x).log_softmax(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), [N], of the mixture of the classes."""
        if self.background:
            raise ValueError(
                "EnergyClassifier.log_prob: the densities are relative to that of the background, "
                "which is not known"
            )
        logits: Tensor = self(x)
        return logits.logsumexp(1)

    def _values(self, x: Tensor) -> Tensor:
        """The energies [N, K]."""
        if isinstance(self.energies, nn.ModuleList):
            values = [energies("EnergyClassifier", energy, x) for energy in self.energies]
            return torch.stack(values, 1)
        shared: Tensor = self.energies(x)
        if shared.shape != (len(x), len(self.bias)):
            raise ValueError(
                f"EnergyClassifier: the module gives {list(shared.shape)} for x of shape "
                f"{list(x.shape)}; expected {[len(x), len(self.bias)]}"
            )
        return shared

    def extra_repr(self) -> str:
        return f"background={self.background}"


def _number_of(energies: Sequence[nn.Module] | nn.Module, num_classes: int | None) -> int:
    """K, checked."""
    if isinstance(energies, nn.Module) and not isinstance(energies, nn.ModuleList):
        if num_classes is None or num_classes < 1:
            raise ValueError(
                f"EnergyClassifier: num_classes is {num_classes} for one module of all energies; "
                "expected their number"
            )
        return num_classes
    if num_classes is not None:
        raise ValueError(
            f"EnergyClassifier: num_classes is {num_classes} for a sequence of energies; expected "
            "None, since there is one for each"
        )
    if len(energies) == 0:
        raise ValueError("EnergyClassifier: energies is empty; expected at least one class")
    return len(energies)


def _numbers(given: Sequence[float] | Tensor | None, default: list[float]) -> Tensor:
    values = torch.as_tensor(default if given is None else given, dtype=torch.float64)
    return values.detach().cpu()
