"""Sampling in the latent space of a flow."""

from collections.abc import Callable

from torch import Tensor

from gencore.samplers.energy import Energy, energies

__all__ = ["TransportedEnergy"]


class TransportedEnergy:
    r"""The energy of the latent variable z of a flow whose data have the energy E.

    .. math:: E_z(z) = E(x) - \log\left\lvert\det\frac{\partial x}{\partial z}\right\rvert,
              \qquad x = f^{-1}(z)

    Chains on E_z, mapped to x, sample exp(−E). Where the flow has made exp(−E) nearly Gaussian they
    mix as on a Gaussian: neural-transport Hamiltonian Monte Carlo.

    Args:
        energy: E, [N, ...] → [N].
        inverse: the flow's map from latents to data, z → (x, log|det ∂x/∂z|), with shapes [N, ...]
            and [N].

    Raises:
        ValueError: on a call, if the log-determinants do not have the shape of the energies.

    References:
        Hoffman et al., "NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural
        transport", 2019, eq. (3).

    Example:
        >>> import torch
        >>> from gencore.samplers import HMC, TransportedEnergy
        >>> stretch = lambda z: (100 * z, torch.full(z.shape[:1], 4.605) * z.shape[1])
        >>> energy = TransportedEnergy(lambda x: 0.5 * (x / 100).square().sum(1), stretch)
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = HMC(energy, 0.5, 4).sample(torch.zeros(2000, 2), 20, generator=generator)
        >>> round(z.std().item(), 1), round(energy.to_data(z).std().item(), -1)
        (1.0, 100.0)
    """

    def __init__(self, energy: Energy, inverse: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self.energy = energy
        self.inverse = inverse

    def __call__(self, z: Tensor) -> Tensor:
        x, log_det = self.inverse(z)
        value = energies("TransportedEnergy", self.energy, x)
        if log_det.shape != value.shape:
            raise ValueError(
                f"TransportedEnergy: the flow's log-determinants have shape {list(log_det.shape)}; "
                f"expected {list(value.shape)}, one a row"
            )
        return value - log_det

    def to_data(self, z: Tensor) -> Tensor:
        """The data x of latents z."""
        return self.inverse(z)[0]
