"""The linearising auto-encoders of table 3.1, and a fully connected one for small data."""

import math
from collections.abc import Sequence
from typing import NamedTuple, get_args

from gencore.choices import check_choice
from gencore.models.video.linearizing_autoencoder import LinearizingAutoencoder, SiameseAutoencoder
from gencore.models.video.names import CurvatureOf, LinearizingArchitecture
from gencore.nn import NotatedNetwork, PhasePool, PhaseUnpool

__all__ = ["linearizing_architecture"]

_Size = tuple[int, int, int]


class _Plan(NamedTuple):
    """Encoder and decoder in the thesis's notation, and the pools over (features, rows, columns)
    of the encoder's maps [F, H, W]."""

    encoder: str
    decoder: str
    maps: _Size | None = None
    kernel: _Size = (1, 1, 1)
    stride: _Size = (1, 1, 1)
    padding: tuple[int, int] = (0, 0)


def linearizing_architecture(
    architecture: LinearizingArchitecture,
    image_shape: Sequence[int],
    *,
    width: float = 1.0,
    phase_pooling: bool = True,
    beta: float = 3.0,
    learn_beta: bool = False,
    learned_predictor: bool = False,
    curvature_of: CurvatureOf = "code",
) -> LinearizingAutoencoder:
    """A linearising auto-encoder of table 3.1, or a fully connected one.

    ============  ========================================  ========================================
    architecture  encoder                                   a frame's code, of 32×32 pixels
    ============  ========================================  ========================================
    ``shallow1``  convolution 9×9, ReLU: 64 maps            16×4×8×8: pools of 4 maps, 4×4 pixels
    ``shallow2``  the same                                  32×4×16×16: overlapping, stride 2
    ``deep1``     two convolutions 9×9 and a layer of       4096; the decoder has both frames' codes
                  4096 units, each with a ReLU              (:class:`SiameseAutoencoder`)
    ``deep2``     the same                                  4096
    ``deep3``     the same, as 64 maps of 8×8               64×3×1×1: pools of 1 map, 8×8 units
    ``mlp``       128 hidden units, 64 maps of 1×1          8×2×1×1: pools of 8 maps
    ============  ========================================  ========================================

    A pool's part of a code is a magnitude and a phase for each axis along which it has several
    elements. Of ``shallow2`` the thesis has 32 groups of features, where 64 in groups of 4 with
    stride 2 give 31: here the features are a circle, and the maps have one pixel of padding.

    Args:
        architecture: one of these.
        image_shape: [C, H, W] of frames, whose sides 4 divides (``shallow1``), or 2
            (``shallow2``), or which have more than 16 pixels (``deep``); with ``mlp`` also [L].
        width: factor on all numbers of units; the pools stay as large.
        phase_pooling: without it, the code is what the pools would be over, and of ``mlp`` the
            encoder's last layer has no ReLU.
        beta: β of the softmax in a pool. The thesis does not tell its own.
        learn_beta: make β a parameter.
        learned_predictor: see :class:`LinearizingAutoencoder`.
        curvature_of: see there.

    Raises:
        ValueError: for another architecture, sizes that do not fit it, and options that it has not.

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, table 3.1.

    Example:
        >>> import torch
        >>> model = linearizing_architecture("shallow1", (3, 32, 32))
        >>> code = model.encode(torch.rand(2, 3, 32, 32))
        >>> code.magnitude.shape, code.phase.shape
        (torch.Size([2, 16, 8, 8]), torch.Size([2, 16, 3, 8, 8]))
    """
    owner = "linearizing_architecture"
    check_choice(owner, "architecture", architecture, get_args(LinearizingArchitecture))
    if not width > 0:
        raise ValueError(f"{owner}: width is {width}; expected a positive number")
    shape = tuple(image_shape)
    if min(shape, default=0) < 1 or len(shape) not in ((1, 3) if architecture == "mlp" else (3,)):
        raise ValueError(
            f"{owner}: image_shape is {list(shape)}; expected [C, H, W], or [L] for 'mlp'"
        )
    if architecture == "mlp":
        plan = _mlp(shape, width, phase_pooling)
    elif architecture.startswith("shallow"):
        plan = _shallow(shape, width, overlapping=architecture == "shallow2")
    else:
        plan = _deep(shape, width, architecture)
    encoder, decoder = NotatedNetwork(plan.encoder), NotatedNetwork(plan.decoder)
    if architecture == "deep1":
        if learned_predictor:
            raise ValueError(f"{owner}: 'deep1' has no predictor, so that none can be learned")
        return SiameseAutoencoder(encoder, decoder)
    pool, unpool = None, None
    if phase_pooling and plan.maps:
        pool = PhasePool(
            plan.kernel, plan.stride, beta=beta, learnable=learn_beta, padding=plan.padding
        )
        unpool = PhaseUnpool(plan.kernel, plan.stride, output_size=plan.maps, padding=plan.padding)
    return LinearizingAutoencoder(
        encoder, decoder, pool, unpool,
        learned_predictor=learned_predictor, curvature_of=curvature_of,
    )  # fmt: skip


def _shallow(shape: tuple[int, ...], width: float, *, overlapping: bool) -> _Plan:
    channels, height, columns = shape
    stride = 2 if overlapping else 4
    if height % stride or columns % stride:
        raise ValueError(
            f"linearizing_architecture: the sides are {height} and {columns}; expected multiples "
            f"of {stride}"
        )
    # As many as groups of 4 take.
    num = 4 * max(1, round(16 * width))
    maps, frame = f"{num}@{height}x{columns}", f"{channels}@{height}x{columns}"
    return _Plan(
        f"{frame} -convp9,ReLU-> {maps}",
        f"{maps} -convp9-> {frame}",
        (num, height, columns),
        (4, 4, 4),
        (stride,) * 3,
        (1, 1) if overlapping else (0, 0),
    )


def _deep(shape: tuple[int, ...], width: float, architecture: str) -> _Plan:
    channels, height, columns = shape
    if min(height, columns) <= 16:
        raise ValueError(
            f"linearizing_architecture: the sides are {height} and {columns}; expected more than "
            "16, which the convolutions of 'deep' architectures take away"
        )
    first, second, num = (max(1, round(size * width)) for size in (16, 32, 64))
    units = 64 * num
    frame = f"{channels}@{height}x{columns}"
    half = f"{first}@{height - 8}x{columns - 8}"
    small = f"{second}@{height - 16}x{columns - 16}"
    encoder = f"{frame} -conv9,ReLU-> {half} -conv9,ReLU-> {small} -FC,ReLU-> {units}"
    decoder = (
        f"-FC,ReLU-> {second * (height - 16) * (columns - 16)} -reshape-> {small} "
        f"-pad8,conv9,ReLU-> {half} -pad8,conv9-> {frame}"
    )
    if architecture == "deep1":
        return _Plan(encoder, f"{2 * units} {decoder}")
    if architecture == "deep2":
        return _Plan(encoder, f"{units} {decoder}")
    return _Plan(
        f"{encoder} -reshape-> {num}@8x8",
        f"{num}@8x8 -reshape-> {units} {decoder}",
        (num, 8, 8),
        (1, 8, 8),
        (1, 8, 8),
    )


def _mlp(shape: tuple[int, ...], width: float, phase_pooling: bool) -> _Plan:
    size = math.prod(shape)
    hidden, num = max(1, round(128 * width)), 8 * max(1, round(8 * width))
    frame = "x".join(map(str, shape[1:]))
    end = f" -reshape-> {shape[0]}@{frame}" if frame else ""
    start = f"{shape[0]}@{frame} -reshape-> {size}" if frame else f"{size}"
    code = f"-FC,ReLU-> {num} -reshape-> {num}@1x1" if phase_pooling else f"-FC-> {num}"
    begin = f"{num}@1x1" if phase_pooling else f"{num}"
    return _Plan(
        f"{start} -FC,ReLU-> {hidden} {code}",
        f"{begin} -FC,ReLU-> {hidden} -FC-> {size}{end}",
        (num, 1, 1),
        (8, 1, 1),
        (8, 1, 1),
    )
