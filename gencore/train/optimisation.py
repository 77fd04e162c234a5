"""A module in training: its optimiser, schedule, clipping and averaged weights."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler
from torch.optim.swa_utils import AveragedModel

from gencore.train.batches import Batch
from gencore.train.experiment import Diverged, StateObject
from gencore.train.rank_noise import refuse_same_noise

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.train.recipe import Schedule

__all__ = ["Optimisation", "make_scheduler", "rate_factor", "update_average"]

_Tensors = tuple[Tensor, ...] | list[Tensor]
Loss = Callable[[Batch], Mapping[str, Tensor]]
Check = Callable[[Mapping[str, Tensor]], None]


class Optimisation:
    """What one step does with a module's gradients; of two players a game has one each.

    The parts of a batch (gradient accumulation) see the noise that they would see in the whole:
    torch's default generator starts anew for each, and `Batch` numbers the rows.

    Args:
        fabric: the run's processes.
        module: what is trained.
        optimizer: of its parameters.
        scheduler: steps after each step of the optimiser.
        max_grad_norm: gradients of a larger norm are cut to it; without it none is.
        ema_decay: of the exponential average of the weights; without it there is none.
        ema_warmup: start the average with smaller decays, see `update_average`.
        accumulate: parts in which a batch's gradients are computed, one after another.
        method: of the module, which `model` calls.
        advice: against divergence, as of `Diverged`.

    Attributes:
        module: as given.
        model: the module's method as Fabric wraps it: losses go through it, so that gradients are
            averaged over ranks and the method runs in the run's precision.
        averaged: the module with averaged weights, or the module itself without an average.
        state: what a checkpoint has to hold, for `Experiment.state`.

    Example:
        >>> from gencore.train.devices import launch
        >>> fabric, module = launch(accelerator="cpu"), nn.Linear(2, 1)
        >>> optimisation = Optimisation(fabric, module, torch.optim.SGD(module.parameters(), 0.1))
        >>> batch = Batch(torch.ones(4, 2), None, torch.arange(4))
        >>> scalars = optimisation.step(batch, lambda part: {
        ...     "loss": optimisation.model(part.x).square().mean()
        ... })
        >>> list(scalars), list(optimisation.state)
        (['loss'], ['model', 'optimizer'])
    """

    def __init__(
        self,
        fabric: "Fabric",
        module: nn.Module,
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        max_grad_norm: float | None = None,
        ema_decay: float | None = None,
        ema_warmup: bool = False,
        accumulate: int = 1,
        method: str = "forward",
        advice: str = "a lower learning rate",
    ) -> None:
        self.fabric, self.module, self.scheduler = fabric, module, scheduler
        self._max_grad_norm, self._accumulate, self._advice = max_grad_norm, accumulate, advice
        self._parts_are_watched = True
        self._average: AveragedModel | None = None
        if ema_decay is not None:
            self._average = AveragedModel(
                module,
                device=fabric.device,
                multi_avg_fn=update_average(ema_decay, warmup=ema_warmup),
            ).requires_grad_(False)
        # Fabric's own mark_forward_method would run the method in full precision on one device.
        called = module if method == "forward" else _Method(module, method)
        self.model, self.optimizer = fabric.setup(called, optimizer)

    @property
    def averaged(self) -> nn.Module:
        return self.module if self._average is None else self._average.module

    @property
    def state(self) -> dict[str, StateObject]:
        objects = {
            "model": self.module,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "ema": self._average,
        }
        return {name: obj for name, obj in objects.items() if obj is not None}

    def step(
        self,
        batch: Batch,
        loss: Loss,
        *,
        check: Check | None = None,
    ) -> dict[str, Tensor]:
        """One step down the gradient of the loss, the mean of its values on the parts of a batch.

        Args:
            batch: this rank's rows.
            loss: scalars of some rows, means over them; the first is what is minimised.
            check: raises `Diverged` for scalars, averaged over parts and ranks, that cannot be
                used; by default for a loss that is not finite.

        Returns:
            The scalars, averaged over parts and ranks, and with `max_grad_norm` the norm of the
            gradient before it was cut, as "grad_norm".

        Raises:
            Diverged: by the check; no weight has moved then.
            SameNoiseError: by the first step, where several parts would draw the same noise.
        """
        fabric = self.fabric
        self.optimizer.zero_grad()
        parts = batch.split(self._accumulate)
        rewind = _rewinding(fabric.device) if len(parts) > 1 else None
        sums: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            if number and rewind is not None:
                rewind()
            weight = len(part) / len(batch)
            is_watched = len(parts) > 1 and self._parts_are_watched
            with (
                fabric.no_backward_sync(self.model, enabled=number < len(parts) - 1),
                refuse_same_noise(len(part)) if is_watched else nullcontext(),
            ):
                scalars = loss(part)
                fabric.backward(next(iter(scalars.values())) * weight)
            for name, scalar in scalars.items():
                share = scalar.detach() * weight
                sums[name] = sums[name] + share if name in sums else share
        self._parts_are_watched = False  # looking on takes time: the first step says it all
        means = fabric.all_reduce(sums, reduce_op="mean")
        assert isinstance(means, dict)
        (check or self._check_finite)(means)
        if self._max_grad_norm is not None:
            norm = fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self._max_grad_norm, error_if_nonfinite=False
            )
            assert norm is not None
            means["grad_norm"] = norm
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        if self._average is not None:
            self._average.update_parameters(self.module)
        return means

    def _check_finite(self, scalars: Mapping[str, Tensor]) -> None:
        name, value = next(iter(scalars.items()))
        if not value.isfinite():
            raise Diverged(f"{name} is {value.item()}", advice=self._advice)


class _Method(nn.Module):
    """A method of a module as a forward pass."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.module, self.method)(*args, **kwargs)


def _rewinding(device: torch.device) -> Callable[[], None]:
    """A function that makes torch's default generators draw again what they draw from now on."""
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def rewind() -> None:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)

    return rewind


def make_scheduler(
    optimizer: Optimizer,
    schedule: "Schedule",
    *,
    warmup_steps: int,
    steps: int,
    final: float = 0.0,
) -> LRScheduler | None:
    """The factor of the learning rate in step t = 0, 1, …: from 1/W in a line to 1 in W steps of
    warm-up, 1/W + (1 − 1/W)·t/W, and then 1 ("constant"), or what falls to 0 after the last of T
    steps: 1 − s ("linear") or (1 + cos πs)/2 ("cosine") with s = (t − W)/(T − W). With `final` it
    falls to that, in the same form.

    Returns:
        None where the factor is always 1.
    """
    if schedule == "constant":
        if not warmup_steps:
            return None
        return LinearLR(optimizer, 1 / warmup_steps, total_iters=warmup_steps)

    return LambdaLR(
        optimizer, rate_factor(schedule, warmup_steps=warmup_steps, steps=steps, final=final)
    )


def rate_factor(
    schedule: "Schedule", *, warmup_steps: int, steps: int, final: float = 0.0
) -> Callable[[int], float]:
    """That factor as a function of the step, for players whose optimisers do not step together."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return 1 / warmup_steps + (1 - 1 / warmup_steps) * step / warmup_steps
        if schedule == "constant":
            return 1.0
        s = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
        falling = 1 - s if schedule == "linear" else (1 + math.cos(math.pi * s)) / 2
        return final + (1 - final) * falling

    return factor


def update_average(
    decay: float, *, warmup: bool = False
) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """The update of exponentially averaged weights, w̄ ← w̄ + (1 − d)(w − w̄).

    Args:
        decay: d.
        warmup: the n-th update has d at most (1 + n)/(10 + n), so that the first weights are soon
            forgotten.
    """

    def update(averages: _Tensors, weights: _Tensors, num_averaged: Tensor | int) -> None:
        weight = 1 - decay
        if warmup:
            weight = max(weight, 9 / (10 + float(num_averaged)))
        torch._foreach_lerp_(averages, weights, weight)

    return update
