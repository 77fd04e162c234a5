from gencore.models.diffusion.diffusion_noise import DiffusionNoise, slerp
from gencore.models.diffusion.diffusion_recovery_ebm import DiffusionRecoveryEBM
from gencore.models.diffusion.level_energy import LevelEnergy
from gencore.models.diffusion.noise_schedule import NoiseSchedule

__all__ = [
    "DiffusionNoise",
    "DiffusionRecoveryEBM",
    "LevelEnergy",
    "NoiseSchedule",
    "slerp",
]
