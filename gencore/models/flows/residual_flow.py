"""Residual flows by Euler steps of a learned energy (Yan 2022, §2.4.3)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gencore.models.flows.flow import Base, Flow
from gencore.nn.parametrized import spectral_norm
from gencore.nn.transforms import Compose, Transform
from gencore.ops._support.backend import refuse_transforms
from gencore.ops._support.checks import accumulation_dtype
from gencore.samplers import EulerFlow, LogDetMethod
from gencore.sizes import check_positive

__all__ = ["EulerSteps", "LipschitzEnergy", "ResidualFlow"]


class LipschitzEnergy(nn.Module):
    r"""An MLP whose gradient has a Lipschitz constant of at most `curvature`.

    .. math:: E(x) = \frac{4c}{L}\, w^\top h_L, \qquad h_l = \log(1 + \exp(W_l h_{l-1} + b_l)),
              \quad h_0 = x

    All weights have the spectral norm 1. With slopes of at most 1 and second derivatives of at most
    1/4 of the softplus, the Jacobian of each layer adds 1/4 to the Lipschitz constant of the
    Jacobian of what lies below it, so that \|∇²E\| ≤ c. In training the norm is that of a power
    iteration, which follows the weights call by call; in evaluation it is exact, whatever was done
    to the weights since.

    Args:
        features: D.
        hidden_widths: of the L hidden layers, at least one.
        curvature: c > 0.

    Shape:
        [N, D] → [N].

    Raises:
        ValueError: without a hidden layer, or for widths or a curvature that are not positive.

    References:
        Miyato, Kataoka, Koyama and Yoshida, "Spectral normalization for generative adversarial
        networks", 2018; Behrmann et al., "Invertible residual networks", 2019, §2.1.

    Example:
        >>> import torch
        >>> from gencore.models import LipschitzEnergy
        >>> LipschitzEnergy(2, [16], curvature=1.0)(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(self, features: int, hidden_widths: Sequence[int], *, curvature: float) -> None:
        super().__init__()
        widths = (features, *hidden_widths, 1)
        if not hidden_widths or min(widths) < 1 or not curvature > 0:
            raise ValueError(
                f"LipschitzEnergy: features is {features}, hidden_widths {tuple(hidden_widths)} "
                f"and curvature {curvature}; expected a hidden layer or more, and positive numbers"
            )
        self.layers = nn.ModuleList()
        for i, o in pairwise(widths):
            layer = nn.Linear(i, o)
            spectral_norm(layer, n_power_iterations=_POWER_ITERATIONS)
            parametrize.register_parametrization(layer, "weight", _UnitNorm())
            self.layers.append(layer)
        layer.register_parameter("bias", None)  # a constant: a flow has no gradient in it
        self.register_load_state_dict_pre_hook(_drop_last_bias)
        self.scale = 4 * curvature / len(hidden_widths)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = functional.softplus(layer(x))
        energy: Tensor = self.scale * last(x).squeeze(1)
        return energy


class _UnitNorm(nn.Module):
    """The weight over its exact spectral norm, in evaluation."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight if self.training else weight / torch.linalg.matrix_norm(weight, 2)


def _drop_last_bias(energy: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Take the states of when the last layer still had a bias, a constant."""
    layers = energy.get_submodule("layers")
    assert isinstance(layers, nn.ModuleList)
    state_dict.pop(f"{prefix}layers.{len(layers) - 1}.bias", None)


_POWER_ITERATIONS = 5
_BY_AUTOGRAD = "its steps take gradients themselves; differentiate it with torch.autograd"


class EulerSteps(Transform):
    r"""Steps of gradient descent from latents to data as a transform, a residual network.

    .. math:: x_{t+1} = x_t - a\nabla E(x_t), \qquad z = x_0, \quad x = x_K

    Latents to data is the cheap direction, one gradient a step; data to latents is the fixed point
    of every step, some tens of gradients each.

    Args:
        flow: the steps, whose energy's a∇E has to be a contraction.
        energy: the network in it, a part of this module.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, (2.20), (2.21).
    """

    def __init__(self, flow: EulerFlow, energy: nn.Module) -> None:
        super().__init__()
        self.flow, self.energy = flow, energy

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        refuse_transforms("EulerSteps", _BY_AUTOGRAD)
        _refuse_export()
        if torch.compiler.is_compiling():
            from gencore.nn.transforms.traced import uncompiled

            found, log_det = uncompiled(self, x)
            return found, log_det
        with parametrize.cached():
            z, log_det = self.flow.inverse_with_log_det(x, differentiable=torch.is_grad_enabled())
        return z, log_det.to(accumulation_dtype(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        refuse_transforms("EulerSteps", _BY_AUTOGRAD)
        _refuse_export()
        if torch.compiler.is_compiling():
            from gencore.nn.transforms.traced import traced

            x, log_det = traced(self, z)
            return x, log_det
        return self.traced(z)

    def traced(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`inverse` as torch.compile records it."""
        with parametrize.cached():
            x, log_det = self.flow.sample_with_log_det(z, differentiable=torch.is_grad_enabled())
        return x, log_det.to(accumulation_dtype(z))


def _refuse_export() -> None:
    if torch.compiler.is_exporting():
        raise RuntimeError(
            "EulerSteps: torch.export cannot trace a residual flow: its steps take gradients "
            "themselves, and how many iterations a density takes depends on the data; export a "
            "CouplingFlow, MAF or PlanarFlow, or store this one by its state_dict"
        )


class ResidualFlow(Flow):
    """A residual flow of Euler steps of energies that make every step a contraction.

    Sampling is the cheap direction, one gradient a step; a density takes the fixed point of each
    step, and its gradients an implicit function. Steps are invertible by construction: the
    energies' curvature is at most `contraction` / `step_size`.

    Args:
        features: D.
        num_blocks: number of energies.
        num_steps: K Euler steps of each.
        hidden_widths: of the energies, MLPs.
        step_size: a.
        contraction: Lipschitz constant of a∇E, below 1; the larger, the more a step can do and the
            slower its inverse converges.
        log_det: "exact", for which D Hessian-vector products are made a step, or "series", an
            estimate by `num_terms` of them, biased by the terms left out.
        num_terms: of the series.
        tolerance: of the inverse.
        base: of the latents, as for :class:`Flow`.

    Raises:
        ValueError: for a contraction outside (0, 1), or a step size or numbers that are not
            positive.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, (2.20), (2.21);
        Chen, Behrmann, Duvenaud and Jacobsen, "Residual flows for invertible generative
        modeling", 2019.

    Example:
        >>> import torch
        >>> from gencore.models import ResidualFlow
        >>> flow = ResidualFlow(2, num_blocks=2, hidden_widths=[16])
        >>> flow().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        features: int,
        *,
        num_blocks: int = 4,
        num_steps: int = 2,
        hidden_widths: Sequence[int] = (64, 64),
        step_size: float = 0.5,
        contraction: float = 0.8,
        log_det: LogDetMethod = "exact",
        num_terms: int = 10,
        tolerance: float = 1e-6,
        base: Base = "normal",
    ) -> None:
        if not 0 < contraction < 1:
            raise ValueError(f"ResidualFlow: contraction is {contraction}; expected 0 < it < 1")
        if not step_size > 0:
            raise ValueError(f"ResidualFlow: step_size is {step_size}; expected a positive number")
        check_positive("ResidualFlow", num_blocks=num_blocks, num_steps=num_steps)
        blocks = []
        for _ in range(num_blocks):
            energy = LipschitzEnergy(features, hidden_widths, curvature=contraction / step_size)
            flow = EulerFlow(
                energy, step_size, num_steps,
                log_det=log_det, num_terms=num_terms, tolerance=tolerance, max_iterations=500,
                hold_norms=False,  # one power iteration a call, whose weights are cached
            )  # fmt: skip
            blocks.append(EulerSteps(flow, energy))
        super().__init__(Compose(*blocks), [features], base=base)
