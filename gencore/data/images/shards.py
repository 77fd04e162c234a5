"""Images in the .tar shards of WebDataset: streamed, or read into memory."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from gencore.data.images.decoding import IMAGE_SUFFIXES, decode_image
from gencore.data.images.part import ImagePart
from gencore.data.images.pixels import convert_channels, resize_images
from gencore.data.shares import check_place, epoch_order
from gencore.data.splits import Split, split_indices
from gencore.extras import data_extra

__all__ = ["ShardSample", "ShardedImages", "find_shards", "holds_shards", "read_shards"]

# Names of shards that belong to one part, as in train-000.tar and imagenet_test-7.tar.
_PART = re.compile(r"(?:^|.*[-_.])(train|test)(?:[-_.\d].*|$)", re.IGNORECASE)

_MAX_BYTES = 4 * 2**30
_END_BYTES = 1024


class ShardSample(NamedTuple):
    """One image of a shard."""

    image: Tensor
    """uint8 [C, H, W]."""

    label: int
    """Its class, or -1 where there is none."""

    key: str
    """Its name in the shard, without the suffix."""


class ShardedImages(IterableDataset[ShardSample]):
    """The images of .tar shards as a stream, of which no more than a buffer is in memory.

    A sample is an image file and, beside it, optionally a file `.cls` with its class as a decimal
    number; both have one name before the first dot. Other files of a sample are passed over.

    The shards are shuffled anew in every epoch and dealt to the processes, and within a process to
    the workers of its `DataLoader`, in turn, so that every image is seen once an epoch. A buffer
    shuffles images of neighbouring shards. The order depends on seed, epoch, the buffer's size and
    the numbers of processes and workers alone. Shards differ in size, and processes so in the
    number of their images: a loop in which processes wait for each other takes a fixed number of
    them (`itertools.islice`).

    Args:
        source: A shard, a pattern like `set-{000..007}.tar`, a directory with shards, or a list of
            shards.
        split: The part to stream: shards with `train` and `test` in their names. None streams all.
        image_size: Side of the square that every image is resized and cropped to.
        channels: 1 or 3; without it images keep theirs.
        background: Grey level behind transparent pixels.
        seed: Of the shuffles; None streams shards and images in the order of their names.
        buffer_size: Images in the buffer that shuffles.
        rank: This process, by default of torch.distributed, or 0.
        world_size: Number of processes, by default of torch.distributed, or 1.

    Raises:
        FileNotFoundError: a shard, or a shard of this part, is missing.
        ModuleNotFoundError: webdataset or Pillow is not installed.
        ValueError: an argument is out of range; there are fewer shards than processes and workers;
            or, while streaming, a shard is damaged or cut short, an image cannot be decoded, a
            sample has no image or several, or a class is no number.

    Source:
        Aizman, Maltby and Breuel, "High Performance I/O For Large Scale Deep Learning", 2019.

    Example:
        >>> import tarfile, tempfile
        >>> from PIL import Image
        >>> def write(folder, index):
        ...     image = io.BytesIO()
        ...     Image.new("L", (3, 2), index).save(image, "png")
        ...     with tarfile.open(Path(folder, f"a-{index}.tar"), "w") as tar:
        ...         for suffix, content in (("png", image.getvalue()), ("cls", b"%d" % index)):
        ...             info = tarfile.TarInfo(f"{index:03}.{suffix}")
        ...             info.size = len(content)
        ...             tar.addfile(info, io.BytesIO(content))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for index in range(4):
        ...         write(folder, index)
        ...     stream = ShardedImages(folder, rank=1, world_size=2)
        ...     for sample in stream:
        ...         print(sample.key, sample.label, tuple(sample.image.shape))
        001 1 (1, 2, 3)
        003 3 (1, 2, 3)
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        split: Split | None = None,
        image_size: int | None = None,
        channels: int | None = None,
        background: int = 255,
        seed: int | None = None,
        buffer_size: int = 1000,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if image_size is not None and image_size < 1:
            raise ValueError(f"ShardedImages: image_size = {image_size}, expected at least 1")
        if channels not in (None, 1, 3):
            raise ValueError(f"ShardedImages: channels = {channels}, expected 1, 3 or None")
        if buffer_size < 1:
            raise ValueError(f"ShardedImages: buffer_size = {buffer_size}, expected at least 1")
        shards, is_divided = find_shards(source, split)
        if split is not None and not is_divided:
            raise ValueError(
                f"ShardedImages: no shard has train or test in its name, as {shards[0].name}, so "
                "there are no parts: give the shards of each part, or split=None"
            )
        self.shards = shards
        self.image_size, self.channels, self.background = image_size, channels, background
        self.seed, self.buffer_size, self.epoch = seed, buffer_size, 0
        self.rank, self.world_size = check_place("ShardedImages", rank, world_size)
        if self.world_size > len(shards):
            raise _too_few_shards(shards, self.world_size, 1)
        with data_extra("ShardedImages"):
            import webdataset  # noqa: F401 - so that the error comes here and not in a worker

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration. Workers of a `DataLoader` that outlive an epoch
        (`persistent_workers`) do not hear of it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[ShardSample]:
        info = get_worker_info()
        worker, num_workers = (0, 1) if info is None else (info.id, info.num_workers)
        # Nested, so that a process's images do not depend on how many workers it has.
        order = epoch_order(len(self.shards), self.seed, self.epoch)
        order = order[self.rank :: self.world_size][worker::num_workers]
        if len(order) == 0:
            raise _too_few_shards(self.shards, self.world_size, num_workers)
        shards = [self.shards[index] for index in order]
        samples = _stream(shards, self.image_size, self.channels, self.background)
        if self.seed is None:
            return samples
        random = np.random.default_rng([self.seed, self.epoch, self.rank, worker])
        return _shuffled(samples, self.buffer_size, random)


def holds_shards(source: Path) -> bool:
    """Tell whether a path is a .tar file, a pattern of them, or a directory with some."""
    if source.is_dir():
        return any(_is_shard(path) for path in source.iterdir())
    return source.suffix.lower() == ".tar" and (source.exists() or "{" in str(source))


def find_shards(
    source: str | Path | Sequence[str | Path], split: Split | None = None
) -> tuple[list[Path], bool]:
    """List the shards of a part, and tell whether their names divide them into parts.

    Names divide them if each has `train` or `test` as one of its words, as `train-000.tar` and
    `photos_test.tar`.

    Raises:
        FileNotFoundError: a shard, or a shard of this part, is missing.
    """
    if isinstance(source, str | Path):
        path = Path(os.path.expanduser(source))  # noqa: PTH111 - as load_images reads a path
        if path.is_dir():
            shards = sorted(found for found in path.iterdir() if _is_shard(found))
            if not shards:
                raise FileNotFoundError(f"{path} holds no .tar shards")
        elif path.exists():
            shards = [path]
        else:
            with data_extra("a pattern of shards"):
                from braceexpand import braceexpand
            shards = [Path(name) for name in braceexpand(str(path))]
    else:
        shards = [Path(name) for name in source]
        if not shards:
            raise ValueError("ShardedImages: the list of shards is empty")
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(f"the shard {shard} does not exist")
    # Paths from here on, whatever a name may mean to the library that opens it.
    shards = [shard.absolute() for shard in shards]
    matches = [_PART.fullmatch(shard.name.removesuffix(shard.suffix)) for shard in shards]
    parts = [match[1].lower() for match in matches if match]
    is_divided = len(parts) == len(shards)
    if split is None or not is_divided:
        return shards, is_divided
    shards = [shard for shard, part in zip(shards, parts, strict=True) if part == split]
    if not shards:
        raise FileNotFoundError(f"no shard of {source} has {split} in its name")
    return shards, True


def read_shards(
    source: Path,
    split: Split,
    image_size: int | None = None,
    channels: int | None = None,
    background: int = 255,
    max_bytes: int = _MAX_BYTES,
) -> ImagePart:
    """Read all images of one part of .tar shards into memory, in the order of shards and samples.

    `ShardedImages` says what a sample is. If the names of the shards do not divide them
    (`find_shards`), `split_indices` divides the images.

    Args:
        source: A shard, a pattern like `set-{000..007}.tar`, or a directory with shards.
        split: The part to read.
        image_size: As for `read_folder`, like the next two.
        channels: 1 or 3; without it 1 if all images are grey, else 3.
        background: Grey level behind transparent pixels.
        max_bytes: Bytes of pixels, of both parts where names do not divide them, that may be read.

    Returns:
        Images, uint8 [N, C, H, W], and labels or None.

    Raises:
        FileNotFoundError: a shard, or a shard of this part, is missing.
        ModuleNotFoundError: webdataset or Pillow is not installed.
        ValueError: the pixels need more than `max_bytes`; images differ in size; some have a class
            and some not; or as for `ShardedImages`.
    """
    shards, is_divided = find_shards(source, split)
    images: list[Tensor] = []
    labels: list[int] = []
    num_bytes = 0
    for shard in shards:
        for image, label, key in _stream([shard], image_size, channels, background):
            num_bytes += image.numel()
            if num_bytes > max_bytes:
                raise ValueError(
                    f"{source}: the images need more than {max_bytes / 2**30:.3g} GiB of memory "
                    "once decoded: give a smaller image_size, read fewer shards, or stream them "
                    "with gencore.data.ShardedImages"
                )
            if images and image.shape[1:] != images[0].shape[1:]:
                (first_height, first_width), (height, width) = images[0].shape[1:], image.shape[1:]
                raise ValueError(
                    f"{shard}: {key} has {width} x {height} pixels, but the first image has "
                    f"{first_width} x {first_height}: give image_size to make all alike"
                )
            if labels and (labels[0] < 0) != (label < 0):
                raise ValueError(
                    f"{shard}: {key} has {'no' if label < 0 else 'a'} class (.cls), unlike the "
                    "first image: give a class to all images or to none"
                )
            images.append(image)
            labels.append(label)
    if not images:
        raise ValueError(f"{source}: the shards hold no samples")
    most = max(len(image) for image in images)
    pixels = torch.cat([convert_channels(image[None], most) for image in images])
    classes = None if labels[0] < 0 else torch.tensor(labels)
    if is_divided:
        return ImagePart(pixels, classes)
    part = split_indices(len(pixels), split, classes)
    return ImagePart(pixels[part], None if classes is None else classes[part])


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == ".tar" and not path.name.startswith(".") and path.is_file()


def _too_few_shards(shards: list[Path], world_size: int, num_workers: int) -> ValueError:
    return ValueError(
        f"ShardedImages: {len(shards)} shards are too few for {world_size} processes with "
        f"{num_workers} workers each, of which every one reads its own"
    )


def _stream(
    shards: list[Path], image_size: int | None, channels: int | None, background: int
) -> Iterator[ShardSample]:
    """The decoded samples of shards, one after another."""
    for sample in _raw_samples(shards):
        where = f"{sample['__url__']}: {sample['__key__']}"
        suffixes = [key for key in sample if f".{key}" in IMAGE_SUFFIXES]
        if len(suffixes) != 1:
            files = ", ".join(key for key in sample if not key.startswith("__"))
            found = "several images" if suffixes else "no image"
            raise ValueError(f"{where} has {found}: expected one, found {files}")
        content = sample[suffixes[0]]
        image = decode_image(
            io.BytesIO(content), f"{where}.{suffixes[0]}", len(content), background
        )
        if image_size is not None:
            image = resize_images(image[None], image_size)[0]
        if channels is not None:
            image = convert_channels(image[None], channels)[0]
        yield ShardSample(image, _label(sample.get("cls"), where), sample["__key__"])


def _label(content: bytes | None, where: str) -> int:
    if content is None:
        return -1
    text = content.strip()
    # At most 18 digits are below 2⁶³.
    if not re.fullmatch(rb"\d{1,18}", text):
        raise ValueError(f"{where}.cls: expected a class as a number, found {text[:20]!r}")
    return int(text)


def _raw_samples(shards: list[Path]) -> Iterator[dict[str, Any]]:
    """The undecoded files of each sample, by their suffix."""
    with data_extra("load_images of .tar shards"):
        # Not its WebDataset, which leaves files open, and runs a name that begins with pipe:.
        from webdataset.tariterators import group_by_keys, tar_file_expander

    for shard in shards:
        with shard.open("rb") as file:
            _check_end(file, shard)
            files = tar_file_expander([{"url": str(shard), "stream": file}])
            samples = cast("Iterator[dict[str, Any]]", group_by_keys(files))
            while True:
                try:
                    sample = next(samples)
                except StopIteration:
                    break
                # Damage shows as a TarError, an EOFError, a zlib.error, ….
                except Exception as error:
                    raise ValueError(
                        f"{shard}: damaged .tar shard of {shard.stat().st_size} bytes: "
                        f"{error.args[0] if error.args else error}"
                    ) from error
                yield sample


def _check_end(file: IO[bytes], shard: Path) -> None:
    """Refuse a .tar file without its end, two blocks of zeros, which tarfile takes for whole."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_BYTES))
    if file.read() != bytes(_END_BYTES):
        raise ValueError(f"{shard}: damaged or cut short after {size} bytes: no end of a .tar file")
    file.seek(0)


def _shuffled(
    samples: Iterator[ShardSample], buffer_size: int, random: np.random.Generator
) -> Iterator[ShardSample]:
    """The samples in another order: each comes out of a buffer at a random moment."""
    buffer: list[ShardSample] = []
    for sample in samples:
        if len(buffer) < buffer_size:
            buffer.append(sample)
            continue
        index = int(random.integers(buffer_size))
        buffer[index], sample = sample, buffer[index]
        yield sample
    for index in random.permutation(len(buffer)):
        yield buffer[index]
