"""Energies whose value and gradient are compiled ahead of time, for the loops of samplers."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gencore.ops import backend
from gencore.samplers.ahead_of_time import Runner, UncompilableError, compiled, traced
from gencore.samplers.energy import Energy, energy_and_grad
from gencore.samplers.reachable import Place, Reachable

__all__ = ["CompilationWarning", "CompiledEnergy"]

_MOST_PROGRAMS = 8
"""How many shapes and settings are compiled for one energy, as torch.compile does."""


class CompilationWarning(RuntimeWarning):
    """An energy could not be compiled; autograd takes its gradients."""


class CompiledEnergy:
    """An energy with compiled value and gradient, which samplers call instead of autograd.

    AOTInductor compiles the two for each shape of the positions at their first use, in 10 to 20
    seconds on a CPU; the result is kept in Inductor's cache folder (`TORCHINDUCTOR_CACHE_DIR`),
    from which later processes load it at once. A call then costs some microseconds, where autograd
    and Python take most of a step of a small network. Samplers that need no value in between ask
    for the gradient alone: HMC within a trajectory, Langevin in `sample`, which therefore warns of
    an energy that is not finite only where chains end. A `gencore.nn.MLPEnergy` needs none of this:
    its chains run in one kernel.

    Parameters, buffers and other tensors that the energy reads may change, in place or by others of
    the same shape: training is seen. Python values in its attributes, closures, containers and
    global names are part of the code: another number is compiled anew, so that what changes from
    step to step, like a temperature, belongs in a tensor. What else would go unseen is not
    compiled: one warning says so and autograd does the work, where an energy reads NumPy arrays or
    iterators, asks for the value of a tensor (`.item()`, a branch), draws random numbers or writes
    to its buffers, where no C++ compiler is there, and for more than eight shapes or settings. A
    chain looks at all this where it begins, and not at every step.

    Gradients with a graph of their own (`differentiable=True`) and training go through the energy
    itself.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        **options: of Inductor, as those of `torch.compile(options=...)`, such as
            `max_autotune=True`.

    Raises:
        TypeError: for an option that Inductor does not have.

    Warns:
        CompilationWarning: once, where the energy cannot be compiled; it says why.

    Example:
        >>> from gencore.samplers import NUTS
        >>> energy = CompiledEnergy(lambda x: 0.5 * x.square().sum(1))
        >>> NUTS(energy, step_size=0.5).sample(torch.zeros(4, 2), 10).shape
        torch.Size([4, 2])
    """

    def __init__(self, energy: Energy, **options: Any) -> None:
        self.energy, self._options = energy, options
        _check_options(options)
        self._programs: dict[bool, list[_Program]] = {True: [], False: []}
        self._is_given_up = False
        self._lock = RLock()
        self._held: dict[Any, tuple[_Program, list[Tensor]]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy or a pickle compiles anew, for the energy that it has.
        return partial(CompiledEnergy, **self._options), (self.energy,)

    def __call__(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) [N] and ∇E(x) [N, ...]."""
        results = self._run(x, True)
        if results is None:
            return energy_and_grad(self.energy, x, owner="CompiledEnergy")
        value, grad = results
        return value, grad

    def gradient_alone(self, x: Tensor) -> Tensor:
        """∇E(x) [N, ...], for less than the energy with it."""
        results = self._run(x, False)
        if results is None:
            return energy_and_grad(self.energy, x, owner="CompiledEnergy")[1]
        return results[0]

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Within, what the energy reads is looked at once for each shape, and not at every call.

        Values of tensors that change in place are seen all the same. It is for a loop that changes
        nothing else of the energy; samplers run their chains in it.
        """
        before, self._held = self._held, {}
        try:
            yield
        finally:
            self._held = before

    def _run(self, x: Tensor, with_value: bool) -> Sequence[Tensor] | None:
        if self._is_given_up or x.numel() == 0:
            return None
        if x.requires_grad or not x.is_contiguous():
            x = x.detach().contiguous()
        place = with_value, x.shape, x.dtype, x.device
        held = self._held
        if held is not None and place in held:
            program, tensors = held[place]
            return program.run([x, *tensors])
        programs = self._programs[with_value]
        for program in programs:
            inputs = program.inputs(x)
            if inputs is not None:
                if held is not None:
                    held[place] = program, inputs[1:]
                return program.run(inputs)
        with self._lock:
            if len(programs) == _MOST_PROGRAMS:
                self._give_up(_too_many(programs))
                return None
            try:
                program = _Program(self.energy, x, with_value, self._options)
                inputs = program.inputs(x)
                if inputs is None:
                    raise UncompilableError("it writes to what it reads from call to call")
                results = program.run(inputs)
            except Exception as error:
                # First what autograd has to say: an energy that is wrong for it too is no warning.
                energy_and_grad(self.energy, x, owner="CompiledEnergy")
                self._give_up(_reason(error))
                return None
            programs.insert(0, program)
        return results

    def _give_up(self, reason: str) -> None:
        self._is_given_up = True
        warnings.warn(
            f"CompiledEnergy: {reason}; autograd takes the gradients of this energy instead",
            CompilationWarning,
            stacklevel=4,
        )


class _Program:
    """Value and gradient, or the gradient alone, for one shape and one state of the energy."""

    def __init__(
        self, energy: Energy, x: Tensor, with_value: bool, options: dict[str, Any]
    ) -> None:
        while isinstance(energy, DistributedDataParallel):
            energy = energy.module  # its forward pass talks to the other processes
        self.reachable = Reachable(energy)
        self._shape, self._dtype, self._device = x.shape, x.dtype, x.device
        self._kind = x.device.type
        self._modes = _modes(self._kind)

        def function(x: Tensor) -> tuple[Tensor, ...]:
            x = x.detach().requires_grad_()
            value = energy(x)
            (grad,) = torch.autograd.grad(value, x, torch.ones_like(value))
            grad = grad.contiguous()
            return (value.detach(), grad) if with_value else (grad,)

        with torch.inference_mode(False):
            example = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
            with backend("reference"), torch.enable_grad():  # what the compiler can look into
                graph, tensors = traced(function, example)
            inputs = [example, *(t.detach() for t in tensors)]
            self._runner: Runner = compiled(graph, inputs, options)
        if self.reachable.has_changed():
            names = ", ".join(sorted(set(self.reachable.changes()))[:3])
            raise UncompilableError(f"it writes to what it reads ({names})")
        self._find_places(graph, tensors)
        self._ids: list[int]
        self._metas: list[tuple[Any, ...]]
        self._copies: bool | None = None  # whether results share the memory of the inputs

    def inputs(self, x: Tensor) -> list[Tensor] | None:
        """What the machine code is called with, or None where it does not fit contiguous `x`."""
        if (
            x.shape != self._shape
            or x.dtype != self._dtype
            or x.device != self._device
            or _modes(self._kind) != self._modes
            or self.reachable.has_changed()
        ):
            return None
        try:
            tensors = [get(key) for get, key in self._places]
            others = [get(key) for get, key in self._others]
            if (
                any(get(key) is not tensors[k] for k, (get, key) in self._aliases)
                or [_meta(t) for t in tensors + others] != self._metas
            ):
                return None
            ids = list(map(id, tensors))
            if ids != self._ids:
                _refuse_lazy_views(tensors)
                self._ids = ids
        except Exception:  # no tensor is there any more, or one without strides
            return None
        return [x, *tensors]

    def _find_places(self, graph: torch.fx.GraphModule, tensors: list[Tensor]) -> None:
        """Where the graph's tensors are at each call, and the rest of those within reach."""
        reachable = dict(self.reachable.tensors)
        nodes = [node for node in graph.graph.nodes if node.op == "placeholder"][1:]
        self._places: list[Place] = []
        self._aliases: list[tuple[int, Place]] = []  # places that share one tensor have to go on
        for k, (node, tensor) in enumerate(zip(nodes, tensors, strict=True)):
            places = reachable.pop(id(tensor), None)
            if places is None:
                if any(
                    user.target is not torch.ops.aten.lift_fresh_copy.default for user in node.users
                ):
                    raise UncompilableError(
                        f"it reads a tensor of shape {list(tensor.shape)} from where its changes "
                        "cannot be seen"
                    )
                places = [((tensor,).__getitem__, 0)]  # made of numbers in the code
            self._places.append(places[0])
            self._aliases += [(k, place) for place in places[1:]]
        # Their sizes may be numbers in the graph.
        self._others = [place for places in reachable.values() for place in places]
        _refuse_lazy_views(tensors)
        self._ids = list(map(id, tensors))
        self._metas = [_meta(t) for t in tensors]
        self._metas += [_meta(get(key)) for get, key in self._others]

    def run(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        if torch.is_grad_enabled():  # for parameters that train; entering no_grad takes a while
            with torch.no_grad():
                return self.run(inputs)
        results = self._runner(inputs)
        if self._copies is None:
            memory = {t.untyped_storage().data_ptr() for t in inputs}
            self._copies = any(t.untyped_storage().data_ptr() in memory for t in results)
        return [t.clone() for t in results] if self._copies else results


def _meta(t: Tensor) -> tuple[Any, ...]:
    return t.shape, t.stride(), t.dtype, t.device


def _refuse_lazy_views(tensors: list[Tensor]) -> None:
    """Machine code reads memory as it is, and not with a sign that is still to be changed."""
    if any(t.is_neg() or t.is_conj() for t in tensors):
        raise UncompilableError("it reads a lazy view, such as the imaginary part of z.conj()")


def _modes(kind: str) -> tuple[Any, ...]:
    """What operators are cast to on devices of this kind, if they are, and what new tensors are."""
    cast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
    return cast, torch.get_default_dtype()


def _check_options(options: dict[str, Any]) -> None:
    if options:
        import torch._inductor

        known = torch._inductor.list_options()
        for name in options:
            if name not in known:
                raise TypeError(
                    f"CompiledEnergy: got an option {name!r} that Inductor does not have; expected "
                    "one of torch._inductor.list_options()"
                )


def _too_many(programs: list[_Program]) -> str:
    names = sorted({name for p in programs for name in p.reachable.changes()})
    what = f" ({', '.join(names[:3])} changed)" if names else ""
    return (
        f"the energy came with more than {_MOST_PROGRAMS} shapes or settings{what}; keep what "
        "changes often in a tensor"
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = lines[0] if lines else "no message"
    kind = "" if isinstance(error, UncompilableError) else f"{type(error).__name__}: "
    return f"the energy cannot be compiled ({kind}{detail})"
