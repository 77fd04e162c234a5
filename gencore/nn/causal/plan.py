"""A causal network as a program that computes the features of one pixel after another.

The network's forward pass is traced by :mod:`torch.fx`; each operation on features that depend on
the image becomes an instruction (csrc/arguments/pixel_plan.h), and what depends on the context
alone is computed once, before the first pixel.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from gencore.nn.causal.convolutions import CausalConv2d, CausalConvTranspose2d
from gencore.nn.causal.masked_conv2d import MaskedConv2d
from gencore.nn.causal.pixel_input import PixelInput
from gencore.nn.likelihoods import DrawSpec
from gencore.ops.pixel_plan import pixel_plan_

__all__ = ["CausalNetwork", "PixelPlan", "PlanState"]
