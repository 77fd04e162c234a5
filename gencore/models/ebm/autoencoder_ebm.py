"""Auto-encoders in training, with what keeps them from copying everything."""

from typing import NamedTuple

from torch import Generator, Tensor, nn

from gencore.models.ebm.autoencoder_energy import AutoencoderEnergy
from gencore.objectives.contraction import contraction_penalty
from gencore.ops import philox_normal, random_key, split_key
from gencore.ops._support.checks import index, number

__all__ = ["AutoencoderEBM", "AutoencoderLoss"]


class AutoencoderLoss(NamedTuple):
    """The loss of each data point and its parts, [N]; only `loss` carries a graph."""

    loss: Tensor
    energy: Tensor
    """Squared distance of what is decoded to the data."""
    penalty: Tensor
    """All penalties, with their weights."""


class AutoencoderEBM(nn.Module):
    r"""The training of an `AutoencoderEnergy`: from noisy data, with sparse or contracted codes.

    .. math:: \lVert \mathrm{Dec}(\mathrm{Enc}(x + \sigma\epsilon)) - x \rVert^2
              + \lambda \lVert \mathrm{Enc}(x) \rVert_1
              + \gamma \lVert J_{\mathrm{Enc}}(x) \rVert_F^2

    λ makes a sparse auto-encoder, γ a contractive one and σ a denoising one; k-sparse and
    winner-take-all codes are activations of the energy, with all three at 0. Beside λ or γ the
    decoder's weights have to be bounded, for small codes with large weights are as good: after
    each optimiser step call `normalise_decoder`, where the decoder is a linear layer.

    A call is the objective, so this module is what Fabric or DistributedDataParallel wraps.

    Args:
        energy: the auto-encoder.
        sparsity_weight: λ.
        contraction_weight: γ.
        noise_std: σ.
        num_probes: of the contraction's estimate; exact where it is missing.

    Raises:
        ValueError: for negative weights or σ, fewer than one probe.
        TypeError: by `normalise_decoder`, for a decoder that is not a linear layer.

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §2.1.2.1; Ng, "Sparse
        autoencoder", 2011; Rifai et al., "Contractive auto-encoders", 2011; Vincent, Larochelle,
        Bengio and Manzagol, "Extracting and composing robust features with denoising
        autoencoders", 2008.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> energy = AutoencoderEnergy(nn.Linear(6, 4), nn.Linear(4, 6), activation=nn.ReLU())
        >>> model = AutoencoderEBM(energy, sparsity_weight=0.1)
        >>> model(torch.randn(3, 6)).loss.mean().backward()
    """

    def __init__(
        self,
        energy: AutoencoderEnergy,
        *,
        sparsity_weight: float = 0.0,
        contraction_weight: float = 0.0,
        noise_std: float = 0.0,
        num_probes: int | None = None,
    ) -> None:
        super().__init__()
        name = "AutoencoderEBM"
        self.energy = energy
        self.sparsity_weight = number(name, "sparsity_weight", sparsity_weight)
        self.contraction_weight = number(name, "contraction_weight", contraction_weight)
        self.noise_std = number(name, "noise_std", noise_std)
        if num_probes is not None and index(name, "num_probes", num_probes) < 1:
            raise ValueError(f"{name}: num_probes is {num_probes}; expected 1 or more, or None")
        self.num_probes = num_probes

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> AutoencoderLoss:
        """The loss of data.

        Args:
            x: [N, ...].
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the noise and the probes.
            first: number of rows of the processes before this one.
        """
        if key is None:
            key = random_key(generator, device=x.device)
        noise_key, probe_key = split_key(key, 2)
        seen = x
        if self.noise_std:
            noise = philox_normal(
                x.shape, noise_key, first_element=first * x[:1].numel(), dtype=x.dtype
            )
            seen = x + self.noise_std * noise
        code = self.energy.encode(seen)
        energy = (self.energy.decode(code, x) - x).flatten(1).square().sum(1)
        penalty = energy.new_zeros(len(x))
        if self.sparsity_weight:
            clean = self.energy.encode(x) if self.noise_std else code
            penalty = penalty + self.sparsity_weight * clean.flatten(1).abs().sum(1)
        if self.contraction_weight:
            contraction = contraction_penalty(
                self.energy.encode, x, num_probes=self.num_probes, key=probe_key, first=first
            )
            penalty = penalty + self.contraction_weight * contraction
        return AutoencoderLoss(energy + penalty, energy.detach(), penalty.detach())

    def normalise_decoder(self) -> None:
        """Scale what each component of a code adds to the data to a length of at most 1."""
        decoder = self.energy.decoder
        if not isinstance(decoder, nn.Linear):
            raise TypeError(
                f"AutoencoderEBM.normalise_decoder: the decoder is a "
                f"{type(decoder).__name__}; expected a linear layer"
            )
        weight = decoder.weight.detach()
        weight.div_(weight.norm(dim=0, keepdim=True).clamp_min(1.0))

    def extra_repr(self) -> str:
        return (
            f"sparsity_weight={self.sparsity_weight}, contraction_weight="
            f"{self.contraction_weight}, noise_std={self.noise_std}"
        )
