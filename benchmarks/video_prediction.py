"""The rows of Table 4.4 on moving shapes: what each loss of multi-scale prediction is worth.

    python benchmarks/video_prediction.py --out runs/shapes
    python benchmarks/video_prediction.py --out runs/carphone --data carphone --rows L1 "GDL + L1"

trains the models of Table 4.3 that are not there yet, narrow and for few steps, measures them and
the baselines on test clips, and writes `table.md` and `predictions.png`.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gencore.data import MovingShapes, VideoDataset, load_video, to_float
from gencore.metrics import evaluate_frame_prediction
from gencore.models import constant_flow, copy_last
from gencore.recipes.video.videoprediction import VideoPredictionRecipe
from gencore.train import RunFolder, fit, load_experiment
from gencore.train.figures import save_contact_sheet

# Row → what differs from the others, as in Table 4.3.
MODELS = {
    "single scale, L2": {"num_scales": 1, "p": 2, "gdl_weight": 0.0, "adversarial_weight": 0.0},
    "L2": {"p": 2, "gdl_weight": 0.0, "adversarial_weight": 0.0},
    "L1": {"gdl_weight": 0.0, "adversarial_weight": 0.0},
    "GDL + L1": {"adversarial_weight": 0.0},
    "Adv": {"gdl_weight": 0.0, "discriminator_learning_rate": 1e-3},
    "Adv + GDL": {"discriminator_learning_rate": 1e-3},
}
SHARED = {"width": 0.0625, "schedule": "linear"}
# Of films, in which little moves and clips are few.
FILMS = {"stride": 2, "min_motion": 0.03}
NUM_GIVEN, NUM_FRAMES = 4, 2
_BATCH, _SHOWN = 20, 4

Predictor = Callable[[Tensor, int], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--clips", type=int, default=200, help="test clips that are measured")
    parser.add_argument("--data", default="moving-shapes", help="as of the recipe")
    parser.add_argument("--rows", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    predictors: dict[str, Predictor] = {
        name: trained(name, options.out, options.steps, options.data) for name in options.rows
    }
    predictors |= {
        "last input": copy_last, "optical flow": partial(constant_flow, data_range=2.0),
    }  # fmt: skip
    clips = load_video(options.data, clip_length=NUM_GIVEN + NUM_FRAMES, split="test")
    table = measured(predictors, clips, options.clips)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    draw(predictors, clips, options.out / "predictions.png")


def trained(name: str, out: Path, steps: int, data: str) -> Predictor:
    """The recursive predictor of a row, trained unless its run is there."""
    settings = {**SHARED, **({} if data == "moving-shapes" else FILMS), **MODELS[name]}
    recipe = VideoPredictionRecipe(data=data, steps=steps, **settings)
    folder = out / name.replace(" ", "").replace(",", "-").replace("+", "-").lower()
    if not RunFolder(folder).checkpoint.exists():
        experiment = fit(recipe, folder, accelerator="cpu", num_evaluate=0, loggers=())
    else:
        experiment, step, _ = load_experiment(folder, recipe, accelerator="cpu")
        if step != steps:
            raise SystemExit(f"{folder} is at step {step} of {steps}: remove it")
    return experiment.model.predict


def first_clips(clips: VideoDataset, num: int) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
    """The first test clips, a few at a time, with what is known to move in them, if it is."""
    num = min(num, len(clips))
    for first in range(0, num, _BATCH):
        part = range(first, min(first + _BATCH, num))
        batch = torch.stack([clips[index] for index in part])
        if isinstance(clips, MovingShapes):
            yield batch, torch.stack([clips.motion(index).moving for index in part])
        else:
            yield batch


def measured(predictors: Mapping[str, Predictor], clips: VideoDataset, num: int) -> str:
    """The tables (a) of whole frames and (b) of moving areas, as Markdown."""
    scores = {
        name: evaluate_frame_prediction(
            predictor, first_clips(clips, num), num_given=NUM_GIVEN, num_frames=NUM_FRAMES,
            low=-1.0, high=1.0,
        )
        for name, predictor in predictors.items()
    }  # fmt: skip
    text = ""
    for title, area in (("(a) whole frames", "full"), ("(b) moving areas", "moving")):
        text += f"| {title} | 1st frame: PSNR | SSIM | sharpness "
        text += "| 2nd frame: PSNR | SSIM | sharpness |\n|---|---|---|---|---|---|---|\n"
        for name, score in scores.items():
            values = getattr(score, area)
            text += f"| {name} |"
            for frame in range(NUM_FRAMES):
                psnr, ssim, sharpness = (column[frame].item() for column in values[:3])
                text += f" {psnr:.1f} | {ssim:.3f} | {sharpness:.1f} |"
            text += "\n"
        text += "\n"
    fractions = ", ".join(f"{100 * share:.0f} %" for share in score.moving_fraction.tolist())
    return f"{text}Pixels that move to the first and to the second frame: {fractions}.\n"


def draw(predictors: Mapping[str, Predictor], clips: VideoDataset, path: Path) -> None:
    """Both predicted frames of a few clips side by side: the true ones, then a row a predictor."""
    shown = torch.stack([clips[index] for index in range(min(_SHOWN, len(clips)))])
    rows = [to_float(shown[:, NUM_GIVEN:])]
    given = to_float(shown[:, :NUM_GIVEN], -1, 1)
    with torch.no_grad():
        rows += [(predict(given, NUM_FRAMES) + 1) / 2 for predict in predictors.values()]
    save_contact_sheet(torch.stack(rows).flatten(1, 2), path, min_side=500)


if __name__ == "__main__":
    main()
