"""An auto-encoder as the discriminator of a game of energies."""

from torch import Generator, Tensor

from gencore.models.adversarial.adversary import refuse_labels
from gencore.models.adversarial.score_adversary import ScoreAdversary
from gencore.models.ebm.autoencoder_energy import AutoencoderEnergy
from gencore.objectives import EnergyGame
from gencore.objectives.pulling_away import pulling_away_term
from gencore.ops._support.checks import accumulation_dtype, number

__all__ = ["EnergyAdversary"]


class EnergyAdversary(ScoreAdversary):
    r"""The discriminator of an energy-based GAN, whose scores are reconstruction errors, with the
    pulling-away term in the generator's loss if asked for.

    .. math:: L_G = \mathbb E f(D(\tilde x)) + \lambda_{PT} f_{PT}(\mathrm{Enc}(\tilde x))

    Args:
        network: D(x) = ‖Dec(Enc(x)) − x‖².
        game: margin and f.
        pulling_away_weight: λ_PT; 0 for none.

    Raises:
        ValueError: for a negative weight, and on a call for samples of another shape than the
            data's.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §6.2. Zhao, Mathieu and LeCun,
        "Energy-based generative adversarial networks", 2017.

    Example:
        >>> import torch
        >>> from gencore.models import AutoencoderEnergy, EnergyAdversary
        >>> from gencore.objectives import EnergyGame
        >>> network = AutoencoderEnergy(torch.nn.Linear(3, 2), torch.nn.Linear(2, 3))
        >>> adversary = EnergyAdversary(network, EnergyGame(1.0), pulling_away_weight=0.1)
        >>> x, fake = torch.randn(2, 16, 3)
        >>> adversary(x, fake)["loss"].backward()
        >>> adversary.generator_loss(fake, x).shape
        torch.Size([])
    """

    def __init__(
        self, network: AutoencoderEnergy, game: EnergyGame, *, pulling_away_weight: float = 0.0
    ) -> None:
        super().__init__(network, game)
        number("EnergyAdversary", "pulling_away_weight", pulling_away_weight)
        self.pulling_away_weight = pulling_away_weight

    def generator_loss(
        self,
        fake: Tensor,
        real: Tensor,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        refuse_labels("EnergyAdversary", labels)
        if not self.pulling_away_weight:
            return super().generator_loss(fake, real)
        network = self.network
        assert isinstance(network, AutoencoderEnergy)
        energy, codes = (
            each.to(accumulation_dtype(fake)) for each in network.energy_and_codes(fake)
        )
        loss = self.game.generator_loss(energy)
        return loss + self.pulling_away_weight * pulling_away_term(codes)

    def extra_repr(self) -> str:
        return f"game={self.game}, pulling_away_weight={self.pulling_away_weight}"
