"""The game of flow contrastive estimation in training: two optimisations and whose turn it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gencore.models import EnergyClassifier, EnergyDensity, Flow, FlowContrastiveEBM, FlowNoise
from gencore.objectives import AdaptiveAlternation
from gencore.ops import random_key
from gencore.recipes.hybrids.flow_game import FlowGameRecipe
from gencore.recipes.untrained import warn_if_untrained
from gencore.train import Batch, Diverged, Optimisation, StateObject
from gencore.train.done_steps import DoneSteps
from gencore.train.optimisation import rate_factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["FlowPlayers"]

_ADVICE = "lower learning rates, more warm-up steps or a smaller cap"


class FlowPlayers:
    """The players of a `FlowContrastiveEBM`.

    Args:
        recipe: their options.
        fabric: the run's processes.
        model: on the run's device.
        density: the module whose parameters are the density's, and its method that losses call.
        method: as above.
    """

    def __init__(
        self,
        recipe: FlowGameRecipe,
        fabric: "Fabric",
        model: FlowContrastiveEBM,
        *,
        density: nn.Module | None = None,
        method: str = "log_prob",
    ) -> None:
        self.recipe, self.fabric, self.model = recipe, fabric, model
        density = model.density if density is None else density
        self.density = self._optimisation(
            density, torch.optim.Adam(density.parameters(), recipe.learning_rate), method
        )
        self.noise = self._optimisation(
            model.noise, torch.optim.Adamax(model.noise.parameters(), recipe.flow_learning_rate),
            "forward",
        )  # fmt: skip
        self.turns = AdaptiveAlternation(warmup=recipe.density_steps, cap=recipe.cap)
        self._done = DoneSteps()  # the learning rates go by it
        self._factor = rate_factor(
            recipe.schedule, warmup_steps=recipe.warmup_steps, steps=recipe.steps
        )
        self.state: Mapping[str, StateObject] = {
            "steps": self._done,
            "turns": self.turns,
            **{f"density_{name}": thing for name, thing in self.density.state.items()},
            **{f"flow_{name}": thing for name, thing in self.noise.state.items()},
        }

    def _optimisation(self, module: nn.Module, optimizer: Optimizer, method: str) -> Optimisation:
        return Optimisation(
            self.fabric, module, optimizer, max_grad_norm=self.recipe.max_grad_norm,
            ema_decay=self.recipe.ema_decay, ema_warmup=True, accumulate=self.recipe.accumulate,
            method=method, advice=_ADVICE,
        )  # fmt: skip

    @property
    def averaged_density(self) -> EnergyDensity | EnergyClassifier:
        """The density with averaged weights, if they are averaged."""
        module = self.density.averaged
        assert isinstance(module, EnergyDensity | EnergyClassifier)
        return module

    @property
    def averaged_flow(self) -> Flow:
        """The flow with averaged weights, if they are averaged."""
        module = self.noise.averaged
        assert isinstance(module, FlowNoise)
        return module.flow

    @property
    def is_flow_warming_up(self) -> bool:
        """Whether the flow still learns by maximum likelihood."""
        return self._done.number < self.recipe.likelihood_steps

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the player whose turn it is, on data x of the batch.

        Returns:
            V, the accuracy of the classification, the flow's mean negative log-likelihood of the
            data, and whether the flow moved; in the mean over ranks.
        """
        if self._done.number == 0 and self.recipe.is_game:
            self._warn_if_untrained()
        key = random_key(device=self.fabric.device)
        self._set_rates()
        if self.is_flow_warming_up:
            found, flow_moves = self._flow_step(batch, key, by_likelihood=True), True
        else:
            flow_moves = self.turns.player == "noise"
            found = self._flow_step(batch, key) if flow_moves else self._density_step(batch, key)
            self.turns.update(found["accuracy"].item())  # alike on all ranks: it is their mean
        self._done.number += 1
        return {**found, "flow_moves": torch.tensor(float(flow_moves))}

    def _warn_if_untrained(self) -> None:
        recipe, likelihood_steps = self.recipe, self.recipe.likelihood_steps
        if recipe.steps <= likelihood_steps:
            warn_if_untrained(
                "the density is not trained", steps=recipe.steps, first_steps=likelihood_steps,
                option="flow_warmup_steps", first_are="the flow's by maximum likelihood",
            )  # fmt: skip
        else:
            warn_if_untrained(
                "the flow is not trained against the density", steps=recipe.steps,
                first_steps=likelihood_steps + recipe.density_steps,
                option="flow_warmup_steps and density_warmup_steps",
                first_are="the warm-ups of the two",
            )  # fmt: skip

    def _set_rates(self) -> None:
        recipe, factor = self.recipe, self._factor(self._done.number)
        flow_rate = (
            recipe.flow_warmup_learning_rate
            if self.is_flow_warming_up
            else recipe.flow_learning_rate
        )
        for optimisation, rate in ((self.density, recipe.learning_rate), (self.noise, flow_rate)):
            for group in optimisation.optimizer.param_groups:
                group["lr"] = rate * factor

    def _density_step(self, batch: Batch, key: Tensor) -> dict[str, Tensor]:
        found = self.density.step(
            batch, lambda part: self.density_losses(part, key), check=self._check
        )
        found["value"] = -found.pop("contrast_loss")
        found.pop("density_loss")
        return _in_order(found)

    def density_losses(self, part: Batch, key: Tensor) -> dict[str, Tensor]:
        """What the density descends, first, and the loss of the contrast alone."""
        with torch.no_grad():
            terms = self.model.noise(part.x, key, part.first)
        contrast = self.model.density_value_of(part.x, terms, log_prob=self.density.model)
        return {
            "density_loss": contrast.loss,
            "contrast_loss": contrast.loss,
            "accuracy": contrast.accuracy,
            "flow_nll": -terms.data_log_q.mean(),
        }

    def _flow_step(
        self, batch: Batch, key: Tensor, *, by_likelihood: bool = False
    ) -> dict[str, Tensor]:
        def losses(part: Batch) -> dict[str, Tensor]:
            terms = self.noise.model(part.x, key, part.first)
            nll = -terms.data_log_q.mean()
            with torch.set_grad_enabled(not by_likelihood):
                value, accuracy = self.model.flow_value_of(part.x, terms)
            named = {"value": value, "accuracy": accuracy, "flow_nll": nll}
            return {"flow_nll": nll, **named} if by_likelihood else named

        return _in_order(self.noise.step(batch, losses, check=self._check))

    def _check(self, scalars: Mapping[str, Tensor]) -> None:
        for name in ("flow_nll", next(iter(scalars))):
            if not scalars[name].isfinite():
                raise Diverged(f"{name} is {scalars[name].item()}", advice=_ADVICE)
        if scalars["flow_nll"] > self.recipe.max_nll:
            raise Diverged(
                f"the flow's negative log-likelihood is {scalars['flow_nll'].item():g} nats, more "
                f"than {self.recipe.max_nll:g}: the game has led it away from the data",
                advice=_ADVICE,
            )


def _in_order(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same columns in the same order, whoever moved."""
    first = {name: found[name] for name in ("value", "accuracy", "flow_nll")}
    return {**first, **found}
