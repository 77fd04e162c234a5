from gencore.data.images.images import ImageDataset, load_images
from gencore.data.images.pixels import to_float, to_uint8
from gencore.data.images.shards import ShardedImages, ShardSample
from gencore.data.names import DensityName
from gencore.data.plane.densities import Density, load_density
from gencore.data.video.videos import ClipPlace, VideoDataset, load_video

__all__ = [
    "ClipPlace",
    "Density",
    "DensityName",
    "ImageDataset",
    "ShardSample",
    "ShardedImages",
    "VideoDataset",
    "load_density",
    "load_images",
    "load_video",
    "to_float",
    "to_uint8",
]
