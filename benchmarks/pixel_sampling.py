"""How much faster pixels are drawn when the features of all others are kept.

    python benchmarks/pixel_sampling.py                # a table, in some minutes
    python benchmarks/pixel_sampling.py --full         # the naive method for whole images too

The naive method runs the whole network once a pixel, each run at the same cost, so it is timed over
one row of pixels and multiplied by the rows, between two timings of the incremental method. With
--full it draws whole images as well, which takes a minute or more for each model.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from gencore.models import GatedPixelCNN, PixelCNN, PixelCNNPlusPlus
from gencore.models.autoregressive.image_model import AutoregressiveImageModel

SHAPE = (1, 32, 32)


def models() -> dict[str, AutoregressiveImageModel]:
    """Of the size that the published figures are of: seven layers of 64 channels."""
    return {
        "PixelCNN, 7 layers of 64, 3x3": PixelCNN(SHAPE, 64, 7, kernel_size=3),
        "PixelCNN, 7 layers of 64, 5x5": PixelCNN(SHAPE, 64, 7, kernel_size=5),
        "GatedPixelCNN, 7 layers of 64": GatedPixelCNN(SHAPE, 64, 7),
        "PixelCNN++, 3 scales, 2 blocks of 64": PixelCNNPlusPlus(SHAPE, 64, 2, 3),
        "PixelCNN of colours, 7 layers of 66": PixelCNN((3, 32, 32), 66, 7, kernel_size=3),
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@torch.no_grad()
def measure(model: AutoregressiveImageModel, num: int, *, full: bool) -> tuple[float, float, float]:
    """Seconds for `num` images: naive (by one row), naive in full or NaN, incremental."""
    model.eval()
    passes = model.image_shape[2] * (model.channel_groups if model.channel_groups > 1 else 1)
    x = torch.randint(model.likelihood.levels, (num, *model.image_shape))
    model(x), model.sample(num)  # warm
    incremental = [seconds(lambda: model.sample(num)) for _ in range(3)]
    row = statistics.median(seconds(lambda: model(x)) for _ in range(passes)) * passes
    incremental += [seconds(lambda: model.sample(num)) for _ in range(3)]
    whole = seconds(lambda: model.sample(num, method="naive")) if full else float("nan")
    return row * model.image_shape[1], whole, statistics.median(incremental)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="draw whole images naively too")
    parser.add_argument("--only", default="", help="models whose name has this in it")
    parser.add_argument("--images", type=int, nargs="+", default=[16, 1])
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| model | images | naive, s | naive in full, s | incremental, s | times |")
    print("|---|---|---|---|---|---|")
    for name, model in models().items():
        if arguments.only not in name:
            continue
        for num in arguments.images:
            naive, whole, incremental = measure(model, num, full=arguments.full and num == 16)
            print(
                f"| {name} | {num} | {naive:.2f} | {whole:.2f} | {incremental:.3f} | "
                f"{naive / incremental:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
