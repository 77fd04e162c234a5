"""The rows of Table 4.4 on moving shapes: what each loss of multi-scale prediction is worth.

    python benchmarks/video_prediction.py --out runs/video     # trains what is not there yet

trains the models of Table 4.3, narrow and for few steps, measures them and the baselines on test
clips, and writes `table.md` and `predictions.png`.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gencore.recipes.video.videoprediction import VideoPredictionRecipe
from gencore.train import RunFolder, fit, load_experiment

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
COLUMNS = ("psnr", "ssim", "sharpness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--train-only", action="store_true")
    options = parser.parse_args()
    predictors = {name: trained(name, options.out, options.steps) for name in MODELS}
    if not options.train_only:
        from gencore.models import constant_flow, copy_last

        predictors |= {
            "last input": copy_last,
            "optical flow": partial(constant_flow, data_range=2.0),
        }
        table = measure(predictors, options.clips)
        (options.out / "table.md").write_text(table, encoding="utf-8")
        print(table)
        draw(predictors, options.out / "predictions.png")


def trained(name: str, out: Path, steps: int) -> Callable[[Tensor, int], Tensor]:
    """The recursive predictor of a row, trained unless its run is there."""
    recipe = VideoPredictionRecipe(steps=steps, **{**SHARED, **MODELS[name]})
    folder = out / name.replace(" ", "").replace(",", "-").replace("+", "-").lower()
    if not RunFolder(folder).checkpoint.exists():
        experiment = fit(recipe, folder, accelerator="cpu", num_evaluate=0, loggers=())
    else:
        experiment, step, _ = load_experiment(folder, recipe, accelerator="cpu")
        if step != steps:
            raise SystemExit(f"{folder} is at step {step} of {steps}: remove it")
    return torch.no_grad()(experiment.model.predict)


if __name__ == "__main__":
    main()
