"""What the tests of image readers share: pixels to write, and both parts as they are read."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gencore.data import ImageDataset, load_images


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def both_parts(source: Path | str, **options: Any) -> tuple[ImageDataset, ImageDataset]:
    return (
        load_images(source, split="train", **options),
        load_images(source, split="test", **options),
    )


def rows(images: torch.Tensor | np.ndarray) -> list[bytes]:
    """The images as sortable values, to compare sets of them."""
    return sorted(np.ascontiguousarray(image).tobytes() for image in np.asarray(images))
