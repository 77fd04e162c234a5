"""The energy-based model whose sampler without noise is a normalising flow (Yan 2022, §2.4.3)."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.models.ebm.names import FlowObjective
from gencore.models.starts import normal_starts
from gencore.nn.held_norms import held_norms
from gencore.objectives.contrastive import ShortRunLoss, contrastive_loss
from gencore.ops._support.checks import check_count
from gencore.ops._support.checks import shape as checked_shape
from gencore.samplers import EulerFlow, GradientFlow
from gencore.samplers.gradient_flow import TraceMethod

__all__ = ["FlowEBM", "FlowObjective"]


class FlowEBM(nn.Module):
    """An energy E_θ with two densities: exp(−E_θ)/Z_θ, and that of its noise-free samples.

    The samples x = G_θ(x₀) follow x' = −∇E_θ(x) from x₀ ~ N(0, I) for the time T (2.17), exactly or
    in Euler steps (2.20), and have the density of a normalising flow (2.19). Objectives:

    - "ml": the energies of data and samples (2.13), as for the density exp(−E_θ)/Z_θ;
    - "ml+gen": the same and the generator loss (2.25);
    - "flow_mle": −log p of the flow at the data (2.19).

    Args:
        energy: a network [N, *shape] → [N].
        shape: shape of one data point.
        time: T, the same in training and in use.
        num_steps: number of Euler steps of length T/num_steps; None solves the ODE.
        objective: one of those above.
        tolerance: relative and absolute, of the ODE's solver.
        trace: "exact", or "hutchinson" for an estimate of the ODE's density.

    Raises:
        ValueError: for another objective or trace.

    Example:
        >>> import torch
        >>> from gencore.nn import MLPEnergy
        >>> ebm = FlowEBM(MLPEnergy(2), (2,), num_steps=10)
        >>> x = torch.rand(16, 2)
        >>> ebm(x, ebm.start(16)).loss.backward()
        >>> ebm.flow.log_prob(x).shape
        torch.Size([16])

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §2.4, whose
        equation numbers are used.
    """

    def __init__(
        self,
        energy: nn.Module,
        shape: Sequence[int],
        *,
        time: float = 0.2,
        num_steps: int | None = None,
        objective: FlowObjective = "ml",
        tolerance: float = 1e-5,
        trace: TraceMethod = "exact",
    ) -> None:
        super().__init__()
        if num_steps is not None:
            check_count("FlowEBM", "num_steps", num_steps, least=1)
        check_choice("FlowEBM", "objective", objective, get_args(FlowObjective))
        check_choice("FlowEBM", "trace", trace, get_args(TraceMethod))
        self.energy = energy
        self.shape = tuple(checked_shape("FlowEBM", shape))
        self.time = time
        self.num_steps = num_steps
        self.objective = objective
        self.tolerance = tolerance
        self.trace: TraceMethod = trace

    @property
    def flow(self) -> GradientFlow | EulerFlow:
        """The sampler, which knows its density."""
        if self.num_steps is not None:
            return EulerFlow(self.energy, self.time / self.num_steps, self.num_steps)
        return GradientFlow(
            self.energy, self.time, rtol=self.tolerance, atol=self.tolerance, trace=self.trace
        )

    def forward(
        self, x: Tensor, start: Tensor, *, key: Tensor | None = None, first: int = 0
    ) -> ShortRunLoss:
        """The objective on one batch.

        Args:
            x: data x⁺, [N, *shape].
            start: x₀, [M, *shape], from `start`.
            key: int64 [seed, offset] of the signs of the "hutchinson" trace.
            first: number of data points of the processes before this one.
        """
        has_generator_loss = self.objective == "ml+gen"
        has_grad = torch.is_grad_enabled()
        with held_norms(self.energy, advance=True):  # one energy in all terms
            samples = self.flow.sample(start, differentiable=has_generator_loss and has_grad)
            terms = contrastive_loss(
                self.energy, x, samples, generator_weight=1.0 if has_generator_loss else 0.0
            )
            if self.objective != "flow_mle":
                return terms
            log_prob = self.flow.log_prob(x, differentiable=has_grad, key=key, first=first)
        # The flow does not see an additive constant of the energy, the last layer's bias. The term
        # of value 0 gives it a gradient of 0: DistributedDataParallel would wait for one.
        return terms._replace(loss=0 * terms.loss - log_prob.mean())

    def start(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` starts x₀ ~ N(0, I), after `first` starts of other processes."""
        return normal_starts(self, num, self.shape, generator=generator, key=key, first=first)

    def sample(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` samples G_θ(x₀); arguments as for `start`."""
        return self.flow.sample(self.start(num, generator=generator, key=key, first=first))

    def extra_repr(self) -> str:
        method = "ode" if self.num_steps is None else f"euler, num_steps={self.num_steps}"
        return f"shape={self.shape}, time={self.time}, {method}, objective={self.objective}"
