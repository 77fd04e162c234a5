from gencore.models.video.baselines import constant_flow, copy_last
from gencore.models.video.dynamic_generator import DynamicGenerator
from gencore.models.video.film_generator import FilmGenerator
from gencore.models.video.image_to_video import ImageToVideo, ImageToVideoEncoder
from gencore.models.video.latent_film import LatentFilmModel
from gencore.models.video.latent_linearizing_autoencoder import (
    LatentLinearizingAutoencoder,
    LatentLinearizingLoss,
)
from gencore.models.video.linear_dynamics import LinearDynamics, SmoothedStates
from gencore.models.video.linearizing_architectures import linearizing_architecture
from gencore.models.video.linearizing_autoencoder import (
    Code,
    LinearizingAutoencoder,
    LinearizingLoss,
    PhaseCode,
    SiameseAutoencoder,
)
from gencore.models.video.motion_generator import (
    MotionFilm,
    MotionGenerator,
    MotionLoss,
    transfer_motion,
)
from gencore.models.video.multi_scale_discriminator import MultiScaleDiscriminator
from gencore.models.video.multi_scale_generator import MultiScaleGenerator
from gencore.models.video.pyramid import image_pyramid

__all__ = [
    "Code",
    "DynamicGenerator",
    "FilmGenerator",
    "ImageToVideo",
    "ImageToVideoEncoder",
    "LatentFilmModel",
    "LatentLinearizingAutoencoder",
    "LatentLinearizingLoss",
    "LinearDynamics",
    "LinearizingAutoencoder",
    "LinearizingLoss",
    "MotionFilm",
    "MotionGenerator",
    "MotionLoss",
    "MultiScaleDiscriminator",
    "MultiScaleGenerator",
    "PhaseCode",
    "SiameseAutoencoder",
    "SmoothedStates",
    "constant_flow",
    "copy_last",
    "image_pyramid",
    "linearizing_architecture",
    "transfer_motion",
]
