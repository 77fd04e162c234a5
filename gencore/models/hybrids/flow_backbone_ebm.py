"""An energy that corrects a flow, with chains in the flow's latent space (Gao 2021, §4.3)."""

from torch import Tensor, nn

from gencore.models.flows.flow import Flow
from gencore.models.hybrids.exponential_tilting import BALANCED_LANGEVIN
from gencore.models.hybrids.latent_ebm import LatentEBM
from gencore.objectives.contrastive import ChainKernel

__all__ = ["FlowBackboneEBM"]


class FlowBackboneEBM(LatentEBM):
    r"""A flow's density q times exp(f), E_θ = −f, with chains of the latents.

    .. math:: p_\theta(x) = \frac{q(x)\, e^{-E_\theta(x)}}{Z_\theta}, \qquad
              p_\theta(z) = \frac{N(z; 0, I)\, e^{-E_\theta(g(z))}}{Z_\theta}, \quad x = g(z)

    The density of z has no Jacobian in it: that of q cancels. It is the special case of
    :class:`gencore.samplers.TransportedEnergy` for which the flow is part of the target. Where q
    has the modes of the data, chains of z pass between them.

    Args:
        base: the flow, with a normal base distribution and no context; it is frozen.
        energy: E_θ, [N, ...] → [N].
        kernel: makes the sampler of an energy; Langevin dynamics with ε = 0.01 if not given.
        num_steps: of a chain.
        energy_penalty: weight α of the mean of E(x⁺)² + E(x⁻)².

    Raises:
        ValueError: for a flow with another base distribution or with a context, or a negative
            number of steps.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §4.3. Nijkamp, Gao, Sountsov, Vasudevan, Pang, Zhu and
        Wu, "MCMC should mix: learning energy-based model with neural transport latent space MCMC",
        2022.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from gencore.models import CouplingFlow, FlowBackboneEBM
        >>> from gencore.nn import MLPEnergy
        >>> from gencore.samplers import HMC
        >>> kernel = partial(HMC, step_size=0.2, num_leapfrog=5)
        >>> flow = CouplingFlow(2, hidden_widths=(8,))
        >>> ebm = FlowBackboneEBM(flow, MLPEnergy(2), kernel=kernel, num_steps=2)
        >>> ebm(torch.randn(16, 2), ebm.start(16)).loss.backward()
        >>> ebm.sample(4).shape
        torch.Size([4, 2])
    """

    base: Flow

    def __init__(
        self,
        base: Flow,
        energy: nn.Module,
        *,
        kernel: ChainKernel = BALANCED_LANGEVIN,
        num_steps: int = 60,
        energy_penalty: float = 0.1,
    ) -> None:
        if base.base != "normal":
            raise ValueError(
                f"FlowBackboneEBM: the flow's base distribution is {base.base!r}; expected 'normal'"
            )
        super().__init__(
            base,
            energy,
            base.latent_shape,
            kernel=kernel,
            num_steps=num_steps,
            energy_penalty=energy_penalty,
        )

    def encode(self, x: Tensor) -> Tensor:
        """The latents z of data."""
        return self.base.transform(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """The data g(z) of latents."""
        return self.base.transform.inverse(z)[0]
