from gencore.models.autoregressive.image_model import AutoregressiveImageModel

__all__ = ["AutoregressiveImageModel"]
