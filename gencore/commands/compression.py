"""``gencore compress`` and ``gencore decompress``: image files by the model of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gencore.options import UsageError, parse_options
from gencore.recipes.loaded_run import load_run

if TYPE_CHECKING:
    import torch

    from gencore.compression import CompressingModel, VQVAEModel

__all__ = ["CompressOptions", "DecompressOptions", "compress", "decompress"]


@dataclass
class CompressOptions:
    """Compresses images with the model of a trained run: losslessly, unless it is a VQ-VAE.

    They need the size, channels and levels of the run's images. What is kept is the value of each
    pixel, in the order of the images; names, comments and colour profiles of files are not. Of a
    VQ-VAE it is the codes, of which decompress makes images that are like these.
    """

    run_dir: Path
    """The run's folder."""

    images: tuple[Path, ...]
    """Image files, folders of them in the order of their names, and .npy arrays."""

    out: Path | None = None
    """The compressed file; without it IMAGES with .gencore at the end, if it is one path."""

    reduce: bool = False
    """Reduce images of more levels than the run's to their highest bits, as for training; what is
    kept is then the reduced image."""

    label: tuple[int, ...] = ()
    """For a class-conditional run the class of all images, or one for each; without it each image
    has the class that makes it the shortest. The file says the classes."""

    images_per_stream: int = 128
    """Images that are decoded together. Fewer cost more bytes and more time."""


@dataclass
class DecompressOptions:
    """Restores images that gencore compress has compressed with the same trained run."""

    run_dir: Path
    """The run's folder."""

    file: Path
    """The compressed file."""

    out: Path | None = None
    """A folder for 0.png, 1.png, …, or a .npy array; without it the folder FILE without its
    suffix."""


def compress(words: list[str]) -> int:
    """The command."""
    options = parse_options(CompressOptions, words, "gencore compress")
    if options.images_per_stream < 1:
        raise UsageError(f"--images-per-stream must be at least 1, got {options.images_per_stream}")
    if options.out is None and len(options.images) > 1:
        raise UsageError(f"--out is needed for {len(options.images)} paths of images")
    out = options.out or Path(f"{options.images[0]}.gencore")
    if out.is_dir() or out.resolve() in [path.resolve() for path in options.images]:
        raise UsageError(f"--out must be a file other than the images, got {out}")
    model, step = _load_model(options.run_dir)

    from gencore.atomic import replacing
    from gencore.compression import VQVAEModel, compress, decompress, read_exact_images

    channels, height, width = model.image_shape
    shape = channels, height, width
    x = read_exact_images(options.images, shape, _levels(model), reduce=options.reduce)
    labels = _labels(model, options.label, len(x))
    lossy = isinstance(model, VQVAEModel)
    coder = model.codes if isinstance(model, VQVAEModel) else model
    coded = model.encode(x) if isinstance(model, VQVAEModel) else x.long()
    data = compress(coder, coded, context=labels, images_per_stream=options.images_per_stream)
    # Whoever deletes the images relies on it.
    if not decompress(coder, data).cpu().equal(coded.cpu()):
        raise RuntimeError("the compressed images do not come back; nothing is written")
    with replacing(out) as temporary:
        temporary.write_bytes(data)
    rate = f", {8 * len(data) / x.numel():.4g} bits a value" if len(x) else ""
    loss = ", lossy" if lossy else ""
    print(f"{len(x)} images with the model of step {step}: {len(data)} bytes{rate}{loss}: {out}")
    return 0


def decompress(words: list[str]) -> int:
    """The command."""
    options = parse_options(DecompressOptions, words, "gencore decompress")
    out = options.out or options.file.with_suffix("")
    is_new = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if out.suffix not in ("", ".npy") and not out.is_dir():
        raise UsageError(f"--out must be a folder, without a suffix, or a .npy file, got {out}")
    if not is_new and out.suffix != ".npy":
        raise UsageError(f"--out must be a folder that is new or empty, or a .npy file, got {out}")
    if not options.file.is_file():
        raise FileNotFoundError(f"there is no file {options.file}")
    data = options.file.read_bytes()
    model, _ = _load_model(options.run_dir)

    from gencore.compression import (
        CompressedFileError,
        VQVAEModel,
        decompress,
        write_exact_images,
    )

    lossy = isinstance(model, VQVAEModel)
    try:
        x = decompress(model.codes if isinstance(model, VQVAEModel) else model, data)
    except CompressedFileError as error:
        raise CompressedFileError(f"{options.file}: {error}") from error
    if isinstance(model, VQVAEModel):
        x = model.decode(x)
    write_exact_images(x, _levels(model), out)
    print(f"{len(x)} images{', lossy: like those that were compressed' if lossy else ''}: {out}")
    return 0


def _load_model(run_dir: Path) -> "tuple[CompressingModel | VQVAEModel, int]":
    recipe, experiment, step, _ = load_run(run_dir, "cpu", with_data=False)
    if not experiment.can("image_model"):
        raise ValueError(
            f"the recipe {recipe.name} trains no model that compresses images; models that do give "
            "each pixel a distribution, in raster order"
        )
    model: CompressingModel | VQVAEModel = experiment.image_model()
    return model, step


def _levels(model: "CompressingModel | VQVAEModel") -> int:
    from gencore.compression import CodingModel

    return model.coding_session(1).levels if isinstance(model, CodingModel) else model.levels


def _labels(
    model: "CompressingModel | VQVAEModel", labels: tuple[int, ...], num: int
) -> "torch.Tensor | None":
    """The classes of all images, if they are given."""
    import torch

    from gencore.compression import ClassConditionalModel

    if not labels:
        return None
    if not isinstance(model, ClassConditionalModel):
        raise UsageError("--label is for class-conditional runs, which this is not")
    if len(labels) not in (1, num):
        raise UsageError(f"--label has {len(labels)} classes; expected one, or {num}")
    if unknown := [label for label in labels if label not in model.labels]:
        raise UsageError(
            f"--label names no class {unknown[0]}; the classes of the run are "
            f"{' '.join(map(str, model.labels))}"
        )
    return torch.tensor(labels).expand(num)
