from gencore.models.adversarial.adversary import Adversary
from gencore.models.adversarial.batch_adversary import BatchAdversary
from gencore.models.adversarial.distance_adversary import DistanceAdversary
from gencore.models.adversarial.energy_adversary import EnergyAdversary
from gencore.models.adversarial.mixup_adversary import MixupAdversary
from gencore.models.adversarial.score_adversary import ScoreAdversary

__all__ = [
    "Adversary",
    "BatchAdversary",
    "DistanceAdversary",
    "EnergyAdversary",
    "MixupAdversary",
    "ScoreAdversary",
]
