from gencore.models.adversarial.adversary import Adversary
from gencore.models.adversarial.batch_adversary import BatchAdversary
from gencore.models.adversarial.conv_autoencoder_energy import ConvAutoencoderEnergy
from gencore.models.adversarial.cycle_gan import CycleGAN, CycleGANLoss
from gencore.models.adversarial.distance_adversary import DistanceAdversary
from gencore.models.adversarial.energy_adversary import EnergyAdversary
from gencore.models.adversarial.image_pool import ImagePool
from gencore.models.adversarial.ladder_adversary import LadderAdversary
from gencore.models.adversarial.laplacian_gan import LaplacianGAN
from gencore.models.adversarial.mixup_adversary import MixupAdversary
from gencore.models.adversarial.multi_scale_patch_discriminator import (
    MultiScalePatchDiscriminator,
    PatchScores,
)
from gencore.models.adversarial.pair_adversary import PairAdversary, PairLoss
from gencore.models.adversarial.platt_scaling import PlattScaling
from gencore.models.adversarial.score_adversary import ScoreAdversary
from gencore.models.adversarial.truncated_latents import truncated_normal

__all__ = [
    "Adversary",
    "BatchAdversary",
    "ConvAutoencoderEnergy",
    "CycleGAN",
    "CycleGANLoss",
    "DistanceAdversary",
    "EnergyAdversary",
    "ImagePool",
    "LadderAdversary",
    "LaplacianGAN",
    "MixupAdversary",
    "MultiScalePatchDiscriminator",
    "PairAdversary",
    "PairLoss",
    "PatchScores",
    "PlattScaling",
    "ScoreAdversary",
    "truncated_normal",
]
