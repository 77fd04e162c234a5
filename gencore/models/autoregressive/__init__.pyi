from gencore.models.autoregressive.agave import AGAVE, AuxiliarySample
from gencore.models.autoregressive.auxiliary_pixelcnn import AuxiliaryPixelCNN
from gencore.models.autoregressive.auxiliary_targets import (
    AuxiliaryTarget,
    DownSampledTarget,
    FullResolutionTarget,
    GrayscaleTarget,
)
from gencore.models.autoregressive.auxiliary_vae import AuxiliaryVAE
from gencore.models.autoregressive.bound_terms import BoundTerms
from gencore.models.autoregressive.image_model import AutoregressiveImageModel

__all__ = [
    "AGAVE",
    "AutoregressiveImageModel",
    "AuxiliaryPixelCNN",
    "AuxiliarySample",
    "AuxiliaryTarget",
    "AuxiliaryVAE",
    "BoundTerms",
    "DownSampledTarget",
    "FullResolutionTarget",
    "GrayscaleTarget",
]
