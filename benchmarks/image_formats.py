"""Bits a value that losslessly compressed images take: a trained model beside PNG, WebP, JPEG XL.

    python benchmarks/image_formats.py --data digits --levels 16 [--run runs/digits]

All see the same held-out images, reduced to the same levels. A format that has a head in each file
is at a loss with small images, so that each stands twice: a file an image, and one file for the
mosaic of all of them. What each format's encoder is given is the best of what it can be given: the
values 0 to 255 that show the levels, or the levels themselves, for PNG also as a palette of as many
bits as they need. Every file is decoded and compared.
"""

import argparse
import io
import lzma
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gencore.compression import compress, decompress
from gencore.compression.image_files import shown_values
from gencore.data import load_images

Pixels = NDArray[np.uint8]
Encoder = Callable[[Pixels, int], list[bytes]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="digits", help="images, as gencore train takes them")
    parser.add_argument("--levels", type=int, default=256)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--num", type=int, help="images; without it all of the test part")
    parser.add_argument("--run", type=Path, help="folder of a run that compresses images")
    options = parser.parse_args()
    images = load_images(options.data, split="test", image_size=options.image_size).images
    x = reduced(images[: options.num], options.levels)
    size = "x".join(map(str, x.shape[1:]))
    print(f"{len(x)} images of {size} with {options.levels} levels, of {options.data}\n")
    print("| coder | a file an image | one file | seconds |\n|---|---|---|---|")
    for name, encoder in encoders(options.levels).items():
        started = time.perf_counter()
        one_by_one = sum(best(encoder, image, options.levels) for image in pixels(x))
        together = best(encoder, mosaic(pixels(x)), options.levels)
        row(name, x, one_by_one, together, time.perf_counter() - started)
    if options.run is not None:
        compare_run(options.run, x)


def compare_run(run_dir: Path, x: Tensor) -> None:
    from gencore.recipes.loaded_run import load_run

    recipe, experiment, _, _ = load_run(run_dir, "cpu", with_data=False)
    model = experiment.image_model()
    for size in (1, 128):
        started = time.perf_counter()
        together = compress(model, x, images_per_stream=size)
        one_by_one = sum(len(compress(model, image[None])) for image in x)
        seconds = time.perf_counter() - started
        assert decompress(model, together).equal(x)
        name = f"gencore, {recipe.name}, {size} image{'s' * (size > 1)} a stream"
        row(name, x, one_by_one, len(together), seconds)


def row(name: str, x: Tensor, one_by_one: int, together: int, seconds: float) -> None:
    bits = [8 * size / x.numel() for size in (one_by_one, together)]
    print(f"| {name} | {bits[0]:.3f} | {bits[1]:.3f} | {seconds:.1f} |", flush=True)


def reduced(images: Tensor, levels: int) -> Tensor:
    """The levels that recipes train on, int64: of 2^b the b highest bits."""
    return images.long() * levels // 256


def pixels(x: Tensor) -> list[Pixels]:
    """[H, W] or [H, W, 3] of each image."""
    images = x.permute(0, 2, 3, 1).contiguous().to(torch.uint8).numpy()
    return [image[..., 0] if x.shape[1] == 1 else image for image in images]


def mosaic(images: list[Pixels]) -> Pixels:
    """All images in one, nearly square; black where there are none left."""
    columns = math.ceil(math.sqrt(len(images)))
    filled = images + [np.zeros_like(images[0])] * (-len(images) % columns)
    rows = [np.concatenate(filled[i : i + columns], 1) for i in range(0, len(filled), columns)]
    return np.concatenate(rows)


def best(encoder: Encoder, image: Pixels, levels: int) -> int:
    """Bytes of the smallest file that an encoder makes."""
    return min(map(len, encoder(image, levels)))


def encoders(levels: int) -> dict[str, Encoder]:
    found: dict[str, Encoder] = {"xz of the levels": xz, "PNG": png, "WebP": webp}
    try:
        import pillow_jxl  # noqa: F401 - Pillow then knows the format
    except ImportError:
        print("JPEG XL is left out: pip install pillow-jxl-plugin\n")
    else:
        found["JPEG XL"] = jpeg_xl
    return found


def xz(image: Pixels, levels: int) -> list[bytes]:
    return [lzma.compress(image.tobytes(), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])]


def png(image: Pixels, levels: int) -> list[bytes]:
    files = [
        saved(Image.fromarray(form), form, "PNG", optimize=True) for form in forms(image, levels)
    ]
    bits = next(bits for bits in (1, 2, 4, 8) if 2**bits >= levels)
    if image.ndim == 2 and bits < 8:
        palette = Image.fromarray(image)
        palette.putpalette(np.repeat(shown_values(levels).numpy(), 3).tobytes())
        files.append(saved(palette, image, "PNG", bits=bits, optimize=True))
    return files


def webp(image: Pixels, levels: int) -> list[bytes]:
    options = {"lossless": True, "quality": 100, "method": 6}
    return [saved(coloured(form), form, "WEBP", **options) for form in forms(image, levels)]


def jpeg_xl(image: Pixels, levels: int) -> list[bytes]:
    options = {"lossless": True, "effort": 9}
    return [saved(Image.fromarray(form), form, "JXL", **options) for form in forms(image, levels)]


def forms(image: Pixels, levels: int) -> list[Pixels]:
    """The values that show the levels, and where they are not the same the levels as values."""
    shown = shown_values(levels).numpy()[image]
    return [shown] if levels == 256 else [shown, image]


def coloured(image: Pixels) -> Image.Image:
    """Of three equal channels where it is grey: WebP has no other, and codes no others then."""
    return Image.fromarray(image).convert("RGB")


def saved(picture: Image.Image, expected: Pixels, kind: str, **options: bool | int) -> bytes:
    """The bytes of a file, which give the pixels back."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    with Image.open(file) as opened:
        found = np.array(opened)
    if found.ndim > expected.ndim:
        found = found[..., 0]
    assert (found == expected).all(), kind
    return file.getvalue()


if __name__ == "__main__":
    main()
