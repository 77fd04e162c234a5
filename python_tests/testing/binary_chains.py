"""Binary Markov chains as images of one row, and an AGAVE that can model them exactly."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from gencore.models import AGAVE, AutoregressiveImageModel, AuxiliaryVAE, FullResolutionTarget
from gencore.nn import Categorical, CausalConv2d, PixelInput
from gencore.ops import random_key

__all__ = ["ENTROPY", "FLIP", "Costs", "chain_model", "chains", "costs", "train"]

LENGTH, FLIP, LATENTS = 16, 0.1, 4
SHAPE = (1, 1, LENGTH)
ENTROPY = math.log(2) - (LENGTH - 1) * (
    FLIP * math.log(FLIP) + (1 - FLIP) * math.log(1 - FLIP)
)  # nats


class Costs(NamedTuple):
    """Means over chains, in nats."""

    primary: float
    auxiliary: float
    kl: float


def chains(num, generator):
    """Chains [num, 1, 1, 16]."""
    start = torch.randint(2, (num, 1), generator=generator)
    flips = torch.rand(num, LENGTH - 1, generator=generator) < FLIP
    return (torch.cat([start, flips.long()], 1).cumsum(1) % 2).view(num, *SHAPE)


class ChainDecoder(AutoregressiveImageModel):
    """Two causal convolutions of three taps, and a convolution of the map for each."""

    def __init__(self, width=32):
        super().__init__(SHAPE, Categorical(2))
        self.input = PixelInput(1, 2)
        self.first = CausalConv2d(1, width, (1, 3), last=(0, -1))
        self.second = CausalConv2d(width, width, (1, 3))
        self.maps = nn.ModuleList(nn.Conv2d(1, width, (1, 3), padding=(0, 1)) for _ in range(2))
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, x, context=None):
        h = torch.relu(self.first(self.input(x)) + self.maps[0](context))
        return self.last(torch.relu(self.second(h) + self.maps[1](context)))


def chain_model(seed, width=64):
    """The model, its optimiser and its generator of chains and latents."""
    torch.manual_seed(seed)

    def mlp(sizes):
        layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
        return [part for layer in layers for part in (layer, nn.ReLU())][:-1]

    encoder = nn.Sequential(nn.Flatten(), *mlp([LENGTH, width, width, 2 * LATENTS]))
    decoder = nn.Sequential(*mlp([LATENTS, width, width, LENGTH]), nn.Unflatten(1, SHAPE))
    vae = AuxiliaryVAE(encoder, decoder, FullResolutionTarget(SHAPE, 2), LATENTS)
    model = AGAVE(vae, ChainDecoder())
    model.optimizer = torch.optim.Adamax(model.parameters(), 0.002)
    model.generator = torch.Generator().manual_seed(seed)
    return model


def train(model, steps, *, kl_weight, auxiliary_weight=1.0):
    """Steps of Adamax on (3.13) with batches of 128 new chains."""
    for _ in range(steps):
        x = chains(128, model.generator)
        key = random_key(model.generator)
        loss = model(x, kl_weight=kl_weight, auxiliary_weight=auxiliary_weight, key=key)
        model.optimizer.zero_grad()
        loss.backward()
        model.optimizer.step()


@torch.no_grad()
def costs(model, num=20_000):
    """What the terms of the bound cost, over chains that are the same in every call."""
    x = chains(num, torch.Generator().manual_seed(1))
    terms = model.loss_terms(x, key=torch.tensor([1, 0]))
    return Costs(
        -terms.primary.mean().item(), -terms.auxiliary.mean().item(), terms.kl.mean().item()
    )
