"""A recipe of one millisecond a step with every kind of state that training can have."""

import math
import signal
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gencore.data import ImageDataset
from gencore.train import Diverged, Experiment, ImageRecipe


@dataclass(kw_only=True)
class ToyRecipe(ImageRecipe):
    """Fits a Gaussian to noisy images.

    Its density is normal with a mean and a standard deviation for each pixel.
    """

    batch_size: int = 8
    """Images in one step."""

    optimizer: Literal["adam", "momentum"] = "adam"
    """The optimiser."""

    learning_rate: float = 0.05
    """Its learning rate."""

    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay rates."""

    amsgrad: bool = False
    """Adam's variant of that name."""

    pause: float = 0.0
    """Seconds to wait in each step."""

    interrupt_at: int = 0
    """The step that sends SIGINT to its own process."""

    diverge_at: int = 0
    """The step that fails."""

    fault: Literal["raise", "loss", "parameter"] = "raise"
    """How it fails."""

    changeable = frozenset({"steps", "pause", "interrupt_at", "diverge_at"})

    def load_data(self):
        generator = torch.Generator().manual_seed(5)
        images = torch.randint(60, 200, (50, 1, 4, 4), dtype=torch.uint8, generator=generator)
        return ImageDataset(images, None, "toy")

    def build(self, fabric, dataset):
        return ToyExperiment(self, fabric)


class Gaussian(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(0.1 * torch.randn(1, 4, 4))
        self.log_std = nn.Parameter(torch.zeros(1, 4, 4))

    def forward(self, x):
        z = (x - self.mean) * torch.exp(-self.log_std)
        return (0.5 * z.square() + self.log_std + 0.5 * math.log(2 * math.pi)).mean()


class ToyExperiment(Experiment):
    def __init__(self, recipe, fabric):
        self.recipe, self.fabric = recipe, fabric
        bare = Gaussian()
        if recipe.optimizer == "adam":
            optimizer = torch.optim.Adam(
                bare.parameters(), lr=recipe.learning_rate, betas=recipe.betas,
                amsgrad=recipe.amsgrad,
            )  # fmt: skip
        else:
            optimizer = torch.optim.SGD(bare.parameters(), lr=recipe.learning_rate, momentum=0.9)
        self.model, self.optimizer = fabric.setup(bare, optimizer)
        self.bare = bare
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 12], gamma=0.5)
        self.ema = AveragedModel(bare, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.steps_done = 0
        self.state = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "ema": self.ema,
            "generator": self.generator,
            "counter": self,
        }

    def state_dict(self):
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state):
        self.steps_done = state["steps_done"]

    def step(self, batch):
        recipe = self.recipe
        time.sleep(recipe.pause)
        self.steps_done += 1
        if self.steps_done == recipe.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        failing = self.steps_done == recipe.diverge_at
        if failing and recipe.fault == "raise":
            raise Diverged("the toy is broken", advice="another toy")
        noise = batch.normal()
        amplitude = torch.rand((), generator=self.generator)
        loss = self.model(batch.x / 255 + 0.1 * amplitude * noise)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        self.ema.update_parameters(self.bare)
        if failing and recipe.fault == "parameter":
            self.bare.mean.data[0, 0, 0] = math.nan
        return {"loss": loss * math.nan if failing and recipe.fault == "loss" else loss}

    def sample(self, num, generator=None):
        noise = torch.randn(num, 1, 4, 4, generator=generator)
        return (self.bare.mean + self.bare.log_std.exp() * noise).detach().clamp(0, 1)

    def evaluate(self, num):
        return {"mean": self.bare.mean.mean().item(), "spread": float(torch.randn(num).std())}
