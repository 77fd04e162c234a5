"""Flow contrastive estimation: an energy and a flow learn from one another (Gao 2021, §4.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.ebm.energy_classifier import EnergyClassifier
from gencore.models.ebm.energy_density import EnergyDensity
from gencore.models.flows.flow import Flow
from gencore.nn import stop_gradient
from gencore.nn.held_norms import held_norms
from gencore.objectives.contrastive import ChainKernel
from gencore.objectives.noise_contrastive import NoiseContrast, noise_contrastive_value
from gencore.ops import random_key, split_key
from gencore.ops.random import stream_key
from gencore.samplers.energy import Energy

__all__ = ["FlowContrastiveEBM", "FlowNoise", "FlowNoiseTerms"]


class FlowNoiseTerms(NamedTuple):
    """What the two players need to know of a flow."""

    data_log_q: Tensor
    """[N]: log q at the data."""
    samples: Tensor
    """[N, ...]: samples of the flow."""
    samples_log_q: Tensor
    """[N]: log q at the samples."""


class FlowNoise(nn.Module):
    """A flow as noise: a call evaluates it at data and draws as many samples, with their graph.

    It is one call, and so what Fabric or DistributedDataParallel wraps of the flow's side.

    Example:
        >>> import torch
        >>> from gencore.models import CouplingFlow
        >>> from gencore.models.hybrids.flow_contrastive import FlowNoise
        >>> terms = FlowNoise(CouplingFlow(2))(torch.zeros(5, 2), torch.tensor([0, 0]))
        >>> terms.samples.shape, terms.data_log_q.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor, key: Tensor, first: int = 0) -> FlowNoiseTerms:
        """The terms of data [N, ...] and of N samples.

        Args:
            x: data.
            key: int64 [seed, offset] of the samples.
            first: number of samples that the processes before this one draw.
        """
        samples, samples_log_q = self.flow.sample_and_log_prob(len(x), key=key, first=first)
        return FlowNoiseTerms(self.flow.log_prob(x), samples, samples_log_q)


@dataclass(frozen=True)
class _NegativeLogProb:
    """x ↦ −log p(x), whose modules are those of `energy`."""

    energy: EnergyDensity | EnergyClassifier

    def __call__(self, x: Tensor) -> Tensor:
        return -self.energy.log_prob(x)


class FlowContrastiveEBM(nn.Module):
    r"""An energy p_θ and a flow q_α that play a game on one value:

    .. math:: \min_\alpha \max_\theta V, \qquad
              V = \operatorname{E}_{p_{data}} \log\frac{p_\theta(x)}{p_\theta(x) + q_\alpha(x)}
                + \operatorname{E}_{z} \log\frac{q_\alpha(g_\alpha(z))}
                                                {p_\theta(g_\alpha(z)) + q_\alpha(g_\alpha(z))}
              \qquad (4.10)

    For the energy it is noise-contrastive estimation, with noise that grows like the data and so
    harder to tell from them; log Z is learned, and there are no chains. For the flow, once p_θ is
    near p_data, it is nearly the Jensen-Shannon divergence, which is less spread out than what
    maximum likelihood finds: the gradient goes through the samples g_α(z) and through log q_α at
    data and samples.

    Each side's value trains that side alone: `density_value` holds the flow fixed, and `flow_value`
    the energy. Whose turn it is says :class:`gencore.objectives.AdaptiveAlternation`.

    Args:
        density: p_θ, an :class:`~gencore.models.EnergyDensity` with a learned log Z, or an
            :class:`~gencore.models.EnergyClassifier`, whose mixture of classes is p_θ (4.16) and
            whose labels a cross-entropy of its logits trains beside V (4.15).
        flow: q_α, without a context.

    Raises:
        TypeError: for a density of another kind.
        ValueError: for a density whose log Z is not learned, a classifier with a background, or a
            flow with a context.

    References:
        Gao, Nijkamp, Kingma, Xu, Dai and Wu, "Flow contrastive estimation of energy-based models",
        2020; Gao, "Effective Learning of Descriptive and Generator Models and Learning
        Representations for Grid Cells and V1 Cells", 2021, §4.2, whose equation numbers are used.

    Example:
        >>> import torch
        >>> from gencore.models import CouplingFlow, EnergyDensity, FlowContrastiveEBM
        >>> from gencore.nn import MLPEnergy
        >>> density = EnergyDensity(MLPEnergy(2), 0.0, learned=True)
        >>> model = FlowContrastiveEBM(density, CouplingFlow(2))
        >>> x = torch.randn(64, 2)
        >>> model.density_value(x).loss.backward()  # up
        >>> model.flow_value(x).value.backward()  # down
        >>> model.log_prob(x).shape, model.sample(4).shape
        (torch.Size([64]), torch.Size([4, 2]))
    """

    def __init__(self, density: EnergyDensity | EnergyClassifier, flow: Flow) -> None:
        super().__init__()
        if not isinstance(density, EnergyDensity | EnergyClassifier):
            raise TypeError(
                f"FlowContrastiveEBM: density is a {type(density).__name__}; expected an "
                "EnergyDensity with a learned log_z, or an EnergyClassifier"
            )
        if isinstance(density, EnergyDensity) and not isinstance(density.log_z, nn.Parameter):
            raise ValueError(
                f"FlowContrastiveEBM: log_z of the density is {density.log_z}; expected a learned "
                "one, EnergyDensity(energy, 0.0, learned=True)"
            )
        if isinstance(density, EnergyClassifier) and density.background:
            raise ValueError(
                "FlowContrastiveEBM: the classifier has a background; expected none, for the "
                "mixture of its classes to be a density"
            )
        if flow.context_size:
            raise ValueError(
                f"FlowContrastiveEBM: the flow has a context of size {flow.context_size}; expected "
                "none"
            )
        self.density, self.noise = density, FlowNoise(flow)

    @property
    def flow(self) -> Flow:
        """q_α."""
        return self.noise.flow

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_θ(x) of the energy, [N]: −E(x) − c, with the learned c."""
        return self.density.log_prob(x)

    def density_value(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> NoiseContrast:
        """V of data [N, ...] and N samples of the flow, for the density to ascend; the flow gets no
        gradient.

        Args:
            x: data.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the samples.
            first: number of samples that the processes before this one draw.
        """
        key = random_key(generator, device=x.device) if key is None else key
        with torch.no_grad():
            terms = self.noise(x, key, first)
        return self.density_value_of(x, terms)

    def flow_value(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> NoiseContrast:
        """The same V, for the flow to descend; the density gets no gradient.

        Arguments are those of `density_value`.
        """
        key = random_key(generator, device=x.device) if key is None else key
        return self.flow_value_of(x, self.noise(x, key, first))

    def density_value_of(
        self,
        x: Tensor,
        terms: FlowNoiseTerms,
        *,
        log_prob: Callable[[Tensor], Tensor] | None = None,
    ) -> NoiseContrast:
        """V of data and of the flow's terms at them, with the graph of the density alone.

        Args:
            x: data [N, ...].
            terms: what `noise` gives of them.
            log_prob: what is called for log p_θ, once, with data and samples together, such as
                Fabric's wrapper of it.
        """
        terms = FlowNoiseTerms(*(term.detach() for term in terms))
        log_p = (log_prob or self.log_prob)(torch.cat([x, terms.samples]))
        return _value(log_p, terms)

    def flow_value_of(self, x: Tensor, terms: FlowNoiseTerms) -> NoiseContrast:
        """V of data and of the flow's terms at them, with the graph of the flow alone."""
        with held_norms(self.density):
            log_p = stop_gradient(_LogProb(self.density))(torch.cat([x, terms.samples]))
        return _value(log_p, terms)

    def sample(
        self,
        num: int,
        *,
        kernel: ChainKernel | None = None,
        num_steps: int = 0,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` samples of the flow; with steps, chains of the energy that start there.

        Args:
            num: number of samples.
            kernel: makes the sampler of the energy, like ``partial(HMC, step_size=0.1,
                num_leapfrog=5)``.
            num_steps: of the chains.
            generator: draws the key where none is given.
            key: int64 [seed, offset]; it fixes the starts and the noise of the chains.
            first: number of samples before these.

        Raises:
            ValueError: for steps without a kernel.
        """
        if num_steps and kernel is None:
            raise ValueError(
                f"FlowContrastiveEBM.sample: num_steps is {num_steps} without a kernel; give one, "
                "such as functools.partial(gencore.samplers.Langevin, step_size=0.1)"
            )
        key = random_key(generator, device=self._device) if key is None else key
        with torch.no_grad():
            x = self.flow.sample(num, key=key, first=first)
        if kernel is None or not num_steps:
            return x
        chain_key, _ = split_key(stream_key(key, "samples"), 2)
        chains = kernel(self._chain_energy)
        return chains.sample(x, num_steps, key=chain_key, first_element=first * x[:1].numel())

    @property
    def _chain_energy(self) -> Energy:
        if isinstance(self.density, EnergyDensity) and self.density.scale == 1:
            return self.density.energy  # the samplers know some networks by themselves
        return _NegativeLogProb(self.density)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


class _LogProb(nn.Module):
    """`log_prob` as a forward pass."""

    def __init__(self, density: EnergyDensity | EnergyClassifier) -> None:
        super().__init__()
        self.density = density

    def forward(self, x: Tensor) -> Tensor:
        return self.density.log_prob(x)


def _value(log_p: Tensor, terms: FlowNoiseTerms) -> NoiseContrast:
    """V, from log p_θ at the data and then at as many samples."""
    data, samples = log_p.chunk(2)
    return noise_contrastive_value(data - terms.data_log_q, samples - terms.samples_log_q)
