"""Simpler images y of an image x, which an auxiliary decoder models pixel by pixel."""

from gencore.models.autoregressive.auxiliary_targets.auxiliary_target import AuxiliaryTarget
from gencore.models.autoregressive.auxiliary_targets.down_sampled import DownSampledTarget
from gencore.models.autoregressive.auxiliary_targets.full_resolution import FullResolutionTarget
from gencore.models.autoregressive.auxiliary_targets.grayscale import GrayscaleTarget

__all__ = ["AuxiliaryTarget", "DownSampledTarget", "FullResolutionTarget", "GrayscaleTarget"]
