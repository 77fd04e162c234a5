"""Modules that are distributions of a flow's latents: learned ones, and ones of the context."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Transform,
    constraints,
    identity_transform,
    transform_to,
)

from gencore.inference.gaussian_posterior import NormalParameters, bound_log_std

__all__ = ["ConditionalNormal", "DistributionModule"]


class DistributionModule(nn.Module):
    r"""A distribution with learned parameters; a call returns it.

    Parameters that torch's family constrains, such as a scale that is positive, are learned as
    free numbers that `torch.distributions.transform_to` maps to what is allowed, and are
    ``raw_scale`` in the state. Without ``learnable`` the tensors are buffers.

    Args:
        family: a class of `torch.distributions`, or another function of the tensors that returns a
            distribution; of a function all tensors are free numbers.
        learnable: whether they are trained.
        **tensors: the family's arguments by their names, at the start.

    Raises:
        TypeError: for arguments that are no tensors of floating point, or that the family has not.
        ValueError: for values that the family does not allow.

    References:
        `torch.distributions.constraint_registry`.

    Example:
        >>> import torch
        >>> from torch.distributions import StudentT
        >>> from gencore.models import MAF, DistributionModule
        >>> base = DistributionModule(
        ...     StudentT, df=torch.full((3,), 4.0), loc=torch.zeros(3), scale=torch.ones(3)
        ... )
        >>> flow = MAF(3, num_layers=2, hidden_widths=(8,), base=base)
        >>> flow.log_prob(torch.zeros(5, 3)).mean().backward()
        >>> base.raw_df.grad.shape, base().df.detach()
        (torch.Size([3]), tensor([4., 4., 4.]))
    """

    def __init__(
        self, family: Callable[..., Distribution], *, learnable: bool = True, **tensors: Tensor
    ) -> None:
        super().__init__()
        for name, value in tensors.items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(
                    f"DistributionModule: {name} is {kind}; expected a tensor of floating point"
                )
        if not any(value.is_meta for value in tensors.values()):
            try:
                family(**tensors)
            except ValueError as error:
                raise ValueError(f"DistributionModule: {error}") from error
        self.family, self.learnable = family, learnable
        # The map from free numbers to each of the family's arguments, where there is one.
        self._maps = {name: _free_numbers(family, name) if learnable else None for name in tensors}
        for name, value in tensors.items():
            value, of_free = value.detach(), self._maps[name]
            if not learnable:
                self.register_buffer(name, value.clone())
            elif of_free is None:
                self.register_parameter(name, nn.Parameter(value.clone()))
            else:
                self.register_parameter(f"raw_{name}", nn.Parameter(of_free.inv(value).clone()))

    def forward(self) -> Distribution:
        """The distribution."""
        values = {
            name: getattr(self, name) if of_free is None else of_free(getattr(self, f"raw_{name}"))
            for name, of_free in self._maps.items()
        }
        if _is_class(self.family):  # whose parameters are valid by construction
            return self.family(**values, validate_args=False)
        return self.family(**values)

    def extra_repr(self) -> str:
        family = getattr(self.family, "__name__", repr(self.family))
        return f"{family}, {', '.join(self._maps)}, learnable={self.learnable}"


class ConditionalNormal(nn.Module):
    r"""A diagonal Gaussian whose mean and log-scale are functions of the context.

    .. math:: p_0(z \mid c) = N\big(z;\ \mu(c),\ \operatorname{diag} \sigma(c)^2\big)

    Of a class given as a one-hot context, a linear network is a table: a mean and a scale a class.
    Log-scales are kept within ±10.

    Args:
        network: contexts [N, C] → the means and log-scales of latents of D numbers, [N, 2D].

    Raises:
        ValueError: on a call, for a network that gives another shape.

    References:
        Izmailov, Kirichenko, Finzi and Wilson, "Semi-Supervised Learning with Normalizing Flows",
        2020, (3), for classes.

    Example:
        >>> import torch
        >>> from gencore.models import ConditionalNormal, CouplingFlow
        >>> base = ConditionalNormal(torch.nn.Linear(10, 2 * 3))
        >>> flow = CouplingFlow(3, hidden_widths=(8,), context_size=10, base=base)
        >>> flow(torch.eye(10)).sample().shape
        torch.Size([10, 3])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, context: Tensor) -> Distribution:
        """The distribution of each row, over [D].

        Args:
            context: [N, C].
        """
        outputs: Tensor = self.network(context)
        if outputs.dim() != 2 or len(outputs) != len(context) or outputs.shape[1] % 2:
            raise ValueError(
                f"ConditionalNormal: the network gives {list(outputs.shape)} for contexts "
                f"{list(context.shape)}; expected [{len(context)}, 2D], means and log-scales"
            )
        mean, log_std = outputs.chunk(2, 1)
        return NormalParameters(mean, bound_log_std(log_std)).distribution()


def _is_class(family: Callable[..., Distribution]) -> bool:
    return isinstance(family, type) and issubclass(family, Distribution)


def _free_numbers(family: Callable[..., Distribution], name: str) -> Transform | None:
    """The map from free numbers to an argument of the family, if that is constrained."""
    if not _is_class(family):
        return None
    constraint = getattr(family, "arg_constraints", {}).get(name)
    if constraint is None or constraints.is_dependent(constraint):
        return None
    transform: Transform = transform_to(constraint)
    return None if transform == identity_transform else transform
