from gencore.models.diffusion.diffusion_noise import DiffusionNoise, slerp
from gencore.models.diffusion.diffusion_recovery_ebm import DiffusionRecoveryEBM
from gencore.models.diffusion.gaussian_diffusion import DiffusionBound, GaussianDiffusion
from gencore.models.diffusion.level_energy import LevelEnergy
from gencore.models.diffusion.long_run import LongRun, LongRunChains
from gencore.models.diffusion.noise_schedule import NoiseSchedule
from gencore.models.diffusion.recovery_likelihood import BitsCurve, RecoveryLikelihood

__all__ = [
    "BitsCurve",
    "DiffusionBound",
    "DiffusionNoise",
    "DiffusionRecoveryEBM",
    "GaussianDiffusion",
    "LevelEnergy",
    "LongRun",
    "LongRunChains",
    "NoiseSchedule",
    "RecoveryLikelihood",
    "slerp",
]
