"""Layers of networks whose outputs see earlier pixels alone."""

from gencore.nn.causal.context_map import ContextMap
from gencore.nn.causal.convolutions import CausalConv2d, CausalConvTranspose2d
from gencore.nn.causal.pixel_input import PixelInput

__all__ = ["CausalConv2d", "CausalConvTranspose2d", "ContextMap", "PixelInput"]
