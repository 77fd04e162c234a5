"""Networks written as one line: their layers as arrows between the sizes of feature maps."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["NotatedNetwork"]

_ARROW = re.compile(r"\s*-([^<>]*)->\s*")
_MAPS = re.compile(r"([1-9]\d*)(?:@(\d+)x(\d+))?")
_LAYER = re.compile(r"([A-Za-z]+)([1-9]\d*)?(?:/(1/2|[1-9]\d*))?")


class NotatedNetwork(nn.Sequential):
    """A network from its notation, such as LeNet-5's

    ``1@32x32 -conv5-> 6@28x28 -MaxPool2,Tanh,conv5-> 16@10x10 -MaxPool2,Tanh,conv5-> 120@1x1
    -Tanh,FC-> 84 -Tanh,FC-> 10``

    Numbers are feature maps, with their height and width where told, which are then checked; an
    arrow has the layers between, in the order of their application:

    ======================  ======================================================================
    ``conv5``               valid convolution, 5×5
    ``convp5``              padded convolution, which keeps the size
    ``convp5/2``            with stride 2; ``convp5/1/2``, transposed, gives twice the size
    ``pad8``                zeros around, so that ``pad8,conv9`` gives the full convolution
    ``ReLU``, ``Tanh``      also ``LeakyReLU`` (slope 0.2), ``Sigmoid``
    ``BN``, ``ReLU/BN``     batch normalisation; and the non-linearity after it
    ``MaxPool2``            over windows of 2×2; ``MaxPool3/2`` with stride 2
    ``UpSample2``           nearest pixels
    ``FC``                  fully connected, from all the maps' values
    ``reshape``             to maps of the size that follows
    ======================  ======================================================================

    Look-up tables, concatenation and phase pooling, which take or give several tensors, are no
    layers of a sequence.

    Args:
        notation: the network.
        width: factor on all numbers of maps but the first and the last, rounded, at least 1.

    Attributes:
        shapes: of what stands between arrows, without the batch: (channels,) of fully connected
            layers, (channels, height, width) of maps; (channels,) of maps as well where the first
            ones' size is not told.

    Shape:
        [N, C, H, W], or [N, C] for a network that begins fully connected → the last of ``shapes``.

    Raises:
        ValueError: for a notation that cannot be read, layers that do not fit, or sizes that the
            layers do not have.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, section 1.3 and table 1.1.

    Example:
        >>> import torch
        >>> from gencore.nn import NotatedNetwork
        >>> network = NotatedNetwork("3@8x8 -convp3,ReLU-> 16 -MaxPool2,FC-> 10")
        >>> network.shapes
        ((3, 8, 8), (16, 8, 8), (10,))
        >>> network(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(self, notation: str, *, width: float = 1.0) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"NotatedNetwork: width is {width}; expected a positive number")
        texts = _ARROW.split(notation.strip())
        maps, arrows = [_read_maps(text) for text in texts[::2]], texts[1::2]
        if not arrows:
            raise ValueError(f"NotatedNetwork: {notation!r} has no arrow, such as ' -conv5-> '")
        for inner in maps[1:-1]:
            inner[0] = max(1, round(width * inner[0]))
        # A tensor on the meta device tells what shapes the layers give: of maps whose size is not
        # told it has large ones, which are not told either.
        sized = len(maps[0]) == 3 or _split(arrows[0])[0] in ("FC", "reshape")
        x = torch.empty(2, *maps[0], *([] if sized else [1024] * 2), device="meta")
        shapes = [tuple(maps[0])]
        for arrow, target in zip(arrows, maps[1:], strict=True):
            for text in _split(arrow):
                if text == "FC" and x.ndim == 4 and not sized:
                    raise ValueError(f"NotatedNetwork: 'FC' of {notation!r} needs '@HxW' at first")
                self.extend(_make(text, x, target))
                x = _applied(text, x, target)
            found = tuple(x.shape[1:]) if sized else (x.shape[1],)
            # One unit of a fully connected layer is a map of one pixel.
            expected = tuple(target[:1] if x.ndim == 2 and target[1:] == [1, 1] else target)
            if found[: len(expected)] != expected:
                raise ValueError(
                    f"NotatedNetwork: {arrow!r} gives {found}, where the notation has {expected}"
                )
            shapes.append(found)
        self.notation, self.shapes = notation, tuple(shapes)


def _read_maps(text: str) -> list[int]:
    """The number of maps and, where they are told, their height and width."""
    match = _MAPS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"NotatedNetwork: {text!r} is no number of maps, such as '16' or '16@8x8'")
    return [int(number) for number in match.groups() if number]


def _split(arrow: str) -> list[str]:
    """The arrow's layers; a non-linearity after batch normalisation is two."""
    texts = [text.strip() for text in arrow.split(",")]
    return [layer for text in texts for layer in re.sub(r"(.+)/BN", r"BN,\1", text).split(",")]


def _make(text: str, x: Tensor, target: list[int]) -> list[nn.Module]:
    """A layer for maps like x; where it says how many maps there are, as many as the target."""
    match = _LAYER.fullmatch(text)
    name, size, stride = match.groups() if match else (text, None, None)
    plain, sized = _PLAIN.get(name), _SIZED.get(name)
    if plain and not size and not stride:
        return plain(x, target)
    if sized and size:
        if x.ndim != 4:
            raise ValueError(f"NotatedNetwork: layer {text!r} needs maps; 'reshape' makes them")
        layers = sized(x.shape[1], target[0], int(size), stride)
        if layers:
            return layers
    raise ValueError(
        f"NotatedNetwork: {text!r} is no layer; expected one of {', '.join(_PLAIN)}, or with a "
        f"number {', '.join(_SIZED)}"
    )


def _applied(text: str, x: Tensor, target: list[int]) -> Tensor:
    """What the layer makes of x, on the meta device."""
    try:
        with torch.device("meta"):
            result: Tensor = nn.Sequential(*_make(text, x, target))(x)
    except RuntimeError as error:
        raise ValueError(
            f"NotatedNetwork: layer {text!r} does not fit maps of shape {tuple(x.shape[1:])}"
        ) from error
    return result


def _reshape(x: Tensor, target: list[int]) -> list[nn.Module]:
    return [nn.Flatten(), *([nn.Unflatten(1, target)] if len(target) == 3 else [])]


_PLAIN: dict[str, Callable[[Tensor, list[int]], list[nn.Module]]] = {
    "ReLU": lambda x, target: [nn.ReLU()],
    "LeakyReLU": lambda x, target: [nn.LeakyReLU(0.2)],
    "Tanh": lambda x, target: [nn.Tanh()],
    "Sigmoid": lambda x, target: [nn.Sigmoid()],
    "BN": lambda x, target: [(nn.BatchNorm1d, nn.BatchNorm2d)[x.ndim == 4](x.shape[1])],
    "FC": lambda x, target: [
        *([nn.Flatten()] if x.ndim == 4 else []),
        nn.Linear(x[0].numel(), target[0]),
    ],
    "reshape": _reshape,
}


def _convp(maps: int, target: int, size: int, stride: str | None) -> list[nn.Module]:
    before, after = (size - 1) // 2, size // 2
    if stride == "1/2":
        return [nn.ConvTranspose2d(maps, target, size, 2, before, output_padding=size % 2)]
    if stride is None and before != after:  # what keeps the size has no middle
        return [nn.ZeroPad2d((before, after, before, after)), nn.Conv2d(maps, target, size)]
    return [nn.Conv2d(maps, target, size, int(stride or 1), before)]


def _conv(maps: int, target: int, size: int, stride: str | None) -> list[nn.Module]:
    return [] if stride == "1/2" else [nn.Conv2d(maps, target, size, int(stride or 1))]


def _max_pool(maps: int, target: int, size: int, stride: str | None) -> list[nn.Module]:
    return [] if stride == "1/2" else [nn.MaxPool2d(size, int(stride or size))]


_SIZED: dict[str, Callable[[int, int, int, str | None], list[nn.Module]]] = {
    "conv": _conv,
    "convp": _convp,
    "MaxPool": _max_pool,
    "pad": lambda maps, target, size, stride: [] if stride else [nn.ZeroPad2d(size)],
    "UpSample": lambda maps, target, size, stride: (
        [] if stride else [nn.Upsample(scale_factor=size)]
    ),
}
