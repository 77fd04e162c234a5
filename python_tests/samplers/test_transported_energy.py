"""Chains in the latent space of a flow."""

import math

import pytest
import torch
from testing.chain_testing import assert_variance, key, quadratic

from gencore.samplers import HMC, TransportedEnergy


class TestTransportedEnergy:
    def test_latent_chains_have_the_density_of_the_data(self):
        """z → x = z³ + z turns exp(−E) into exp(−E(x(z))) |dx/dz|, whatever its shape."""

        def inverse(z):
            return z**3 + z, (3 * z.square() + 1).log().sum(1)

        energy = TransportedEnergy(quadratic(0.25), inverse)
        z = torch.linspace(-3, 3, 5001, dtype=torch.float64)[:, None]
        mass = torch.trapezoid((-energy(z)).exp(), z[:, 0])
        torch.testing.assert_close(mass.item(), math.sqrt(2 * math.pi / 0.25), rtol=1e-5, atol=0)

        x = torch.randn(20000, 1, generator=torch.Generator().manual_seed(0)) * 0.5
        latents = HMC(energy, 0.2, 5).sample(x, 40, key=key(5))
        assert_variance(energy.to_data(latents), 1 / 0.25)

    def test_a_wrong_log_determinant_is_named(self):
        energy = TransportedEnergy(quadratic(1.0), lambda z: (z, torch.zeros_like(z)))
        with pytest.raises(ValueError, match=r"shape \[4, 2\]; expected \[4\]"):
            energy(torch.zeros(4, 2))
