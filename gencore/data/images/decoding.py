"""One image file, decoded by Pillow."""

from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from gencore.extras import training_extra

__all__ = ["IMAGE_SUFFIXES", "decode_image"]

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm",
)  # fmt: skip

# Pillow looks at the content and not at the name, and would start other programs for some formats.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


def decode_image(
    file: Path | IO[bytes], where: str, num_bytes: int, background: int = 255
) -> Tensor:
    """Decode one file to uint8 [C, H, W] with one channel if it is grey, else three.

    EXIF orientation is applied, transparent pixels show the background, and of an animation the
    first frame counts.

    Args:
        file: Its path, or the file open for reading.
        where: What errors call it.
        num_bytes: Its size, for errors.
        background: Grey level behind transparent pixels.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: the file cannot be decoded or has more than 8 bits a sample.

    Example:
        >>> from io import BytesIO
        >>> decode_image(BytesIO(b"P5 2 1 255 " + bytes([7, 9])), "a.pgm", 13)
        tensor([[[7, 9]]], dtype=torch.uint8)
    """
    with training_extra("load_images of image files"):
        from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=_FORMATS) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
            # Pillow would clip samples of more than 8 bits at 255, not scale them.
            if image.mode[0] in "IF":
                raise ValueError(f"mode {image.mode}, expected 8 bits a sample")
            is_grey = image.mode in ("1", "L", "LA", "La")
            if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                backdrop = Image.new("RGBA", image.size, (background, background, background, 255))
                image = Image.alpha_composite(backdrop, image.convert("RGBA"))
            pixels = np.array(image.convert("L" if is_grey else "RGB"))
    # Pillow's decoders report a damaged file by exceptions of many kinds.
    except Exception as error:
        raise ValueError(
            f"{where}: cannot read an image from {num_bytes} bytes: {error}"
        ) from error
    return torch.from_numpy(pixels[None] if is_grey else pixels.transpose(2, 0, 1).copy())
