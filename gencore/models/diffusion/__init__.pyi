from gencore.models.diffusion.noise_schedule import NoiseSchedule

__all__ = [
    "NoiseSchedule",
]
