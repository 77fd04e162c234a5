"""The whole-chain CUDA kernels executed on the host, against the CPU kernels and the references."""

import ctypes
import itertools
import math

import pytest
import torch
from testing.host_executor import DTYPES, STRUCTURES, Device, Mlp, Noise, compiler
from testing.op_tester import TOLERANCE
from torch import Tensor

from gencore.ops import backend, mlp_hmc_chain, mlp_langevin_chain
from gencore.ops.metropolis import FIRST_DECISION

pytestmark = [
    pytest.mark.host_executor,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="needs g++, in PATH or named by CXX"),
]
KEY = torch.tensor([5, 9])
KINDS = {"silu": 0, "softplus": 1, "tanh": 2, "leaky_relu": 3}


class Network:
    """Weights and biases, as the operator and as the kernel want them."""

    def __init__(self, widths: list[int], dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(sum(widths))
        self.widths = widths
        self.weights, self.biases = [], []
        for inputs, outputs in itertools.pairwise(widths):
            weight = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
            self.weights.append(weight.to(dtype))
            self.biases.append(torch.randn(outputs, generator=generator).to(dtype))
        accumulate = torch.float64 if dtype == torch.float64 else torch.float32
        self.operands = [t.to(accumulate) for t in (*self.weights, *self.biases)]

    def structure(self, activation: str) -> Mlp:
        mlp, layers = Mlp(layers=len(self.weights)), len(self.weights)
        mlp.activation, mlp.negative_slope = KINDS[activation], 0.2
        for layer, width in enumerate(self.widths):
            mlp.widths[layer] = width
        for layer in range(layers):
            mlp.weights[layer] = self.operands[layer].data_ptr()
            mlp.biases[layer] = self.operands[layers + layer].data_ptr()
        return mlp


def run(gpu: Device, name: str, args: ctypes.Structure, read: list[Tensor], written: list[Tensor]):
    error = gpu.call(name, ctypes.byref(args), read=read, written=written)
    assert error is None, error


NETWORKS = ([3], [2, 1], [2, 8, 12, 1], [5, 7, 3, 1], [1, 6, 5, 9, 4, 1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("widths", NETWORKS, ids=str)
def test_langevin_chain_equals_the_cpu_kernel_and_the_reference(gpu, widths, dtype):
    network, num_steps = Network(widths, dtype), 4
    for chains, activation in ((1, "silu"), (19, "tanh"), (16, "softplus"), (33, "leaky_relu")):
        gpu.seed(chains)
        x = torch.randn(chains, widths[0], generator=torch.Generator().manual_seed(1)).to(dtype)
        accumulate = network.operands[0].dtype if network.operands else None
        accumulate = accumulate or (torch.float64 if dtype == torch.float64 else torch.float32)
        steps = torch.rand(chains, dtype=accumulate) * 0.1
        scales = torch.full((chains,), 0.3, dtype=accumulate)
        given = torch.randn(num_steps, *x.shape).to(dtype) if chains == 16 else None
        settings = {"prior_precision": 0.4, "grad_clamp": 0.6, "clamp": (-1.5, 1.5)}

        def call(x=x, activation=activation, steps=steps, given=given, settings=settings):
            return mlp_langevin_chain(
                x, network.weights, network.biases, num_steps, steps, 0.3, **settings, noise=given,
                activation=activation, negative_slope=0.2, return_trajectory=True, thin=2, key=KEY,
                first_element=6,
            )  # fmt: skip

        out = torch.empty(num_steps // 2, *x.shape, dtype=dtype)
        args = STRUCTURES["mlp_langevin_chain"](
            dtype=DTYPES[dtype], numel=x.numel(), chain_size=widths[0], x=x.data_ptr(),
            noise=Noise(None if given is None else given.data_ptr(), KEY.data_ptr(), 6),
            step_sizes=steps.data_ptr(), noise_scales=scales.data_ptr(), prior_precision=0.4,
            grad_clamp=0.6, clamp_min=-1.5, clamp_max=1.5, mlp=network.structure(activation),
            num_steps=num_steps, thin=2, out=out.data_ptr(),
        )  # fmt: skip
        operands = [x, KEY, steps, scales, *network.operands, *([] if given is None else [given])]
        run(gpu, "mlp_langevin_chain", args, operands, [out])
        torch.testing.assert_close(out, call(), **TOLERANCE[dtype])
        with backend("reference"):
            torch.testing.assert_close(out, call(), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("widths", NETWORKS, ids=str)
def test_hmc_chain_equals_the_cpu_kernel_and_the_reference(gpu, widths, dtype):
    network, dims = Network(widths, dtype), widths[0]
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    for chains, activation in ((1, "tanh"), (19, "silu")):
        gpu.seed(chains)
        x = torch.randn(chains, dims, generator=torch.Generator().manual_seed(2)).to(dtype)
        masses = torch.linspace(0.5, 1.5, dims, dtype=accumulate)

        def call(x=x, activation=activation, masses=masses):
            return mlp_hmc_chain(
                x, network.weights, network.biases, 3, 0.7, 2, inverse_mass=masses,
                prior_precision=1.1, activation=activation, max_energy_error=0.05,
                return_trajectory=True, key=KEY, first_element=4 * dims,
            )  # fmt: skip

        results = [
            torch.empty(3, *x.shape, dtype=dtype),
            *(torch.full((chains,), math.nan, dtype=accumulate) for _ in range(4)),
        ]
        names = ("out", "energy", "acceptance_rate", "num_accepted", "num_divergent")
        pointers = {n: t.data_ptr() for n, t in zip(names, results, strict=True)}
        args = STRUCTURES["mlp_hmc_chain"](
            dtype=DTYPES[dtype], chains=chains, first_chain=4, first_uniform=FIRST_DECISION + 4,
            mlp=network.structure(activation),
            x=x.data_ptr(), key=KEY.data_ptr(), inverse_masses=masses.data_ptr(), step_size=0.7,
            inverse_mass=1.0, prior_precision=1.1, max_energy_error=0.05, num_leapfrog=2,
            num_steps=3, thin=1, **pointers,
        )  # fmt: skip
        run(gpu, "mlp_hmc_chain", args, [x, KEY, masses, *network.operands], results)
        tolerance = TOLERANCE[dtype]
        numbers = TOLERANCE[torch.float64] if accumulate == torch.float64 else {
            "rtol": 2e-5, "atol": 2e-5}  # fmt: skip
        with backend("reference"):
            expected = call()
        for chain in (call(), expected):
            torch.testing.assert_close(results[0], chain.position, **tolerance)
            for ours, theirs in zip(results[1:], chain[1:], strict=True):
                torch.testing.assert_close(ours, theirs, **numbers)
