from gencore.models.diffusion.gaussian_diffusion import DiffusionBound, GaussianDiffusion
from gencore.models.diffusion.noise_schedule import NoiseSchedule

__all__ = [
    "DiffusionBound",
    "GaussianDiffusion",
    "NoiseSchedule",
]
