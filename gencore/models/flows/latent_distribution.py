"""Distributions of torch as those of a flow's latents."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    MixtureSameFamily,
    Transform,
    constraints,
    transform_to,
)

from gencore.nn.fixed_buffers import FixedBuffers
from gencore.ops import philox_normal, philox_words
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["FixedDistribution", "LatentDistribution", "quantiles"]

# What is drawn at once from a distribution that takes its numbers from torch's generator.
_BLOCK_NUMBERS = 2**14


class FixedDistribution(FixedBuffers):
    """A distribution as a module: a call returns it.

    Its tensors are buffers, so that they go to the device and the dtype that a flow goes to. They
    are no part of the state, but what the flow was made with.

    Args:
        owner: the name that errors begin with.
        given: a distribution; later changes of it are not followed.

    Raises:
        ValueError: its tensors require gradients, or it holds a module, whose weights would not be
            found.
    """

    def __init__(self, owner: str, given: Distribution) -> None:
        super().__init__()
        self._owner, self._names = owner, dict[int, str]()
        self._template = rebuilt(given, self._place)
        del self._names

    def forward(self) -> Distribution:
        distribution: Distribution = rebuilt(self._template, lambda p: self.get_buffer(p.name))
        return distribution

    def _place(self, value: Tensor | nn.Module) -> "_Place":
        if isinstance(value, nn.Module):
            raise ValueError(
                f"{self._owner}: the base is a distribution that holds a {type(value).__name__}, "
                "whose weights would not be the flow's; give the module that returns it instead"
            )
        if value.requires_grad:
            raise ValueError(
                f"{self._owner}: the base is a distribution whose tensors require gradients, but "
                "they would not be among the flow's parameters; give a DistributionModule, or "
                "another module that returns the distribution"
            )
        # A tensor in two places, such as a parameter under two names, is one buffer.
        if id(value) not in self._names:
            name = self._names[id(value)] = f"tensor{len(self._names)}"
            self.register_fixed(name, value.detach().clone(), persistent=False)
        return _Place(self._names[id(value)])

    def extra_repr(self) -> str:
        return type(self._template).__name__


@dataclass(frozen=True)
class _Place:
    """Where the tensor of a distribution was, by the buffer's name."""

    name: str


def rebuilt(value: Any, leaf: Callable[[Any], Any], seen: dict[int, Any] | None = None) -> Any:
    """A copy of a distribution, and of those in it, without validation and with `leaf` of each of
    its tensors and modules in their places."""
    seen = {} if seen is None else seen
    if isinstance(value, (Tensor, nn.Module, _Place)):
        return leaf(value)
    if isinstance(value, list) or type(value) is tuple:
        return type(value)(rebuilt(part, leaf, seen) for part in value)
    if not isinstance(value, (Distribution, Transform)):
        return value
    if id(value) not in seen:  # a transform and its inverse hold each other
        copy = seen[id(value)] = object.__new__(type(value))
        state = {name: rebuilt(part, leaf, seen) for name, part in vars(value).items()}
        if isinstance(value, Distribution):
            state["_validate_args"] = False
        elif "_cached_x_y" in state:
            state["_cached_x_y"] = None, None
        vars(copy).update(state)
    return seen[id(value)]


class LatentDistribution:
    """p₀(z) of latents z [N, ...], one for all rows or one for each.

    Args:
        owner: the name that errors begin with.
        given: over the latents: its batch shape and event shape, one after the other, are their
            shape, or N and their shape.
        latent_shape: of a row.
        num: N; ``None`` where all rows have the same distribution.

    Raises:
        TypeError: for what is no distribution.
        ValueError: for one over another shape, or of discrete variables.
    """

    def __init__(
        self, owner: str, given: Distribution, latent_shape: Size, num: int | None = None
    ) -> None:
        if not isinstance(given, Distribution):
            raise TypeError(
                f"{owner}: the base gives a {type(given).__name__}; expected a "
                "torch.distributions.Distribution"
            )
        self.tensors: list[Tensor] = []

        def seen(value: Any) -> Any:
            if isinstance(value, Tensor):
                self.tensors.append(value)
            return value

        self.owner, self.name, self.latent_shape = owner, type(given).__name__, latent_shape
        given = rebuilt(given, seen)
        shape = given.batch_shape + given.event_shape
        rows = int(num is not None and shape == (num, *latent_shape))
        extra = len(given.batch_shape) - rows
        if (shape != latent_shape and not rows) or extra < 0:
            of_each = "" if num is None else f", or with one for each of {num} rows in front"
            raise ValueError(
                f"{owner}: the base is a {self.name} with batch shape {list(given.batch_shape)} "
                f"and event shape {list(given.event_shape)}; expected the latents' shape "
                f"{list(latent_shape)} of both together{of_each}: give its parameters that shape, "
                "or expand it, Normal(0.0, 1.0).expand([3])"
            )
        support = _support(given)
        if support is not None and support.is_discrete:
            raise ValueError(f"{owner}: the base is a {self.name}, which is discrete")
        self.distribution = (
            Independent(given, extra, validate_args=False) if extra else given
        )  # batch shape [] or [N]

    def check_like(self, z: Tensor) -> None:
        """Raise unless the distribution's tensors fit latents of the device and dtype of z."""
        for t in self.tensors:
            if t.device != z.device and t.dim():
                raise ValueError(
                    f"{self.owner}: the base, a {self.name}, is on {t.device}, and the latents are "
                    f"on {z.device}; move one of the two"
                )
            if (
                t.is_floating_point()
                and t.dtype != z.dtype
                and not torch.is_autocast_enabled(z.device.type)
            ):
                raise TypeError(
                    f"{self.owner}: the base, a {self.name}, is of {t.dtype}, and the latents are "
                    f"{z.dtype}; convert one of the two"
                )

    def log_prob(self, z: Tensor) -> Tensor:
        """log p₀(z), [N]; −inf without a gradient outside its support, and NaN of what is NaN."""
        self.check_like(z)
        z = z.to(accumulation_dtype(z))
        if z.shape[0] == 0:  # of which torch's sums over an event fail
            return z.new_zeros(0)
        inside = _inside(self.distribution, z)
        if inside is None:
            return self.distribution.log_prob(z)
        # Densities are not defined there, and their gradients NaN: another point takes the place.
        rows = inside.view(*inside.shape, *(1 for _ in self.latent_shape))
        log_prob = self.distribution.log_prob(torch.where(rows, z, _interior(self.distribution, z)))
        log_prob = log_prob.masked_fill(~inside, -torch.inf)
        return log_prob.masked_fill(z.flatten(1).isnan().any(1), torch.nan)

    @property
    def is_reparametrised(self) -> bool:
        """Whether samples have the gradients by all parameters that require them."""
        return (
            self.distribution.has_rsample
            or not any(t.requires_grad for t in self.tensors)
            or quantiles(self._elements, torch.zeros(())) is not None
        )

    @property
    def _elements(self) -> Distribution:
        """The distribution without what makes its batch dimensions parts of an event."""
        elements = self.distribution
        while isinstance(elements, Independent):
            elements = elements.base_dist
        return elements

    def sample(self, num: int, of: Tensor, key: Tensor, first: int) -> Tensor:
        """Latents [num, ...], differentiable in the parameters.

        Independent numbers whose distribution function has an inverse are made of those of the
        key. Others are drawn from torch's generators: where all rows have one distribution, in
        blocks of rows with seeds of the key. Both give the same rows however they are split over
        processes.

        Args:
            num: of latents.
            of: a tensor of their device and dtype.
            key: int64 [seed, offset].
            first: number of latents before these, of other processes.

        Raises:
            NotImplementedError: a parameter requires a gradient that torch does not have.
            ValueError: for rows after others where those of a split cannot be told.
        """
        self.check_like(of)
        numel = self.latent_shape.numel()
        noise = philox_normal(
            (num, *self.latent_shape), key, first_element=first * numel, dtype=of.dtype
        )
        z = quantiles(self._elements, noise)
        if z is not None:
            return self._within(z)
        if torch.is_grad_enabled() and not self.is_reparametrised:
            raise NotImplementedError(
                f"{self.owner}: samples of the base, a {self.name}, have no gradient by its "
                "parameters; draw them under torch.no_grad(), or with parameters that require none"
            )
        of_torch = self.distribution
        draw = of_torch.rsample if of_torch.has_rsample else of_torch.sample
        if self.distribution.batch_shape:
            if first:
                raise ValueError(
                    f"{self.owner}: first is {first}, but draws of the base, a {self.name} of each "
                    "row, depend on the rows before them; expected 0, or independent latents with "
                    "an inverse distribution function (icdf)"
                )
            with _seeded(key, 0, 1, of.device) as seed:
                seed(0)
                return draw(Size()).to(of.dtype)
        rows = max(1, _BLOCK_NUMBERS // max(1, numel))
        start, stop = first // rows, -(-(first + num) // rows)
        with _seeded(key, start, stop, of.device) as seed:
            blocks = []
            for block in range(stop - start):
                seed(block)
                blocks.append(draw(Size([rows])))
        if not blocks:
            return of.new_empty(0, *self.latent_shape)
        return torch.cat(blocks)[first - start * rows :][:num].to(of.dtype)

    def _within(self, z: Tensor) -> Tensor:
        """Samples without those that rounding has put on an open end of the support."""
        if _inside(self._elements, z) is None:
            return z
        with torch.no_grad():
            beyond = self._elements.log_prob(z).isneginf()
            moved = torch.nextafter(z, _interior(self._elements, z).to(z.dtype))
        return torch.where(beyond, moved, z)


def quantiles(elements: Distribution, noise: Tensor) -> Tensor | None:
    """F⁻¹(Φ(u)) of normal noise u, with the inverse of the elements' distribution function;
    ``None`` where torch has none."""
    if elements.event_shape:
        return None
    # In double precision, where the tails keep their digits.
    share = torch.special.ndtr(noise.double()).clamp(torch.finfo(torch.float64).tiny, 1 - 2**-53)
    try:
        return elements.icdf(share).to(noise.dtype)
    except NotImplementedError:
        return None


@contextmanager
def _seeded(
    key: Tensor, start: int, stop: int, device: torch.device
) -> Iterator[Callable[[int], None]]:
    """What gives torch's generators the seed of block number i of those from `start` on; afterwards
    their states are as before."""
    words = philox_words((stop - start, 2), key, first_element=2 * start).tolist()

    def seed(i: int) -> None:
        generator = (
            torch.cuda.default_generators[device.index]
            if device.type == "cuda"
            else torch.default_generator
        )
        generator.manual_seed(words[i][0] << 31 | words[i][1] >> 1)

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield seed


def _support(distribution: Distribution) -> constraints.Constraint | None:
    try:
        return distribution.support
    except NotImplementedError:
        return None


def _inside(distribution: Distribution, z: Tensor) -> Tensor | None:
    """Where values are in the support; ``None`` for everywhere.

    Of a mixture it is the union of its components', where torch takes the intersection.
    """
    if isinstance(distribution, Independent):
        inside = _inside(distribution.base_dist, z)
        dims = distribution.reinterpreted_batch_ndims
        return None if inside is None else inside.flatten(inside.dim() - dims).all(-1)
    event_dims = len(distribution.event_shape)
    if isinstance(distribution, MixtureSameFamily):
        inside = _inside(distribution.component_distribution, z.unsqueeze(-1 - event_dims))
        return None if inside is None else inside.any(-1)
    support = _support(distribution)
    plain: Any = support
    while hasattr(plain, "base_constraint"):
        plain = plain.base_constraint
    if support is None or plain is constraints.real:
        return None
    return support.check(z)


def _interior(distribution: Distribution, z: Tensor) -> Tensor:
    """A point inside the support, [*batch_shape, *event_shape], of the dtype of z."""
    if isinstance(distribution, Independent):
        return _interior(distribution.base_dist, z)
    if isinstance(distribution, MixtureSameFamily):
        point = _interior(distribution.component_distribution, z)
        return point.select(-1 - len(distribution.event_shape), 0)
    transform = transform_to(distribution.support)
    shape = transform.inverse_shape(distribution.batch_shape + distribution.event_shape)
    return transform(z.new_zeros(shape)).detach().to(z.dtype)
