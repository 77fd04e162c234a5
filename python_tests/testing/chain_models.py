"""Small models that code images in parts or with bits back, and how many bits parts have."""

import math

import torch
from testing.coding import walk

from gencore.compression import (
    AGAVEModel,
    AuxiliaryPixelCNNModel,
    ClassConditionalModel,
    DARNModel,
    ExactModel,
    MultiScaleModel,
)
from gencore.models import (
    AGAVE,
    DARN,
    AuxiliaryPixelCNN,
    AuxiliaryVAE,
    DownSampledTarget,
    FullResolutionTarget,
    GatedPixelCNN,
    MultiScalePixelRNN,
    PixelCNN,
    PixelCNNPlusPlus,
    PixelRNN,
)
from gencore.nn import FeatureStack, ImageDecoder, ImageEncoder

SHAPE = (3, 4, 4)
GREY = (1, 4, 4)


def multi_scale():
    return MultiScaleModel(MultiScalePixelRNN(SHAPE, 6, 1, levels=8))


def three_scales():
    small = MultiScalePixelRNN((1, 2, 2), 4, 1, levels=8)
    return MultiScaleModel(MultiScalePixelRNN(GREY, 4, 1, levels=8, small=small, cell="row_lstm"))


def compiled_small():
    small = PixelCNN((1, 2, 2), channels=4, num_layers=1, levels=8)
    return MultiScaleModel(MultiScalePixelRNN(GREY, 4, 1, levels=8, small=small))


def classes():
    network = PixelCNNPlusPlus(
        SHAPE, 6, 1, 2, levels=8, context_channels=5, deep_context=True, dropout=0, weight_norm=True
    )
    return ClassConditionalModel(network, torch.eye(5)[1:4], labels=[1, 2, 3])


def classes_of_lstms():
    network = PixelRNN(GREY, 4, 1, levels=8, cell="row_lstm", context_channels=2)
    return ClassConditionalModel(ExactModel(network), torch.eye(2))


def darn():
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    return DARNModel(DARN(16, (6, 3), hidden_widths=(5,), order=order), GREY)


def vae(shape, target):
    size = {"channels": 6, "num_scales": 1}
    return AuxiliaryVAE(
        ImageEncoder(shape, 2 * 3, **size), ImageDecoder(3, target.shape, **size), target, 3
    )


def agave():
    pixels = PixelCNNPlusPlus(
        SHAPE, 6, 1, 2, levels=8, context_channels=3, deep_context=True, dropout=0
    )
    return AGAVEModel(AGAVE(vae(SHAPE, DownSampledTarget(SHAPE, 2, 8)), pixels))


def agave_with_stack():
    stack = FeatureStack(1, 4, 2)
    pixels = GatedPixelCNN(GREY, 6, 2, levels=8, context_channels=stack.out_channels)
    return AGAVEModel(AGAVE(vae(GREY, FullResolutionTarget(GREY, 8)), pixels, stack))


def auxiliary():
    target = DownSampledTarget(SHAPE, 2, levels=8)
    below = PixelCNN((3, 2, 2), channels=6, num_layers=1, levels=8)
    pixels = GatedPixelCNN(SHAPE, 6, 1, levels=8, context_channels=3)
    return AuxiliaryPixelCNNModel(AuxiliaryPixelCNN(below, pixels, target))


MODELS = {
    make.__name__: make
    for make in (
        multi_scale, three_scales, compiled_small, classes, classes_of_lstms, darn, agave,
        agave_with_stack, auxiliary,
    )
}  # fmt: skip


def make(name):
    """A model far from uniform."""
    torch.manual_seed(0)
    model = MODELS[name]()
    network = getattr(model, "network", None) or model.model
    network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape)).mul_(1.5)
    return model


def images(model):
    """A walk of each model's levels."""
    return walk(11, model.image_shape, model.levels)


class Recorder:
    """Levels that are coded, a part a call, and the bits of their frequencies."""

    def __init__(self):
        self.parts, self.bits = [], 0.0

    def __call__(self, session, shape, x, start=None):
        assert tuple(x.shape) == shape
        self.parts.append(x)
        table = session.frequencies(x.contiguous(), 0, session.positions).double() / 2**24
        values = x.permute(0, 2, 3, 1).flatten(1).unsqueeze(2)
        bits = -table.gather(2, values).log2()[..., 0]
        if start is not None:
            bits = bits * (start < 0).permute(0, 2, 3, 1).flatten(1)
        self.bits += bits.sum().item()
        return x


@torch.no_grad()
def bits_by_definition(name, model, x, parts):
    """−log₂ of what the network itself gives the parts, in float64."""
    if name in ("multi_scale", "three_scales", "compiled_small"):
        return -model.model.double().log_prob(x).sum().item() / math.log(2)
    if name.startswith("classes"):
        places, _ = parts
        context = model.contexts.double()[places.flatten()]
        log_prob = model.network.double().log_prob(x, context)
        return len(x) * math.log2(len(model.labels)) - log_prob.sum().item() / math.log(2)
    network = model.model.double()
    if name == "auxiliary":
        return -network.bound(x).sum().item() / math.log(2)
    number, places, _ = parts
    step = 2.0 ** -number.item()
    z = places.flatten(1) * step - 8
    grid = torch.arange(-8, 8 + step / 2, step, dtype=torch.float64)
    prior = (-grid.square() / 2).log_softmax(0)[places.flatten()].sum()
    log_prob = network.primary.log_prob(x, network.context(network.vae.decode(z.double())))
    return math.log2(6) - (prior + log_prob.sum()).item() / math.log(2)
