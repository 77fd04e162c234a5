"""How well scores of VAEs tell other images from those that the VAEs were trained on.

    python benchmarks/out_of_distribution.py --out runs/ood

trains a VAE and a background VAE on MNIST's digits, and another two on grey patches of photographs,
where they are not there yet, scores images of each and of other sets, and writes `table.md` and
`scores.png`. All sets come with installed packages or are made here: none is downloaded. Images
have 28x28 pixels of 16 grey levels, and the networks the form of Yan 2022, table 4.6, with fewer
channels.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.data import constant_images, load_images, mutate_pixels, noise_images
from gencore.metrics import (
    LatentNovelty,
    complexity_score,
    compressed_bits,
    detection_scores,
    likelihood_ratio_score,
)
from gencore.models import VAE, LevelLikelihood, RegretOf, likelihood_regret
from gencore.nn import Categorical, DCGANDiscriminator, DCGANGenerator

LEVELS, SIDE, LATENTS, WIDTH = 16, 28, 32, 8
BATCH_SIZE, LEARNING_RATE = 64, 5e-4
MUTATION_RATE, WEIGHT_DECAY = 0.3, 10.0
NUM_SAMPLES = 20
NUM_VALIDATION = 400
REGRETS: Mapping[str, RegretOf] = {
    "LR_E": "encoder", "LR_Z": "latents", "LR_D": "decoder", "LR_ED": "both",
}  # fmt: skip
NAMES = (*REGRETS, "likelihood", "IC png", "IC jp2", "ratio", "LMD")
MEASURES = {"auroc": "AUROC", "auprc": "AUPRC", "fpr80": "FPR80"}


def digits(split: str = "test") -> Tensor:
    return load_images("mnist", split=split).images


def photographs(split: str = "test") -> Tensor:
    return load_images("photographs", split=split, image_size=SIDE, channels=1).images


def named(name: str) -> Tensor:
    return load_images(name, split="test", image_size=SIDE, channels=1).images


def faces() -> Tensor:
    parts = [load_images("faces", split=part, image_size=SIDE).images for part in ("train", "test")]
    return torch.cat(parts)


def made(make: Callable[..., Tensor]) -> Callable[[], Tensor]:
    return lambda: make(200, (1, SIDE, SIDE), key=torch.tensor([0, 0]))


IN_DISTRIBUTION = {"mnist": digits, "photographs": photographs}
ELSEWHERE: Mapping[str, Mapping[str, Callable[[], Tensor]]] = {
    "mnist": {
        "digits of scikit-learn": lambda: named("digits"),
        "MNIST, upside down": lambda: digits().flip(2),
        "MNIST, turned left": lambda: digits().rot90(1, (2, 3)),
        "photographs": photographs,
        "textures": lambda: named("textures"),
        "faces": faces,
        "noise": made(noise_images),
        "constant": made(constant_images),
    },
    "photographs": {
        "MNIST": digits,
        "digits of scikit-learn": lambda: named("digits"),
        "two other photographs": lambda: named("photos"),
        "textures": lambda: named("textures"),
        "faces": faces,
        "noise": made(noise_images),
        "constant": made(constant_images),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=ELSEWHERE, default=list(ELSEWHERE))
    parser.add_argument("--steps", type=int, default=1500, help="of training, a model")
    parser.add_argument("--images", type=int, default=100, help="of each set that are scored")
    parser.add_argument("--regrets", nargs="+", choices=REGRETS, default=["LR_E", "LR_Z"])
    parser.add_argument("--workers", type=int, default=2, help="sets that are scored at once")
    parser.add_argument("--time", action="store_true", help="time regrets, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.time:
        for data in options.data:
            print(timed(trained(data, options.out, options.steps), data))
        return
    jobs = []
    for data in options.data:
        prepared(data, options.out, options.steps)  # in front of the processes, which share it
        given = options.out, options.steps, options.images, tuple(options.regrets)
        jobs += [(data, name, *given) for name in (data, *ELSEWHERE[data])]
    with ProcessPoolExecutor(options.workers) as pool:
        found = dict(
            zip([job[:2] for job in jobs], pool.map(scored, *zip(*jobs, strict=True)), strict=True)
        )
    scores = {
        data: {name: found[data, name] for name in (data, *ELSEWHERE[data])}
        for data in options.data
    }
    texts = [tabulated(data, scores[data], measure) for data in scores for measure in MEASURES]
    (options.out / "table.md").write_text("\n".join(texts), encoding="utf-8")
    print("\n".join(texts))
    draw(scores, options.out / "scores.png")


def levels(images: Tensor) -> Tensor:
    """The four highest bits, uint8."""
    return images >> 4


def floats(images: Tensor) -> Tensor:
    """Levels in [0, 1], as the model takes them."""
    return images.float() / (LEVELS - 1)


def spread(images: Tensor, num: int) -> Tensor:
    """So many images, evenly over those that there are."""
    return images[torch.arange(min(num, len(images))) * len(images) // min(num, len(images))]


def trained(data: str, out: Path, steps: int, mutation_rate: float = 0.0) -> VAE:
    """A VAE of all training images but the last, or of mutated ones; read where it is there."""
    torch.manual_seed(0)
    network = DCGANDiscriminator((1, SIDE, SIDE), width=WIDTH)
    encoder = nn.Sequential(network.features, nn.Linear(network.num_features, 2 * LATENTS))
    decoder = DCGANGenerator(LATENTS, (LEVELS, SIDE, SIDE), width=WIDTH, pixel_range="free")
    vae = VAE(encoder, decoder, LATENTS, likelihood=LevelLikelihood(Categorical(LEVELS), 1))
    path = out / data / f"{'background' if mutation_rate else 'main'}-{steps}.pt"
    if path.exists():
        vae.load_state_dict(torch.load(path))
        return vae.eval()
    images = fitted(data)[:-NUM_VALIDATION]
    decay = WEIGHT_DECAY if mutation_rate else 0.0
    optimizer = torch.optim.Adam(vae.parameters(), LEARNING_RATE, weight_decay=decay, fused=True)
    start = time.process_time()
    for step in range(steps):
        x = images[torch.randint(len(images), (BATCH_SIZE,))]
        if mutation_rate:
            x = mutate_pixels(x, mutation_rate, levels=LEVELS)
        loss = vae(floats(x)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"{path.stem} {data} {step} {loss.item():.1f}", flush=True)
    print(f"{path.stem} {data}: {time.process_time() - start:.0f} s", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(vae.state_dict(), path)
    return vae.eval()


def fitted(data: str) -> Tensor:
    """The levels of the training part, in a random order, as patches lie picture by picture."""
    images = IN_DISTRIBUTION[data]("train")
    return levels(images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))])


@cache
def prepared(data: str, out: Path, steps: int) -> tuple[VAE, VAE, LatentNovelty]:
    """The model, the background model, and the latent distances of the model."""
    model = trained(data, out, steps)
    background = trained(data, out, steps, MUTATION_RATE)
    images = fitted(data)
    train, validation = images[:-NUM_VALIDATION], images[-NUM_VALIDATION:]
    with torch.no_grad():
        codes = torch.cat([model.codes(part) for part in floats(train).split(256)])
    return model, background, LatentNovelty(codes, *coded(model, validation))


def scored(
    data: str, name: str, out: Path, steps: int, num: int, regrets: Sequence[str]
) -> dict[str, Tensor]:
    """Score → values of a set, of twice as many images where it is the model's own; kept."""
    torch.set_num_threads(1)
    path = out / data / f"{name}-{steps}-{num}-{'-'.join(regrets)}.json"
    if not path.exists():
        own = name == data
        images = spread((IN_DISTRIBUTION if own else ELSEWHERE[data])[name](), num * (1 + own))
        values = scores_of(*prepared(data, out, steps), levels(images), regrets)
        path.write_text(json.dumps({key: part.tolist() for key, part in values.items()}))
        print(path.name, flush=True)
    kept = json.loads(path.read_text())
    return {key: torch.tensor(part, dtype=torch.float64) for key, part in kept.items()}


@torch.no_grad()
def coded(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of images and the squared errors of their reconstructions."""
    codes, errors = [], []
    for part in floats(images).split(256):
        codes.append(model.codes(part))
        errors.append((model.decode(codes[-1]) - part).square().flatten(1).sum(1))
    return torch.cat(codes), torch.cat(errors)


def scores_of(
    model: VAE,
    background: VAE,
    novelty: LatentNovelty,
    images: Tensor,
    regrets: Sequence[str],
) -> dict[str, Tensor]:
    """Score → values [N], higher for images from elsewhere."""
    x, key = floats(images), torch.tensor([1, 0])
    scores = {}
    for name in regrets:
        found = likelihood_regret(model, x, REGRETS[name], num_samples=NUM_SAMPLES, key=key)
        scores[name] = found.regret
    with torch.no_grad():
        log_prob = model.log_prob_bound(x, NUM_SAMPLES, key=key)
        ground = background.log_prob_bound(x, NUM_SAMPLES, key=key)
        scores["LMD"] = novelty(*coded(model, images))
    return {
        **scores,
        "likelihood": -log_prob,
        "IC png": complexity_score(log_prob, compressed_bits(images, "png")),
        "IC jp2": complexity_score(log_prob, compressed_bits(images, "jpeg2000")),
        "ratio": likelihood_ratio_score(log_prob, ground),
    }


def timed(model: VAE, data: str, num: int = 64, alone: int = 4, steps: int = 10) -> str:
    """Milliseconds of a step and an image, of images in one batch and of one after another."""
    x = floats(levels(spread(IN_DISTRIBUTION[data](), num)))
    text = (
        f"\nms a step and image, model of {data}\n\n| | batches of {num} | of 1 |\n|---|---|---|\n"
    )
    for name, of in REGRETS.items():
        times = []
        for batch_size in (num, 1):
            some = x[: max(batch_size, alone)]
            start = time.process_time()
            likelihood_regret(
                model, some, of, num_samples=1, num_steps=steps, batch_size=batch_size
            )
            times.append(1000 * (time.process_time() - start) / (steps * len(some)))
        text += f"| {name} | {times[0]:.1f} | {times[1]:.1f} |\n"
    return text


def tabulated(data: str, sets: Mapping[str, Mapping[str, Tensor]], measure: str) -> str:
    """One measure of each score and set, as Markdown."""
    names = [name for name in NAMES if name in sets[data]]
    text = f"\n{MEASURES[measure]}, trained on {data}\n\n| | {' | '.join(names)} |\n"
    text += "|" + (1 + len(names)) * "---|" + "\n"
    for name, scores in sets.items():
        if name != data:
            values = [
                getattr(detection_scores(sets[data][score], scores[score]), measure)
                for score in names
            ]
            text += f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |\n"
    return text


def draw(scores: Mapping[str, Mapping[str, Mapping[str, Tensor]]], path: Path) -> None:
    """Histograms of the likelihood, the regret and the input complexity, a row a model."""
    import matplotlib.pyplot as plt

    titles = {
        "likelihood": "less log-likelihood, nats",
        "LR_E": "likelihood regret LR_E, nats",
        "IC png": "input complexity, bits",
    }
    figure, axes = plt.subplots(
        len(scores), 3, figsize=(12, 3 * len(scores)), layout="constrained", squeeze=False
    )
    for row, (data, sets) in zip(axes, scores.items(), strict=True):
        for axis, (score, title) in zip(row, titles.items(), strict=True):
            values = {name: some[score] for name, some in sets.items()}
            low, high = (
                getattr(torch.stack([end(v) for v in values.values()]), find)().item()
                for end, find in ((torch.amin, "min"), (torch.amax, "max"))
            )
            edges = torch.linspace(low, high + 1e-6 * abs(high), 41).tolist()
            for name, some in values.items():
                style = {"color": "black", "linewidth": 2} if name == data else {"alpha": 0.8}
                axis.hist(some.tolist(), edges, density=True, histtype="step", label=name, **style)
            axis.set(title=f"trained on {data}: {title}", yscale="log", yticks=[])
            axis.minorticks_off()
            axis.title.set_fontsize(9)
        row[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
