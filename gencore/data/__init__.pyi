from gencore.data.arena.paths import free_walks, lattice_walks, rat_paths
from gencore.data.arena.place_lattice import PlaceLattice
from gencore.data.captions.captioned_scenes import CaptionedScenes, SceneObject
from gencore.data.captions.vocabulary import Vocabulary
from gencore.data.images.band_pass import difference_of_gaussians
from gencore.data.images.hidden_pixels import hidden_pixels
from gencore.data.images.images import ImageDataset, load_images
from gencore.data.images.made_images import constant_images, noise_images
from gencore.data.images.mutated_pixels import mutate_pixels
from gencore.data.images.pixels import to_float, to_uint8
from gencore.data.images.shards import ShardedImages, ShardSample
from gencore.data.names import MASK_NAMES, DensityName, MaskName
from gencore.data.plane.densities import Density, SpotDensity, load_density
from gencore.data.video.affine_triplets import Motion, draw_motions, make_triplets, move_images
from gencore.data.video.bouncing_digits import BouncingDigits
from gencore.data.video.deformations import draw_deformations
from gencore.data.video.drifting_textures import DriftingTextures
from gencore.data.video.film_writer import save_film
from gencore.data.video.moving_pairs import (
    MovingPair,
    affine_fields,
    deformed_pairs,
    flying_pairs,
)
from gencore.data.video.moving_shapes import MovingShapes, TrueMotion
from gencore.data.video.optical_flow import flow_to_image, optical_flow
from gencore.data.video.video_dataset import ClipPlace, VideoDataset
from gencore.data.video.videos import load_video
from gencore.data.video.white_noise import WhiteNoise

__all__ = [
    "MASK_NAMES",
    "BouncingDigits",
    "CaptionedScenes",
    "ClipPlace",
    "Density",
    "DensityName",
    "DriftingTextures",
    "ImageDataset",
    "MaskName",
    "Motion",
    "MovingPair",
    "MovingShapes",
    "PlaceLattice",
    "SceneObject",
    "ShardSample",
    "ShardedImages",
    "SpotDensity",
    "TrueMotion",
    "VideoDataset",
    "Vocabulary",
    "WhiteNoise",
    "affine_fields",
    "constant_images",
    "deformed_pairs",
    "difference_of_gaussians",
    "draw_deformations",
    "draw_motions",
    "flow_to_image",
    "flying_pairs",
    "free_walks",
    "hidden_pixels",
    "lattice_walks",
    "load_density",
    "load_images",
    "load_video",
    "make_triplets",
    "move_images",
    "mutate_pixels",
    "noise_images",
    "optical_flow",
    "rat_paths",
    "save_film",
    "to_float",
    "to_uint8",
]
