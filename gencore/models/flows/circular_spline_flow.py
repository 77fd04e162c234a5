"""Flows on the circle and the torus, of circular splines (Rezende et al. 2020)."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Independent, Uniform

from gencore.models.flows.flow import Flow
from gencore.models.flows.latent_distribution import LatentDistribution
from gencore.models.flows.stacks import coupling_mixing, interleaved, stack
from gencore.models.starts import like
from gencore.nn import MLP, CircularSplineCoupling, Transform
from gencore.ops.affine_coupling_reference import transformed_channels
from gencore.sizes import check_positive

__all__ = ["CircularSplineFlow"]


class CircularSplineFlow(Flow):
    r"""A density of D angles, on the torus: circular splines of latents that are uniform on it.

    .. math:: \log p(x) = -D \log 2π + \log\left\lvert\det\frac{\partial f}{\partial x}\right\rvert

    Couplings take turns in moving the two halves of the angles; after each pair the angles, if more
    than two, are shuffled by a fixed random permutation. It starts as the uniform law. Angles are
    in radians and go through modulo 2π; samples are in [−π, π).

    Args:
        features: D. One alone, on the circle, has splines of the context.
        num_layers: number of couplings.
        hidden_widths: of their networks.
        activation: of their networks, as for :class:`~gencore.nn.MLP`.
        num_bins: of each spline.
        bound: of the splines' raw parameters, as for :class:`~gencore.nn.CircularSplineCoupling`.
        context_size: C of contexts [N, C]; 0 for none.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.
        generator: of the random permutations; torch's default if ``None``.

    Raises:
        ValueError: for no features, fewer than two bins, or no layers; on a call, for a temperature
            other than 1, which uniform angles have no use for.

    References:
        Rezende, Papamakarios, Racanière, Albergo, Kanwar, Shanahan and Cranmer, "Normalizing flows
        on tori and spheres", 2020.

    Example:
        >>> import torch
        >>> from gencore.models import CircularSplineFlow
        >>> flow = CircularSplineFlow(2, num_layers=2, hidden_widths=[32])
        >>> x = flow().sample((5,))
        >>> bool((x.abs() <= torch.pi).all()), flow.log_prob(x)[0].detach()  # -2 log 2π
        (True, tensor(-3.6758))
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 4,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "silu",
        num_bins: int = 8,
        bound: float | None = 2.0,
        context_size: int = 0,
        reversible: bool = False,
        generator: Generator | None = None,
    ) -> None:
        check_positive("CircularSplineFlow", features=features, num_layers=num_layers)

        def coupling(number: int) -> Transform:
            swap = number % 2 == 1 or features == 1
            moved = transformed_channels(features, swap)
            network = MLP(
                2 * (features - moved), hidden_widths, moved * (3 * num_bins + 1),
                activation=activation, context_size=context_size,
            )  # fmt: skip
            return CircularSplineCoupling(network, num_bins=num_bins, swap=swap, bound=bound)

        mixing = coupling_mixing("CircularSplineFlow", "permutation", features, None, generator)
        layers = interleaved(num_layers, coupling, mixing, every=2)
        transform = stack(layers, reversible=reversible)
        super().__init__(transform, [features], context_size=context_size)

    def base_distribution(self, context: Tensor | None = None) -> Distribution:
        """Uniform angles, as a distribution of torch."""
        end = like(self).new_full(self.latent_shape, math.pi)
        return Independent(Uniform(-end, end, validate_args=False), 1)

    def _draw(
        self,
        latents: LatentDistribution | None,
        num: int,
        generator: Generator | None,
        key: Tensor | None,
        first: int,
    ) -> Tensor:
        normal = super()._draw(latents, num, generator, key, first)
        return math.pi * torch.erf(normal / math.sqrt(2))  # 2πΦ(ε) − π

    def _latents_log_prob(
        self, latents: LatentDistribution | None, z: Tensor, log_det: Tensor
    ) -> Tensor:
        return log_det - self.latent_shape.numel() * math.log(2 * math.pi)

    def _check_temperature(self, temperature: float, *, has_density: bool = False) -> None:
        if temperature != 1:
            raise ValueError(
                f"{type(self).__name__}: temperature is {temperature}; expected 1, since uniform "
                "angles have no scale"
            )
