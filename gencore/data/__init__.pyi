from gencore.data.images.images import ImageDataset, load_images
from gencore.data.images.pixels import to_float, to_uint8
from gencore.data.images.shards import ShardedImages, ShardSample
from gencore.data.names import DensityName
from gencore.data.plane.densities import Density, load_density

__all__ = [
    "Density",
    "DensityName",
    "ImageDataset",
    "ShardSample",
    "ShardedImages",
    "load_density",
    "load_images",
    "to_float",
    "to_uint8",
]
