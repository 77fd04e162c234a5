from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.models.autoregressive.lossy_coder import LossyCoder
from gencore.models.autoregressive.vq_vae import VQVAE

__all__ = ["VQVAE", "AutoregressiveImageModel", "LossyCoder"]
