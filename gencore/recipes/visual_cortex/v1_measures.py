"""How well cells tell displacements, how like Gabor functions they are, and pictures of both."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gencore.data import MovingPair, flow_to_image, optical_flow
from gencore.data.video.deformations import spline_fields
from gencore.metrics import endpoint_error, fit_gabor, pair_coherence, pair_phase
from gencore.models import complex_energy
from gencore.ops import warp
from gencore.train.chunks import chunks

if TYPE_CHECKING:
    from gencore.models import SimpleCells
    from gencore.recipes.visual_cortex.v1_experiment import V1Experiment

__all__ = ["measure_cells", "measure_motion", "show_cells"]

# Pairs that are measured at once, which bounds the memory.
_CHUNK = 64
# The classic methods take a tenth of a second a pair.
_FLOW_PAIRS = 128
_FRAMES = 5
_SHOWN = 6
# Blocks of less than this part of the largest mean energy are out of use: there are more of them
# than images of few frequencies need.
_IN_USE = 0.05
# Below, two filters have too little in common for a difference of phase.
_COHERENT = 0.5


def measure_motion(experiment: "V1Experiment", images: Tensor, numbers: Tensor) -> dict[str, float]:
    """Average end-point errors at the patches, and mean squared errors of images, over pairs of
    images [N, C, H, W] that move as numbers [N, …] tell."""
    frame = experiment.model.frame
    sums: dict[str, tuple[float, int]] = {}

    def add(name: str, values: Tensor) -> None:
        total, num = sums.get(name, (0.0, 0))
        sums[name] = total + values.double().sum().item(), num + values.numel()

    for start, pair, first, second, truth in _pairs(experiment, images, numbers):
        add("aee", endpoint_error(experiment.infer(first, second), truth))
        add("aee/nothing", endpoint_error(torch.zeros_like(truth), truth))
        largest = experiment.recipe.max_displacement
        chance = largest * (2 * torch.rand(truth.shape, device="cpu") - 1).to(truth)
        add("aee/chance", endpoint_error(chance, truth))
        if start < _FLOW_PAIRS:
            shown = pair.cropped(experiment.recipe.margin)
            # δ leads from the second image to where the first one has the same.
            for method in ("tvl1", "ilk"):
                flow = optical_flow(shown.second, shown.first, method=method)
                add(f"aee/{method}", endpoint_error(frame.interior(frame.at_centres(flow)), truth))
        add("mse/reconstruction", (frame.decode(frame(first)) - first).square())
        add("mse/blank", first.square())
        if len(experiment.model.motion.offsets) == 1:
            decoded, true = _animation(experiment, first)
            margin = experiment.recipe.patch_size // 2
            inner = (..., slice(margin, -margin), slice(margin, -margin))
            add("mse/animation", (decoded - true)[inner].square())
            add("mse/still", (first.unsqueeze(1) - true)[inner].square())
    return {name: total / num for name, (total, num) in sums.items()}


def measure_cells(cells: "SimpleCells", seen: Tensor) -> dict[str, float]:
    """Gabor fits of the units in use with the images [N, C, H, W] that are seen, phases within
    pairs of them, and how far M(0) is from the identity."""
    energy = complex_energy(cells.frame(seen)).mean((0, 2, 3))
    used = energy >= _IN_USE * energy.max()
    weight = cells.frame.weight.detach()[used].mean(2)
    fit = fit_gabor(weight.flatten(0, 1))
    measures = {
        "blocks/in_use": used.double().mean().item(),
        "gabor/r_squared": fit.r_squared.nanmean().item(),
        "gabor/r_squared_median": fit.r_squared.nanmedian().item(),
        "gabor/frequency": fit.frequency.median().item(),
        "gabor/bandwidth": fit.bandwidth.median().item(),
        "gabor/low_pass": fit.bandwidth.isinf().double().mean().item(),
        "gabor/folded_phase": fit.folded_phase.mean().rad2deg().item(),
    }
    if weight.shape[1] == 2:
        coherent = pair_coherence(weight) > _COHERENT
        phase = pair_phase(weight).rad2deg()[coherent]
        measures["pairs/coherent"] = coherent.double().mean().item()
        measures["pairs/phase"] = phase.mean().item()
        measures["pairs/from_quadrature"] = (phase - 90).abs().mean().item()
    origin = cells.motion(weight.new_zeros(2))[used]
    middle = len(cells.motion.offsets) // 2 * weight.shape[1]
    still = torch.zeros_like(origin)
    still[..., middle : middle + weight.shape[1]] = torch.eye(weight.shape[1])
    measures["motion/from_identity"] = (origin - still).abs().max().item()
    return measures


def show_cells(experiment: "V1Experiment", folder: Path) -> None:
    """filters.png, the strongest cells first; displacements.png; animation.png."""
    from gencore.train.figures import image_grid, save_image_grid

    num = min(_SHOWN, len(experiment.test))
    drawn = experiment.test.subset(torch.randperm(len(experiment.test))[: 8 * num]).images
    # Of the sky there is nothing to see.
    images = drawn[drawn.flatten(1).float().var(1).argsort(descending=True)[:num]]
    numbers = torch.rand(num, experiment.num_numbers)
    _, pair, first, second, truth = next(_pairs(experiment, images, numbers))
    cells = experiment.model
    energy = complex_energy(cells.frame(first)).mean((0, 2, 3))
    weight = cells.frame.weight.detach()[energy.argsort(descending=True)].mean(2, keepdim=True)
    largest = weight.abs().amax((1, 2, 3, 4), keepdim=True).clamp(min=1e-12)
    blocks = [image_grid(block, columns=len(block)) for block in 0.5 + 0.5 * weight / largest]
    save_image_grid(torch.stack(blocks), folder / "filters.png", columns=6)

    shown = pair.cropped(experiment.recipe.margin)
    found = experiment.infer(first, second)
    to_pixels, side = experiment.model.frame.to_pixels, experiment.side
    largest_flow = math.sqrt(2) * experiment.recipe.max_displacement
    flow = optical_flow(shown.second, shown.first)
    fields = [to_pixels(truth, side, side), to_pixels(found, side, side), flow]
    columns = [image.expand(-1, 3, -1, -1) for image in shown[:2]]
    columns += [flow_to_image(field, max_flow=largest_flow) / 255 for field in fields]
    save_image_grid(
        torch.stack(columns, 1).flatten(0, 1), folder / "displacements.png", columns=len(columns)
    )
    if len(experiment.model.motion.offsets) == 1:
        decoded, true = (
            torch.cat([begin.unsqueeze(1), frames], 1)
            for begin, frames in zip(
                (experiment.model.frame.decode(experiment.model.frame(first)), first),
                _animation(experiment, first),
                strict=True,
            )
        )
        strips = 0.5 + 0.5 * torch.stack([true, decoded], 1)
        save_image_grid(strips.flatten(0, 2), folder / "animation.png", columns=_FRAMES + 1)


def _pairs(
    experiment: "V1Experiment", images: Tensor, numbers: Tensor
) -> Iterator[tuple[int, MovingPair, Tensor, Tensor, Tensor]]:
    """Some pairs at a time: where they begin, and what `moving` and `seen` make of them."""
    device = experiment.fabric.device
    for part in chunks(len(images), _CHUNK):
        pair = experiment.moving(images[part].to(device), numbers[part].to(device))
        yield part.start, pair, *experiment.seen(pair)


def _animation(experiment: "V1Experiment", first: Tensor) -> tuple[Tensor, Tensor]:
    """Five frames [N, 5, C, H, W] that the cells animate, and those that warping makes, by fields
    that are drawn anew from frame to frame."""
    largest = experiment.recipe.max_displacement / 2
    frame = experiment.model.frame
    steps, true = [], []
    image = first
    for _ in range(_FRAMES):
        control = largest * (2 * torch.rand(len(first), 2, 4, 4) - 1).to(first)
        field = spline_fields(control, *first.shape[2:])
        image = warp(image, field, padding="border")
        steps.append(frame.at_centres(field))
        true.append(image)
    decoded = experiment.model.animate(first, torch.stack(steps, 1))
    return decoded, torch.stack(true, 1)
