from gencore.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.lossy_coder import LossyCoder
from gencore.models.autoregressive.pixelcnn import PixelCNN
from gencore.models.autoregressive.pixelcnn_plusplus import PixelCNNPlusPlus
from gencore.models.autoregressive.receptive_field import receptive_field
from gencore.models.autoregressive.vq_vae import VQVAE

__all__ = [
    "VQVAE",
    "AutoregressiveImageModel",
    "GatedPixelCNN",
    "LossyCoder",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "receptive_field",
]
