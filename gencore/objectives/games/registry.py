"""The games by name, for options of a recipe."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from gencore.choices import check_choice
from gencore.objectives.games.energy import EnergyGame
from gencore.objectives.games.f_divergence import FDivergenceGame
from gencore.objectives.games.game import AdversarialGame
from gencore.objectives.games.hinge import HingeGame
from gencore.objectives.games.least_squares import LeastSquaresGame
from gencore.objectives.games.logistic import LogisticGame
from gencore.objectives.games.names import GameName
from gencore.objectives.games.wasserstein import WassersteinGame

__all__ = ["make_game"]

_GAMES: Mapping[GameName, Callable[..., AdversarialGame]] = {
    "logistic": LogisticGame,
    "hinge": HingeGame,
    "least-squares": LeastSquaresGame,
    "wasserstein": WassersteinGame,
    "energy": EnergyGame,
    "f-divergence": FDivergenceGame,
}


def make_game(name: GameName, **options: Any) -> AdversarialGame:
    """A game by its name, with the arguments of its class.

    Args:
        name: "logistic", "hinge", "least-squares", "wasserstein", "energy" or "f-divergence".
        options: arguments of `LogisticGame`, `HingeGame`, `LeastSquaresGame`, `WassersteinGame`,
            `EnergyGame` or `FDivergenceGame`.

    Raises:
        ValueError: for another name, or options that the class refuses.
        TypeError: for options that the class does not have, or that it needs and are missing.

    Example:
        >>> make_game("energy", margin=10.0)
        EnergyGame(margin=10.0, power=1)
    """
    check_choice("make_game", "name", name, get_args(GameName))
    return _GAMES[name](**options)
