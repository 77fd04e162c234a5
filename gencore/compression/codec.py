"""Images to bytes and back, with a model."""

import hashlib
import zlib
from typing import TypeAlias

import torch
from torch import Tensor

from gencore.compression.bits_back import decode_bits_back, encode_bits_back
from gencore.compression.coder import StreamReader, StreamWriter
from gencore.compression.container import (
    CompressedFile,
    CompressedFileError,
    read_container,
    write_container,
)
from gencore.compression.exact_context import session_given
from gencore.compression.session import ChainModel, Code, CodingModel, LatentModel
from gencore.models.autoregressive.image_model import AutoregressiveImageModel

__all__ = ["CompressingModel", "compress", "decompress", "model_fingerprint"]

CompressingModel: TypeAlias = CodingModel | ChainModel | LatentModel
"""Any that compresses: value by value, in parts, or with bits back."""


@torch.no_grad()
def compress(
    model: CompressingModel,
    x: Tensor,
    *,
    context: Tensor | None = None,
    images_per_stream: int = 128,
) -> bytes:
    r"""Images as a file, of about :math:`-\log_2 p(x)` bits and a head.

    A stream has at most 1 % and 64 bits more than :math:`-\log_2 p` of its images under the model's
    frequencies. The head has some 30 bytes, and 5 to 8 a stream.

    Args:
        model: any with a `coding_session`, such as a `gencore.models.AutoregressiveImageModel`, or
            with a `code` of its own.
        x: levels [N, C, H, W], uint8 or int64; N may be 0.
        context: [N, ...], what a conditional model is given; whoever decompresses needs it too,
            unless the model's `code` keeps it.
        images_per_stream: images that are decoded together; only 1 can be decoded alone. Fewer cost
            more bytes and more time.

    Raises:
        ImportError: constriction is not installed.
        TypeError: the model has no `coding_session`, or x holds no levels.
        ValueError: x has another shape than the model's images or levels that there are none of, or
            context another number of rows; or the model cannot be compiled into a session.

    Example:
        >>> import torch
        >>> class Uniform(torch.nn.Module):
        ...     image_shape = (1, 2, 2)
        ...     levels, positions = 16, 4
        ...     def coding_session(self, num, context=None):
        ...         return self
        ...     def frequencies(self, x, begin, end):
        ...         return torch.full((len(x), end - begin, 16), 2**20, dtype=torch.int32)
        >>> x = torch.randint(16, (1000, 1, 2, 2))
        >>> data = compress(Uniform(), x)  # 16 bits an image
        >>> len(data), torch.equal(decompress(Uniform(), data), x)
        (2100, True)
    """
    _check_model("compress", model)
    shape = _shape(model)
    if images_per_stream < 1:
        raise ValueError(f"compress: images_per_stream is {images_per_stream}; expected at least 1")
    if not isinstance(x, Tensor) or x.dtype not in (torch.uint8, torch.int64):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"compress: x is {kind}; expected levels, uint8 or int64")
    if x.dim() != 4 or tuple(x.shape[1:]) != shape:
        raise ValueError(f"compress: x has shape {list(x.shape)}; expected {['N', *shape]}")
    _check_context("compress", context, len(x))
    x = x.to(_device(model), torch.int64)
    streams, checks = [], []
    for part in _parts(len(x), images_per_stream):
        streams.append(_encoded(model, x[part], None if context is None else context[part]))
        checks.append(_check_sum(x[part]))
    return write_container(
        CompressedFile(model_fingerprint(model), shape, len(x), images_per_stream, streams, checks)
    )


@torch.no_grad()
def decompress(
    model: CompressingModel,
    data: bytes,
    *,
    context: Tensor | None = None,
    first: int = 0,
    num: int | None = None,
) -> Tensor:
    """The images of a file, bit for bit.

    Args:
        model: with the weights of the one that compressed them.
        data: of `compress`.
        context: what the model was given then, of all images of the file.
        first: the first image to return.
        num: how many; without it all that follow. Only streams with some of them are decoded.

    Returns:
        Levels, int64 [num, C, H, W], on the model's device.

    Raises:
        CompressedFileError: the file is cut short, damaged or foreign, another model's, or decodes
            to other levels than were compressed, as with another context.
        ImportError, TypeError, ValueError: as of `compress`; or the file has no such images.
    """
    _check_model("decompress", model)
    content = read_container(data)
    if (content.fingerprint, content.image_shape) != (model_fingerprint(model), _shape(model)):
        raise CompressedFileError(
            f"the file was compressed with another model: that of fingerprint "
            f"{content.fingerprint.hex()[:8]}, of images of {_spoken(content.image_shape)}; this "
            f"one is {model_fingerprint(model).hex()[:8]}, of {_spoken(_shape(model))}"
        )
    end = content.num if num is None else first + num
    if not 0 <= first <= end <= content.num:
        raise ValueError(
            f"decompress: the images {first} to {end} are asked for, but the file has {content.num}"
        )
    _check_context("decompress", context, content.num)
    images = [torch.empty(0, *content.image_shape, dtype=torch.int64, device=_device(model))]
    for index, part in enumerate(_parts(content.num, content.images_per_stream)):
        if not max(first, part.start) < min(end, part.stop):
            continue
        size = part.stop - part.start
        given = None if context is None else context[part]
        x = _decoded(model, content.streams[index], size, given)
        if _check_sum(x) != content.checks[index]:
            raise CompressedFileError(
                "the file is whole, but decodes to other levels than were compressed: the model "
                "was given another context, or was of another version of gencore"
            )
        images.append(x[max(first - part.start, 0) : end - part.start])
    return torch.cat(images)


def model_fingerprint(model: CompressingModel) -> bytes:
    """A hash, 8 bytes, of a model's class, the shape of its images, its levels and its weights.

    The levels are the `levels` of its `likelihood`, or its own.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1)
        >>> model.image_shape = (1, 1, 1)
        >>> before = model_fingerprint(model)
        >>> with torch.no_grad():
        ...     _ = model.weight.add_(1)
        >>> model_fingerprint(model) == before
        False
    """
    digest = hashlib.blake2b(digest_size=8)
    levels = getattr(getattr(model, "likelihood", model), "levels", None)
    digest.update(repr((type(model).__name__, _shape(model), levels)).encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
            content = value.detach().cpu().contiguous().view(-1)
            digest.update(content.view(torch.uint8).numpy().data)
    return digest.digest()


def _encoded(model: CompressingModel, x: Tensor, context: Tensor | None) -> bytes:
    """The stream of images."""
    if isinstance(model, LatentModel):
        _check_no_context(model, context)
        return encode_bits_back(model, x)
    writer = StreamWriter()
    _code(model, writer, len(x), x, context)
    return writer.stream()


def _decoded(model: CompressingModel, data: bytes, num: int, context: Tensor | None) -> Tensor:
    """The images of a stream."""
    if isinstance(model, LatentModel):
        _check_no_context(model, context)
        return decode_bits_back(model, num, data, device=_device(model))
    reader = StreamReader(data, _device(model))
    x = _code(model, reader, num, None, context)
    reader.finish()
    return x


def _code(
    model: CodingModel | ChainModel, code: Code, num: int, x: Tensor | None, context: Tensor | None
) -> Tensor:
    """Images, in parts if the model has several."""
    if isinstance(model, ChainModel):
        return model.code(code, num, x, context)
    # A model's own session leaves norms and what is made of a context alone to torch, whose sums
    # depend on the machine.
    if isinstance(model, AutoregressiveImageModel):
        session = session_given(model, num, context)
    else:
        session = model.coding_session(num, context)
    return code(session, (num, *_shape(model)), x)


def _check_no_context(model: LatentModel, context: Tensor | None) -> None:
    if context is not None:
        raise ValueError(f"{type(model).__name__}: got a context; expected none")


def _check_model(owner: str, model: CompressingModel) -> None:
    if not isinstance(model, CompressingModel):
        raise TypeError(
            f"{owner}: {type(model).__name__} has no coding_session and image_shape; expected a "
            "model of images in raster order, such as an AutoregressiveImageModel"
        )


def _check_context(owner: str, context: Tensor | None, num: int) -> None:
    if context is not None and context.shape[:1] != (num,):
        raise ValueError(
            f"{owner}: context has shape {list(context.shape)}; expected a row for each of the "
            f"{num} images"
        )


def _device(model: CompressingModel) -> torch.device:
    """Where the model's weights are."""
    tensors = (value for value in model.state_dict().values() if isinstance(value, Tensor))
    return next((value.device for value in tensors), torch.device("cpu"))


def _parts(num: int, size: int) -> list[slice]:
    """The images of each stream."""
    return [slice(first, min(first + size, num)) for first in range(0, num, size)]


def _shape(model: CompressingModel) -> tuple[int, int, int]:
    channels, height, width = model.image_shape
    return channels, height, width


def _spoken(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


def _check_sum(x: Tensor) -> int:
    """CRC-32 of levels as numbers of four bytes."""
    return zlib.crc32(x.cpu().numpy().astype("<u4").tobytes())
