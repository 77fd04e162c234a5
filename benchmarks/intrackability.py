"""The curves of Gao 2021, figure 3.4.2: intrackability over the preference for motion.

    python benchmarks/intrackability.py --out runs/intrackability

trains a motion-based generator for each clip and each weight of the residuals' penalty, where it is
not there yet, and writes `table.md` and `intrackability.png`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from gencore.recipes.video.motiongenerator import MotionGeneratorRecipe
from gencore.train import fit

# Clip → where it comes from.
CLIPS: dict[str, dict[str, Any]] = {
    "drifting texture": {"data": "drifting-textures"},
    "man who speaks": {"data": "carphone", "frame_step": 2},
    "bouncing digits": {"data": "bouncing-digits"},
    "white noise": {"data": "white-noise"},
}
WEIGHTS = (0.5, 1.0, 2.0, 5.0)
SHARED = {"frame_size": 32, "num_frames": 8, "langevin_steps": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=list(CLIPS))
    options = parser.parse_args()
    measures = {
        clip: [measured(clip, weight, options.out, options.steps) for weight in WEIGHTS]
        for clip in options.clips
    }
    table = table_of(measures)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    draw(measures, options.out / "intrackability.png")


def measured(clip: str, weight: float, out: Path, steps: int) -> dict[str, float]:
    """The measures of the model of a clip and a weight, which is trained if it is not there."""
    folder = out / f"{clip.replace(' ', '-')}-{weight:g}"
    path = folder / "metrics.json"
    if not path.exists():
        recipe = MotionGeneratorRecipe(**SHARED, **CLIPS[clip], steps=steps, residual_weight=weight)
        fit(recipe, folder, num_samples=0, num_evaluate=1, progress=False)
    measures: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return measures


def table_of(measures: dict[str, list[dict[str, float]]]) -> str:
    """Intrackability, and the mean squared error of pixels in [0, 1] in brackets."""
    head = " | ".join(f"λ₁ = {weight:g}" for weight in WEIGHTS)
    rows = [
        f"| {clip} | "
        + " | ".join(f"{row['intrackability']:.3f} ({row['mse']:.4f})" for row in found)
        + " |"
        for clip, found in measures.items()
    ]
    return "\n".join([f"| clip | {head} |", "|---|" + "---|" * len(WEIGHTS), *rows]) + "\n"


def draw(measures: dict[str, list[dict[str, float]]], path: Path) -> None:
    """A curve for each clip."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for clip, found in measures.items():
        axes.plot(WEIGHTS, [row["intrackability"] for row in found], "o-", label=clip)
    axes.set(xlabel="λ₁", ylabel="intrackability", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
