"""The steps of a causal network, from its forward pass."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from gencore.nn.causal.convolutions import CausalConv2d, CausalConvTranspose2d
from gencore.nn.causal.masked_conv2d import MaskedConv2d
from gencore.nn.causal.pixel_input import PixelInput
from gencore.nn.causal.steps import FeatureMap, Kind, Part, Schedule, Step, Steps, Term

__all__ = ["trace"]

_LAYERS = (CausalConv2d, CausalConvTranspose2d, MaskedConv2d, PixelInput)


@dataclass(frozen=True)
class _Value:
    """Features that depend on the image: parts of maps, in the order of the channels.

    Of `groups` equal blocks of channels, block g is there when the channels of the pixel before
    channel g are known; of one, all are there at once.
    """

    parts: tuple[Part, ...]
    shift: int
    schedule: Schedule
    groups: int = 1
    is_input: bool = False

    @property
    def channels(self) -> int:
        return sum(part.count for part in self.parts)

    def cut(self, first: int, count: int) -> tuple[Part, ...]:
        """The parts of some of the channels."""
        cut, at = [], 0
        for part in self.parts:
            begin, end = max(first, at), min(first + count, at + part.count)
            if begin < end:
                cut.append(Part(part.map, part.first + begin - at, end - begin))
            at += part.count
        return tuple(cut)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LAYERS) or super().is_leaf_module(m, module_qualified_name)


def trace(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    num: int,
    context: Tensor | None,
    channel_groups: int,
) -> Steps:
    """The steps of a network (levels, context) → parameters.

    What depends on the context alone is computed, by torch. The rest is made of causal
    convolutions, sums, products, activations, concatenations and parts of channels. To torch.fx
    ``y += z`` is ``y = y + z``: other names of the old y do not see the sum.

    Args:
        network: in evaluation mode: dropout is left out.
        image_shape: [C, H, W].
        num: images N.
        context: the network's second argument.
        channel_groups: C where the network sees the channels of a pixel one by one, else 1.

    Raises:
        ValueError: for what a pixel would see that comes after it, or an operation without a step.
    """
    return _Build(network, image_shape, num, channel_groups).run(context)


class _Build:
    """Follows the graph of a network and collects its steps."""

    def __init__(
        self, network: nn.Module, image_shape: tuple[int, int, int], num: int, groups: int
    ) -> None:
        self.network = network
        self.image_shape = image_shape
        self.num = num
        self.groups = groups
        self.result = Steps()
        self.name = ""

    def run(self, context: Tensor | None) -> Steps:
        fixed = {} if context is not None else {"context": None}
        graph = _Tracer().trace(self.network, fixed)
        modules = dict(self.network.named_modules())
        values: dict[fx.Node, Any] = {}
        arguments = iter((_IMAGE, context))
        for node in graph.nodes:
            self.name = node.name
            given = fx.node.map_arg(node.args, values.__getitem__)
            named = fx.node.map_arg(node.kwargs, values.__getitem__)
            match node.op:
                case "placeholder":
                    value: Any = next(arguments)
                case "get_attr":
                    value = operator.attrgetter(node.target)(self.network)
                case "output":
                    self.result.output = self._output(given[0])
                    break
                case "call_module":
                    value = self._layer(modules[node.target], given, named)
                case "call_function":
                    value = self._function(node.target, given, named)
                case _:
                    value = self._method(node.target, given, named)
            values[node] = value
            if isinstance(value, _Value):
                self.result.named[node.name] = value.parts
        return self.result

    # Operations: computed where they do not depend on the image.

    def _layer(self, layer: nn.Module, given: Any, named: dict[str, Any]) -> Any:
        if not _depends((given, named)):
            return layer(*given, **named)
        x = given[0]
        if isinstance(layer, PixelInput):
            return self._input(layer, x)
        if isinstance(layer, nn.Dropout | nn.Dropout2d | nn.Identity):
            return x
        for kind, activation in _ACTIVATION_LAYERS.items():
            if type(layer) is kind and getattr(layer, "alpha", 1.0) == 1.0:
                self._check_not_in_place({"inplace": getattr(layer, "inplace", False)})
                return self._map(activation, x)
        if isinstance(layer, MaskedConv2d):
            return self._masked(layer, x)
        if isinstance(layer, CausalConv2d):
            taps = [
                (down, right, layer.conv.weight[:, :, k // columns, k % columns])
                for columns in (layer.kernel_size[1],)
                for k, (down, right) in enumerate(layer.taps)
            ]
            outputs, bias = layer.conv.out_channels, layer.conv.bias
            return self._blocks(x, [(taps, bias)], outputs, stride=layer.stride)
        if isinstance(layer, CausalConvTranspose2d):
            return self._transposed(layer, x)
        if isinstance(layer, nn.Conv2d) and type(layer).forward is nn.Conv2d.forward:
            plain = layer.kernel_size == layer.stride == (1, 1)
            if not plain or layer.padding != (0, 0) or layer.groups > 1:
                raise self._unknown("a convolution that is neither causal nor 1x1")
            taps = [(0, 0, layer.weight[:, :, 0, 0])]
            return self._blocks(x, [(taps, layer.bias)], layer.out_channels)
        raise self._unknown(f"a layer {type(layer).__name__}")

    def _function(self, function: Callable[..., Any], given: Any, named: dict[str, Any]) -> Any:
        if not _depends((given, named)):
            return function(*given, **named)
        for kind, functions in _FUNCTIONS.items():
            if function in functions:
                return self._operation(kind, given, named)
        if function in (torch.cat, torch.concat) or getattr(function, "__name__", "") == "cat":
            return self._cat(given[0], given[1] if len(given) > 1 else named.get("dim", 0))
        if function is torch.chunk:
            return self._chunk(given[0], given[1], given[2] if len(given) > 2 else named["dim"])
        if function is operator.getitem:
            return self._part(*given)
        if function is functional.dropout:
            return given[0]
        if function is getattr and given[1] == "shape":
            return self._shape(given[0])
        raise self._unknown(f"the function {getattr(function, '__name__', function)}")

    def _method(self, method: str, given: Any, named: dict[str, Any]) -> Any:
        if not _depends((given, named)):
            return getattr(given[0], method)(*given[1:], **named)
        for kind, methods in _METHODS.items():
            if method in methods:
                return self._operation(kind, given, named)
        if method == "chunk":
            return self._chunk(given[0], given[1], given[2] if len(given) > 2 else named["dim"])
        if method == "size":
            shape = self._shape(given[0])
            return shape if len(given) == 1 else shape[given[1]]
        raise self._unknown(f"the method {method}")

    def _operation(self, kind: Kind, given: Any, named: dict[str, Any]) -> Any:
        self._check_not_in_place(named)
        operands = 2 if kind in (Kind.ADD, Kind.MULTIPLY) else 1
        defaults = {"inplace": False, "alpha": 1}
        further = [name for name, value in named.items() if defaults.get(name) != value]
        if len(given) != operands or further:
            raise self._unknown(f"further arguments {', '.join(further)}")
        if operands == 2:
            left, right = given
            if isinstance(left, int | float):
                left, right = right, left
            if isinstance(right, int | float):
                if kind is Kind.ADD:
                    raise self._unknown("the sum with a number")
                return self._map(Kind.SCALE, left, float(right))
            return self._pair(kind, left, right)
        if kind is Kind.SCALE:
            return self._map(Kind.SCALE, given[0], -1.0)
        return self._map(kind, given[0])

    # Their steps.

    def _input(self, layer: PixelInput, x: Any) -> _Value:
        if x is not _IMAGE:
            raise self._unknown("a PixelInput of something else than the image")
        if self.result.table is not None:
            raise self._unknown("a second PixelInput")
        if self.groups > 1 and layer.border:
            raise self._unknown("a border with channel groups")
        self.result.table = layer.table().detach()
        self.result.input = self._new_map(layer.out_channels, 0, "pixel")
        part = Part(self.result.input, 0, layer.out_channels)
        return _Value((part,), 0, "pixel", self.groups, is_input=True)

    def _masked(self, layer: MaskedConv2d, x: _Value) -> _Value:
        weight, reach = layer.weight, layer.kernel_size // 2
        before = [
            ((i - reach) * layer.dilation, (j - reach) * layer.dilation, weight[:, :, i, j])
            for i in range(reach + 1)
            for j in range(layer.kernel_size)
            if (i, j) < (reach, reach)
        ]
        inclusive, groups = layer.mask == "B", layer.channel_groups
        centre = weight[:, :, reach, reach]
        if groups == 1:
            taps = [*before, (0, 0, centre)] if inclusive else before
            return self._blocks(x, [(taps, layer.bias)], layer.out_channels)
        outputs, inputs = layer.out_channels // groups, layer.in_channels // groups
        blocks = []
        for g in range(groups):
            rows = slice(g * outputs, (g + 1) * outputs)
            taps = [(down, right, w[rows]) for down, right, w in before]
            seen = (g + inclusive) * inputs
            if seen > 0:
                taps.append((0, 0, centre[rows, :seen]))
            blocks.append((taps, None if layer.bias is None else layer.bias[rows]))
        return self._blocks(x, blocks, outputs)

    def _blocks(self, x: _Value, blocks: list[Any], outputs: int, stride: int = 1) -> _Value:
        """Blocks of outputs, each with taps (down, right, weight [outputs, inputs]) and a bias, and
        each seeing as many of the pixel's own features as its weight has inputs."""
        shift = x.shift + stride.bit_length() - 1
        if stride & (stride - 1):
            raise self._unknown(f"a stride of {stride}")
        is_row = self._checked_schedule(x, [tap[:2] for taps, _ in blocks for tap in taps])
        schedule: Schedule = "row" if is_row else "pixel"
        steps = self.groups if self.groups > 1 and len(blocks) == self.groups else 1
        at = self._new_map(outputs * len(blocks), shift, schedule)
        for g, (taps, bias) in enumerate(blocks):
            when = g if steps > 1 else 0
            terms = []
            for down, right, weight in taps:
                if (down, right) == (0, 0):
                    self._check_known(x, weight.shape[1], when)
                terms += self._terms(x, down, right, weight)
            self._add(
                Kind.CONVOLUTION,
                0 if is_row else 1 + when,
                Part(at, g * outputs, outputs),
                shift,
                terms=tuple(terms),
                bias=bias,
            )
        groups = steps if not is_row else 1
        return _Value((Part(at, 0, outputs * len(blocks)),), shift, schedule, groups)

    def _terms(self, x: _Value, down: int, right: int, weight: Tensor) -> list[Term]:
        terms, first = [], 0
        for part in x.cut(0, weight.shape[1]):
            columns = weight[:, first : first + part.count].detach().t()
            terms.append(Term(part, down, right, columns))
            first += part.count
        return terms

    def _transposed(self, layer: CausalConvTranspose2d, x: _Value) -> _Value:
        if x.shift == 0:
            raise self._unknown("a resolution above the image's")
        shift, outputs = x.shift - 1, layer.conv.out_channels
        phases = [(row, column, layer.taps(row, column)) for row in (0, 1) for column in (0, 1)]
        is_row = self._checked_schedule(x, [tap[2:] for *_, taps in phases for tap in taps])
        if any(tap[2:] == (0, 0) for *_, taps in phases for tap in taps):
            self._check_known(x, x.channels, 0)
        schedule: Schedule = "row" if is_row else "pixel"
        at = self._new_map(outputs, shift, schedule)
        for row, column, taps in phases:
            terms = [
                term
                for i, j, down, right in taps
                for term in self._terms(x, down, right, layer.conv.weight[:, :, i, j].t())
            ]
            self._add(
                Kind.CONVOLUTION,
                0 if is_row else 1,
                Part(at, 0, outputs),
                shift + 1,
                terms=tuple(terms),
                bias=layer.conv.bias,
                row=row << shift,
                column=column << shift,
            )
        return _Value((Part(at, 0, outputs),), shift, schedule)

    def _map(self, kind: Kind, x: Any, number: float = 1.0) -> _Value:
        return self._pointwise(kind, (x,), number)

    def _pair(self, kind: Kind, left: Any, right: Any) -> _Value:
        return self._pointwise(kind, tuple(self._value(t) for t in (left, right)))

    def _pointwise(self, kind: Kind, operands: tuple[_Value, ...], number: float = 1.0) -> _Value:
        shifts = {t.shift for t in operands if t.shift != _EVERYWHERE}
        if len(shifts) != 1 or len({t.channels for t in operands}) > 1:
            raise self._unknown("features of different shapes")
        for t in operands:
            if t.is_input and self.groups == 1:
                raise self._later()
        is_row = all(t.schedule != "pixel" for t in operands)
        groups = max(t.groups for t in operands)
        channels, (shift,) = operands[0].channels, shifts
        schedule: Schedule = "row" if is_row else "pixel"
        at = self._new_map(channels, shift, schedule)
        size = channels // groups
        for g in range(groups):
            cuts = [t.cut(g * size, size) for t in operands]
            for first, parts in _aligned(cuts):
                to = Part(at, g * size + first, parts[0].count)
                when = 0 if is_row else 1 + g
                self._add(kind, when, to, shift, operands=parts, number=number)
        return _Value((Part(at, 0, channels),), shift, schedule, groups)

    def _cat(self, tensors: Any, dim: int) -> _Value:
        if dim not in (1, -3):
            raise self._unknown(f"a concatenation along dimension {dim}")
        values = [self._value(t) for t in tensors]
        if len({t.shift for t in values} - {_EVERYWHERE}) != 1 or max(t.groups for t in values) > 1:
            raise self._unknown("a concatenation of different resolutions, or of channel groups")
        if any(t.is_input for t in values):
            raise self._unknown("a concatenation with the input")
        schedule: Schedule = "pixel" if any(t.schedule == "pixel" for t in values) else "row"
        parts = tuple(part for t in values for part in t.parts)
        return _Value(parts, max(t.shift for t in values), schedule)

    def _chunk(self, x: _Value, chunks: int, dim: int) -> tuple[_Value, ...]:
        if dim not in (1, -3) or x.channels % chunks:
            raise self._unknown(f"{chunks} chunks along dimension {dim}")
        size = x.channels // chunks
        return tuple(self._slice(x, k * size, size) for k in range(chunks))

    def _part(self, x: Any, index: Any) -> Any:
        if not isinstance(x, _Value):
            return x[index]
        everything = slice(None)
        if (
            not isinstance(index, tuple)
            or len(index) < 2
            or index[0] != everything
            or not isinstance(index[1], slice)
            or any(i != everything for i in index[2:])
        ):
            raise self._unknown(f"the part {index}")
        first, last, step = index[1].indices(x.channels)
        if step != 1:
            raise self._unknown(f"the part {index}")
        return self._slice(x, first, last - first)

    def _slice(self, x: _Value, first: int, count: int) -> _Value:
        if x.groups > 1 or x.is_input:
            raise self._unknown("a part of the channels of channel groups, or of the input")
        return _Value(x.cut(first, count), x.shift, x.schedule)

    def _shape(self, x: Any) -> torch.Size:
        _, height, width = self.image_shape
        if x is _IMAGE:
            return torch.Size((self.num, *self.image_shape))
        return torch.Size((self.num, x.channels, height >> x.shift, width >> x.shift))

    def _output(self, x: Any) -> Part:
        if not isinstance(x, _Value) or x.shift != 0:
            raise self._unknown("parameters that do not depend on the image, or are smaller")
        if self.groups == 1 and x.is_input:
            raise self._later()
        # The kernels read parameters from a map's first channel on.
        if len(x.parts) > 1 or x.parts[0].first > 0 or x.schedule != "pixel":
            at = self._new_map(x.channels, 0, "pixel")
            first = 0
            for part in x.parts:
                self._add(Kind.COPY, 1, Part(at, first, part.count), 0, operands=(part,))
                first += part.count
            return Part(at, 0, x.channels)
        return x.parts[0]

    # What they share.

    def _new_map(self, channels: int, shift: int, schedule: Schedule) -> int:
        self.result.maps.append(FeatureMap(channels, shift, schedule))
        return len(self.result.maps) - 1

    def _add(self, kind: Kind, when: int, to: Part, shift: int, **fields: Any) -> None:
        self.result.steps.append(Step(self.name, kind, when, to, modulus=1 << shift, **fields))

    def _value(self, t: Any) -> _Value:
        """Features, or the context's as such."""
        if isinstance(t, _Value):
            return t
        if not isinstance(t, Tensor) or t.dim() != 4 or t.shape[0] not in (1, self.num):
            raise self._unknown("a context that is not [N, K, h, w]")
        _, height, width = self.image_shape
        shift = _EVERYWHERE
        if t.shape[2:] != (1, 1) or (height, width) == (1, 1):
            shift = (height // t.shape[2]).bit_length() - 1
            if t.shape[2:] != (height >> shift, width >> shift):
                raise self._unknown(f"a context of {list(t.shape)}")
        values = t.detach().expand(self.num, *t.shape[1:])
        self.result.maps.append(FeatureMap(t.shape[1], shift, "given", values))
        return _Value((Part(len(self.result.maps) - 1, 0, t.shape[1]),), shift, "given")

    def _checked_schedule(self, x: _Value, taps: list[tuple[int, int]]) -> bool:
        """Whether features with these taps are there from the row's first pixel on."""
        if not isinstance(x, _Value):
            raise self._unknown("a convolution of the image, without a PixelInput")
        if x.schedule == "pixel" and any(tap > (0, 0) for tap in taps):
            raise self._later()
        if any(down > 0 for down, _ in taps) and x.schedule != "given":
            raise self._later()
        return x.schedule != "pixel" or all(down < 0 for down, _ in taps)

    def _check_known(self, x: _Value, inputs: int, when: int) -> None:
        """That these channels of the pixel itself are known before its channel `when`."""
        if x.groups > 1:
            groups = when if x.is_input else when + 1
            if inputs > groups * (x.channels // x.groups):
                raise self._later()
        elif x.is_input:
            raise self._later()

    def _check_not_in_place(self, named: dict[str, Any]) -> None:
        """What is overwritten may be looked at by another name."""
        if named.get("inplace"):
            raise self._unknown("an operation in place")

    def _unknown(self, what: str) -> ValueError:
        return ValueError(
            f"PixelPlan: {type(self.network).__name__} has {what} ({self.name}), which no step does"
        )

    def _later(self) -> ValueError:
        return ValueError(
            f"PixelPlan: {type(self.network).__name__} is not causal: a pixel sees itself or a "
            f"later one ({self.name})"
        )


def _depends(arguments: Any) -> bool:
    if isinstance(arguments, dict):
        arguments = tuple(arguments.values())
    if isinstance(arguments, tuple | list):
        return any(map(_depends, arguments))
    return arguments is _IMAGE or isinstance(arguments, _Value)


def _aligned(cuts: list[tuple[Part, ...]]) -> list[tuple[int, tuple[Part, ...]]]:
    """Parts of several operands, cut further so that they have the same lengths."""
    edges = set()
    for parts in cuts:
        at = 0
        for part in parts:
            at += part.count
            edges.add(at)
    aligned, first = [], 0
    for end in sorted(edges):
        whole = (_Value(parts, 0, "pixel") for parts in cuts)
        aligned.append((first, tuple(value.cut(first, end - first)[0] for value in whole)))
        first = end
    return aligned


# The resolution of a context that is the same at all pixels.
_EVERYWHERE = -1


class _Image:
    """Stands for the levels in the graph."""


_IMAGE = _Image()

_ACTIVATION_LAYERS: dict[type[nn.Module], Kind] = {
    nn.ReLU: Kind.RELU,
    nn.ELU: Kind.ELU,
    nn.Tanh: Kind.TANH,
    nn.Sigmoid: Kind.SIGMOID,
}
_FUNCTIONS: dict[Kind, tuple[Any, ...]] = {
    Kind.RELU: (torch.relu, functional.relu),
    Kind.ELU: (functional.elu,),
    Kind.TANH: (torch.tanh, functional.tanh),
    Kind.SIGMOID: (torch.sigmoid, functional.sigmoid),
    Kind.ADD: (operator.add, torch.add),
    Kind.MULTIPLY: (operator.mul, torch.mul),
    Kind.SCALE: (operator.neg, torch.neg),
}
_METHODS: dict[Kind, tuple[str, ...]] = {
    Kind.RELU: ("relu",),
    Kind.TANH: ("tanh",),
    Kind.SIGMOID: ("sigmoid",),
    Kind.ADD: ("add",),
    Kind.MULTIPLY: ("mul",),
    Kind.SCALE: ("neg",),
}
