"""What a sampler asks of an energy: its value and its gradient in x, and nothing else."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn, Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = [
    "Energy",
    "GradientEnergy",
    "NetworkEnergy",
    "check_energies",
    "energies",
    "energy_and_grad",
    "gradient_alone",
    "network_of",
    "standing_still",
]

Energy = Callable[[Tensor], Tensor]
"""`energy(x[N, ...]) -> [N]`, each row by itself; the density is proportional to exp(-energy)."""

# Chains on wider networks do not fit into the shared memory of every GPU.
_WIDEST_ON_CUDA = 512


class GradientEnergy(Protocol):
    """An energy that knows its gradient, which spares the samplers a call of autograd.

    Where it also has `gradient_alone(x)`, ∇E without E, samplers ask for that where they need no
    value, as `CompiledEnergy` has it.

    Example:
        >>> from gencore.samplers import HMC
        >>> class Gaussian:
        ...     def __call__(self, x):
        ...         return 0.5 * x.square().sum(1)
        ...
        ...     def energy_and_grad(self, x):
        ...         return self(x), 1.0 * x
        >>> HMC(Gaussian(), step_size=0.2, num_leapfrog=8).sample(torch.zeros(4, 2), 10).shape
        torch.Size([4, 2])
    """

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def energy_and_grad(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """E(x) [N] and ∇E(x), of the shape and dtype of x [N, ...], in memory of its own."""


@runtime_checkable
class NetworkEnergy(Protocol):
    """An energy that says which network of `gencore.ops` it is, such as `gencore.nn.MLPEnergy`."""

    def network(self) -> dict[str, Any] | None: ...


def network_of(energy: Energy, x: Tensor) -> dict[str, Any] | None:
    """The network that `energy` is, if a whole-chain kernel can run chains from `x` on it."""
    if not isinstance(energy, NetworkEnergy) or x.dim() != 2:
        return None
    network = energy.network()
    if network is None or any(w.dtype != x.dtype for w in network["weights"]):
        return None
    widest = max((n for w in network["weights"] for n in w.shape), default=0)
    return None if x.is_cuda and widest > _WIDEST_ON_CUDA else network


def standing_still(energy: Energy) -> AbstractContextManager[object]:
    """A context in which nothing but the values of tensors changes of the energy, as in a chain."""
    known = getattr(energy, "standing_still", None)
    return nullcontext() if known is None else known()


def energies(owner: str, energy: Energy, x: Tensor, name: str = "energy(x)") -> Tensor:
    """The energies E(xₙ), [N], or an error on behalf of `owner` that says why there are none.

    `name` is what errors call them.

    Raises:
        TypeError, ValueError: as `energy_and_grad`.
    """
    try:
        value = energy(x)
    except ValueError as error:
        _explain(owner, error)
    check_energies(owner, name, value, x)
    return value


def energy_and_grad(
    energy: Energy,
    x: Tensor,
    *,
    create_graph: bool = False,
    owner: str = "energy_and_grad",
    name: str = "energy(x)",
) -> tuple[Tensor, Tensor]:
    """The energies E(xₙ) and their gradients ∇E(xₙ).

    The gradient is taken in `x` alone, so the parameters of the energy, their `.grad` and
    their `requires_grad` are the same before and after, whatever the energy does or raises.

    Args:
        energy: maps positions [N, ...] to energies [N], each row by itself. Its own
            `energy_and_grad`, where it has one (`GradientEnergy`), is called instead of autograd.
        x: positions [N, ...] of floating point.
        create_graph: whether the results are differentiable in `x` and in whatever the energy
            depends on.
        owner: the function that errors are to name.
        name: what they are to call the energies.

    Returns:
        Energies [N] and gradients [N, ...].

    Raises:
        TypeError: if the energies are no tensor of real floating-point numbers.
        ValueError: if they do not have shape [N], are on another device or carry no graph back to
            `x`, if a gradient that the energy knows is not like `x`, or if a distribution of
            `torch.distributions` in the energy refuses a state outside its support.

    Example:
        >>> energy_and_grad(lambda x: 0.5 * x.square().sum(1), torch.tensor([[3.0, 4.0]]))
        (tensor([12.5000]), tensor([[3., 4.]]))
    """
    # Not by isinstance, which takes as long with a protocol as a small energy.
    if not create_graph and (known := getattr(energy, "energy_and_grad", None)) is not None:
        return _known(owner, known, x.detach())
    with torch.inference_mode(False):  # and with gradients, whatever the mode was
        if not (create_graph and x.requires_grad):
            # A tensor made in inference mode cannot enter a graph, its copy can.
            x = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        value = energies(owner, energy, x, name)
        if not value.requires_grad:
            raise ValueError(
                f"{owner}: {name} is not differentiable in x: it was detached, or does not depend "
                "on x (write a constant energy as 0 * x.flatten(1).sum(1))"
            )
        # As of value.sum(), less a sum.
        (grad,) = torch.autograd.grad(value, x, torch.ones_like(value), create_graph=create_graph)
    return (value if create_graph else value.detach()), grad


def gradient_alone(energy: Energy, x: Tensor, *, owner: str) -> Tensor:
    """∇E(x) for a sampler that has no use for E(x), as of `energy_and_grad`."""
    known = getattr(energy, "gradient_alone", None)
    if known is None:
        return energy_and_grad(energy, x, owner=owner)[1]
    # Asking takes less than a view that is not needed, or than to enter no_grad.
    x = x.detach() if x.requires_grad else x
    if torch.is_grad_enabled():
        with torch.no_grad():
            grad: Tensor = known(x)
    else:
        grad = known(x)
    _check_gradient(owner, "energy.gradient_alone(x)", grad, x)
    return grad


def _known(
    owner: str, function: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor
) -> tuple[Tensor, Tensor]:
    name = "energy.energy_and_grad(x)"
    try:
        with torch.no_grad():
            value, grad = function(x)
    except ValueError as error:
        _explain(owner, error)
    check_energies(owner, name, value, x)
    _check_gradient(owner, name, grad, x)
    return value, grad


def _check_gradient(owner: str, name: str, grad: Any, x: Tensor) -> None:
    if not isinstance(grad, Tensor):
        raise TypeError(
            f"{owner}: {name} has a gradient that is a {type(grad).__name__}; expected a tensor"
        )
    if grad.shape != x.shape or grad.dtype != x.dtype or grad.device != x.device:
        raise ValueError(
            f"{owner}: {name} has a gradient of {grad.dtype} and shape {list(grad.shape)} on "
            f"{grad.device}; expected {x.dtype} and {list(x.shape)} on {x.device}, those of x"
        )


def check_energies(owner: str, name: str, value: Any, x: Tensor) -> None:
    """Raise on behalf of `owner` unless `value`, called `name`, is a real number for each row."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{owner}: {name} is a {type(value).__name__}; expected a tensor with one number for "
            f"each row, [{x.shape[0]}], made from x by torch's operations"
        )
    if not value.is_floating_point():
        raise TypeError(f"{owner}: {name} is {value.dtype}; expected real floating-point numbers")
    if value.shape != x.shape[:1]:
        raise ValueError(
            f"{owner}: {name} has shape {list(value.shape)} for x of shape {list(x.shape)}; "
            f"expected one number for each row, [{x.shape[0]}]"
        )
    if value.device != x.device:
        raise ValueError(f"{owner}: {name} is on {value.device}; expected {x.device}, where x is")


def _explain(owner: str, error: ValueError) -> NoReturn:
    """Raise what an energy raised; short and with a remedy if a state was outside its support."""
    reason, dump, _ = str(error).partition(", but found invalid values")
    if not dump and "within the support" not in reason:
        raise error
    raise ValueError(
        f"{owner}: a distribution in the energy refuses what a chain tried: {reason}. Build it "
        "with validate_args=False, or return inf outside its support: a sampler has to see the "
        "energy of every state that it proposes"
    ) from None
