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
from gencore.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencore.models.autoregressive.grayscale_decoder import GrayscaleDecoder
from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.pixelcnn import PixelCNN
from gencore.models.autoregressive.pixelcnn_plusplus import PixelCNNPlusPlus
from gencore.models.autoregressive.receptive_field import receptive_field

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
    "GatedPixelCNN",
    "GrayscaleDecoder",
    "GrayscaleTarget",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "receptive_field",
]
