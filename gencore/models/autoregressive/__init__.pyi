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
from gencore.models.autoregressive.darn import DARN
from gencore.models.autoregressive.eonade import EoNADE
from gencore.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencore.models.autoregressive.grayscale_decoder import GrayscaleDecoder
from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.lossy_coder import LossyCoder
from gencore.models.autoregressive.made import DiscreteMADE
from gencore.models.autoregressive.mixture_density import (
    Covariance,
    GaussianMixtures,
    MixtureDensityNetwork,
)
from gencore.models.autoregressive.multi_scale_pixel_rnn import MultiScalePixelRNN
from gencore.models.autoregressive.nade import NADE
from gencore.models.autoregressive.pixel_rnn import PixelRNN
from gencore.models.autoregressive.pixelcnn import PixelCNN
from gencore.models.autoregressive.pixelcnn_plusplus import PixelCNNPlusPlus
from gencore.models.autoregressive.receptive_fields import receptive_field
from gencore.models.autoregressive.vector_model import VectorModel
from gencore.models.autoregressive.vectors import AutoregressiveVectorModel
from gencore.models.autoregressive.vq_vae import VQVAE

__all__ = [
    "AGAVE",
    "DARN",
    "NADE",
    "VQVAE",
    "AutoregressiveImageModel",
    "AutoregressiveVectorModel",
    "AuxiliaryPixelCNN",
    "AuxiliarySample",
    "AuxiliaryTarget",
    "AuxiliaryVAE",
    "BoundTerms",
    "Covariance",
    "DiscreteMADE",
    "DownSampledTarget",
    "EoNADE",
    "FullResolutionTarget",
    "GatedPixelCNN",
    "GaussianMixtures",
    "GrayscaleDecoder",
    "GrayscaleTarget",
    "LossyCoder",
    "MixtureDensityNetwork",
    "MultiScalePixelRNN",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "PixelRNN",
    "VectorModel",
    "receptive_field",
]
