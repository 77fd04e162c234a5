from gencore.objectives.games.energy import EnergyGame
from gencore.objectives.games.f_divergence import FDivergenceGame
from gencore.objectives.games.game import AdversarialGame, DensityRatioGame
from gencore.objectives.games.hinge import HingeGame
from gencore.objectives.games.least_squares import LeastSquaresGame
from gencore.objectives.games.logistic import LogisticGame
from gencore.objectives.games.mixup import mixup_discriminator_loss
from gencore.objectives.games.names import (
    FDivergenceGenerator,
    FDivergenceName,
    GameName,
    GeneratorLossKind,
)
from gencore.objectives.games.registry import make_game
from gencore.objectives.games.wasserstein import WassersteinGame

__all__ = [
    "AdversarialGame",
    "DensityRatioGame",
    "EnergyGame",
    "FDivergenceGame",
    "FDivergenceGenerator",
    "FDivergenceName",
    "GameName",
    "GeneratorLossKind",
    "HingeGame",
    "LeastSquaresGame",
    "LogisticGame",
    "WassersteinGame",
    "make_game",
    "mixup_discriminator_loss",
]
