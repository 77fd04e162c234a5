from gencore.data.densities import Density, load_density
from gencore.data.images import ImageDataset, load_images
from gencore.data.names import DensityName
from gencore.data.pixels import to_float, to_uint8

__all__ = [
    "Density",
    "DensityName",
    "ImageDataset",
    "load_density",
    "load_images",
    "to_float",
    "to_uint8",
]
