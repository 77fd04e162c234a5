"""Layers of networks whose outputs see earlier pixels alone."""

from gencore.nn.causal.context_map import ContextMap
from gencore.nn.causal.convolutions import CausalConv2d, CausalConvTranspose2d
from gencore.nn.causal.diagonal_bilstm import DiagonalBiLSTM
from gencore.nn.causal.masked_conv2d import MaskedConv2d
from gencore.nn.causal.pixel_input import PixelInput
from gencore.nn.causal.plan import PixelPlan
from gencore.nn.causal.row_lstm import RowLSTM

__all__ = [
    "CausalConv2d",
    "CausalConvTranspose2d",
    "ContextMap",
    "DiagonalBiLSTM",
    "MaskedConv2d",
    "PixelInput",
    "PixelPlan",
    "RowLSTM",
]
