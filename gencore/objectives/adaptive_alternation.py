"""Whose turn it is in a game of a density and its noise: by the classification's accuracy."""

from typing import Literal

from gencore.ops._support.checks import check_count, finite

__all__ = ["AdaptiveAlternation", "Player"]

Player = Literal["density", "noise"]


class AdaptiveAlternation:
    """The turns of flow contrastive estimation: the density moves until it tells the data from the
    noise, and then the noise until it does not (Gao 2021, §4.2.4).

    - The density hands over after an update whose accuracy is above the threshold.
    - The noise hands over after an update whose accuracy is below it.
    - Either hands over after `cap` updates in a row. Without that the source's rule runs away: a
      density that calls everything noise has an accuracy of exactly one half, and the noise moves
      for ever, against a density that is wrong.
    - At first the density alone makes `warmup` updates, since a game against a density that knows
      nothing leads the noise away from the data.

    Args:
        warmup: updates of the density before the game.
        cap: updates of one player in a row, at most.
        threshold: of the accuracy.

    Raises:
        ValueError: for a negative warm-up, a cap below 1 or a threshold outside (0, 1).

    Example:
        >>> turns = AdaptiveAlternation(cap=3)
        >>> players = []
        >>> for accuracy in (0.4, 0.6, 0.55, 0.45, 0.5, 0.5, 0.5, 0.9):
        ...     players.append(turns.player)
        ...     turns.update(accuracy)
        >>> " ".join(players)
        'density density noise noise density density density noise'

    References:
        Gao, Nijkamp, Kingma, Xu, Dai and Wu, "Flow contrastive estimation of energy-based models",
        2020.
    """

    def __init__(self, *, warmup: int = 0, cap: int = 5, threshold: float = 0.5) -> None:
        check_count("AdaptiveAlternation", "warmup", warmup)
        check_count("AdaptiveAlternation", "cap", cap, least=1)
        if not 0 < finite("AdaptiveAlternation", "threshold", threshold) < 1:
            raise ValueError(
                f"AdaptiveAlternation: threshold is {threshold}; expected a number between 0 and 1"
            )
        self.warmup, self.cap, self.threshold = warmup, cap, threshold
        self.player: Player = "density"
        self.done = 0
        """Updates so far, of both."""
        self.in_a_row = 0
        """Of the player whose turn it is, since it has its turn."""

    def update(self, accuracy: float) -> None:
        """Note an update of the player and the accuracy of the classification that it saw."""
        self.done += 1
        if self.done <= self.warmup:
            return
        self.in_a_row += 1
        is_density = self.player == "density"
        has_won = accuracy > self.threshold if is_density else accuracy < self.threshold
        if has_won or self.in_a_row >= self.cap:
            self.player, self.in_a_row = ("noise" if is_density else "density"), 0

    def state_dict(self) -> dict[str, int]:
        return {
            "noise_is_next": int(self.player == "noise"),
            "done": self.done,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state_dict: dict[str, int], /) -> None:
        self.player = "noise" if state_dict["noise_is_next"] else "density"
        self.done, self.in_a_row = state_dict["done"], state_dict["in_a_row"]
