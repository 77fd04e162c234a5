"""How many bits a lossless compressor needs for an image."""

import io
import lzma
import zlib
from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gencore.choices import check_choice
from gencore.extras import training_extra
from gencore.metrics.detection.names import CodecName

__all__ = ["compressed_bits"]

Pixels = NDArray[np.uint8]


def compressed_bits(images: Tensor, codec: CodecName = "png") -> Tensor:
    """The length of each image's file, or string, in bits, [N].

    - "png": PNG, with the best compression that Pillow looks for;
    - "jpeg2000": JPEG 2000 without loss, if Pillow has it;
    - "zlib": DEFLATE of the values, row by row;
    - "lzma": LZMA2 of the same.

    A file has a head, which is the same for images of one size: it moves a score, and not the order
    of images.

    Args:
        images: uint8 [N, C, H, W] with C = 1 or 3. Images of fewer levels are given as these
            levels: 0 to 15, say.
        codec: the compressor.

    Returns:
        float64 [N], on the images' device. The files are made on the CPU, one after another.

    Raises:
        ModuleNotFoundError: Pillow is missing.
        RuntimeError: Pillow was built without JPEG 2000.
        TypeError: images are not uint8.
        ValueError: for another codec or shape.

    Source:
        Serrà et al., "Input complexity and out-of-distribution detection with likelihood-based
        generative models", 2020, §2. Yan, "Deep Generative Models: Design, Improvements and
        Applications", 2022, §4.2.6.

    Example:
        >>> import torch
        >>> from gencore.metrics import compressed_bits
        >>> noise = torch.randint(256, (1, 1, 28, 28), dtype=torch.uint8)
        >>> constant, noisy = compressed_bits(torch.cat([noise * 0, noise])).tolist()
        >>> constant < 1000, noisy > 8 * 28 * 28
        (True, True)
    """
    check_choice("compressed_bits", "codec", codec, get_args(CodecName))
    if images.dtype != torch.uint8:
        raise TypeError(f"compressed_bits: images are {images.dtype}; expected torch.uint8")
    if images.dim() != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise ValueError(
            f"compressed_bits: images have shape {list(images.shape)}; expected [N, C, H, W] with "
            "C = 1 or 3"
        )
    encode = _encoder(codec)
    arrays = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    sizes = [encode(array[..., 0] if array.shape[2] == 1 else array) for array in arrays]
    return torch.tensor(sizes, dtype=torch.float64, device=images.device) * 8


def _encoder(codec: CodecName) -> Callable[[Pixels], int]:
    """The number of bytes of an image [H, W] or [H, W, 3]."""
    match codec:
        case "zlib":
            return lambda pixels: len(zlib.compress(pixels.tobytes(), 9))
        case "lzma":
            filters = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
            return lambda pixels: len(
                lzma.compress(pixels.tobytes(), lzma.FORMAT_RAW, filters=filters)
            )
        case "png":
            return _pillow("PNG", optimize=True)
        case "jpeg2000":
            return _pillow("JPEG2000", irreversible=False)


def _pillow(kind: str, **options: bool) -> Callable[[Pixels], int]:
    with training_extra("compressed_bits"):
        from PIL import Image, features
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        raise RuntimeError(
            "compressed_bits: codec is 'jpeg2000', which this Pillow was built without; expected "
            "'png', 'zlib' or 'lzma'"
        )

    def encode(pixels: Pixels) -> int:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        return file.tell()

    return encode
