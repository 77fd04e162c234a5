"""Experiments, short runs, and whether two stored states are the same."""

from dataclasses import replace

import torch
from testing.toy_recipe import ToyRecipe

from gencore.train import fit
from gencore.train.devices import launch


def make(recipe, dataset=None):
    """The experiment of a recipe on the CPU, and its batches."""
    torch.manual_seed(recipe.seed)
    fabric = launch(accelerator="cpu", precision=recipe.precision)
    dataset = recipe.load_data() if dataset is None else dataset
    return recipe.build(fabric, dataset), recipe.batches(fabric, dataset)


def train(run_dir, recipe=None, **options):
    options = {"log_every": 1, "num_evaluate": 10, "num_samples": 4, **options}
    recipe = recipe or ToyRecipe(steps=20)
    return fit(recipe, run_dir, accelerator="cpu", progress=False, **options)


def train_with_a_stop(folder, recipe, *, stop=1, **options):
    """Experiments that have trained with a stop after some steps, and at once; their states are
    equal bit for bit."""
    options = {"num_samples": 0, "num_evaluate": 0, **options}
    whole = train(folder / "whole", recipe, **options)
    train(folder / "parts", replace(recipe, steps=stop), **options)
    resumed = train(folder / "parts", recipe, resume=True, **options)
    assert_same(*(
        {name: part.state_dict() for name, part in experiment.state.items()}
        for experiment in (resumed, whole)
    ))  # fmt: skip
    return resumed, whole


def assert_same(a, b):
    """Equal in structure and type, tensors bit for bit."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert (
            a.contiguous()
            .view(-1)
            .view(torch.uint8)
            .equal(b.contiguous().view(-1).view(torch.uint8))
        )
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b or (a != a and b != b)
