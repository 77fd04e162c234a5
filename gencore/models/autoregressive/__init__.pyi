from gencore.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.pixelcnn import PixelCNN
from gencore.models.autoregressive.pixelcnn_plusplus import PixelCNNPlusPlus
from gencore.models.autoregressive.receptive_field import receptive_field

__all__ = [
    "AutoregressiveImageModel",
    "GatedPixelCNN",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "receptive_field",
]
