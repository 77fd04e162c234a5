from gencore.models.autoregressive.darn import DARN
from gencore.models.autoregressive.eonade import EoNADE
from gencore.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.made import DiscreteMADE
from gencore.models.autoregressive.mixture_density import (
    Covariance,
    GaussianMixtures,
    MixtureDensityNetwork,
)
from gencore.models.autoregressive.nade import NADE
from gencore.models.autoregressive.pixelcnn import PixelCNN
from gencore.models.autoregressive.pixelcnn_plusplus import PixelCNNPlusPlus
from gencore.models.autoregressive.receptive_fields import receptive_field
from gencore.models.autoregressive.vectors import AutoregressiveVectorModel, VectorModel

__all__ = [
    "DARN",
    "NADE",
    "AutoregressiveImageModel",
    "AutoregressiveVectorModel",
    "Covariance",
    "DiscreteMADE",
    "EoNADE",
    "GatedPixelCNN",
    "GaussianMixtures",
    "MixtureDensityNetwork",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "VectorModel",
    "receptive_field",
]
