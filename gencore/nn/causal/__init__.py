"""Layers of networks whose outputs see earlier pixels alone."""

from gencore.nn.causal.context_map import ContextMap
from gencore.nn.causal.convolutions import CausalConv2d, CausalConvTranspose2d
from gencore.nn.causal.masked_conv2d import MaskedConv2d
from gencore.nn.causal.pixel_input import PixelInput
from gencore.nn.causal.plan import PixelPlan

__all__ = [
    "CausalConv2d",
    "CausalConvTranspose2d",
    "ContextMap",
    "MaskedConv2d",
    "PixelInput",
    "PixelPlan",
]
