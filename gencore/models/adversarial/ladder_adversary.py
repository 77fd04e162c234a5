"""A ladder network as the discriminator of a game of energies, for few labels (EBGAN-LN)."""

from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from gencore.models.adversarial.adversary import Adversary, check_alike, refuse_labels
from gencore.nn import LadderNetwork
from gencore.objectives import EnergyGame
from gencore.ops import random_key
from gencore.ops._support.checks import number
from gencore.ops.random import stream_key

__all__ = ["LadderAdversary"]


class LadderAdversary(Adversary):
    r"""A classifier of few labelled points, whose energy of unlabelled ones a generator plays.

    With the energy D(x) = Σ λ_l C⁽ˡ⁾(x) of a :class:`gencore.nn.LadderNetwork`, and labelled points
    (x', y),

    .. math:: L_D &= \mathbb E f(D(x)) + \mathbb E f([m - D(\tilde x)]^+)
                     - w\,\mathbb E \log \tilde p(y \mid x') \\
              L_G &= \mathbb E f(D(\tilde x))

    where p̃ is the noisy encoder's. Without samples L_D is the ladder network's own loss, to which a
    falling margin leads back: with the margin at 0 there is no second term. `game` may be
    replaced between steps.

    Data, samples and labelled points are normalised apart from one another.

    Args:
        network: the ladder network. In the thesis its bottom layer's cost alone has a weight.
        game: margin and f.
        label_weight: w.

    Raises:
        ValueError: for a negative weight, and on a call for samples of another shape than the
            data's.
        TypeError: for labels of data and samples, since the generator is not conditional.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §6.3.2. Zhao, Mathieu and LeCun,
        "Energy-based generative adversarial networks", 2017, §4.2, with the falling margin.

    Example:
        >>> import torch
        >>> from gencore.models import LadderAdversary
        >>> from gencore.nn import LadderNetwork
        >>> from gencore.objectives import EnergyGame
        >>> network = LadderNetwork(6, [8], 3, denoising_weights=(10.0, 0.0))
        >>> adversary = LadderAdversary(network, EnergyGame(2.0))
        >>> x, fake = torch.rand(2, 16, 6)
        >>> adversary(x, fake, labelled=(x[:3], torch.tensor([0, 1, 2])))["loss"].backward()
        >>> adversary.generator_loss(fake, x).shape
        torch.Size([])
    """

    def __init__(
        self, network: LadderNetwork, game: EnergyGame, *, label_weight: float = 1.0
    ) -> None:
        super().__init__()
        number("LadderAdversary", "label_weight", label_weight)
        self.network, self.game, self.label_weight = network, game, label_weight

    def forward(
        self,
        real: Tensor,
        fake: Tensor | None,
        *,
        labels: Tensor | None = None,
        labelled: tuple[Tensor, Tensor] | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> dict[str, Tensor]:
        """L_D and its terms.

        Args:
            real: unlabelled data [N, D].
            fake: samples like them; without any, the loss of the ladder network alone.
            labels: none.
            labelled: points [M, D] and their classes int64 [M], if there are any.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the noise.
            first: number of rows of the batch before these.
        """
        refuse_labels("LadderAdversary", labels)
        key = random_key(generator, device=real.device) if key is None else key
        real_energy = self.network.energy(real, key=key, first=first)
        terms = {"real_score": real_energy.mean()}
        if fake is None:
            loss = self.game.generator_loss(real_energy)  # E f(D), here of data
        else:
            check_alike("LadderAdversary", real, fake)
            fake_energy = self.network.energy(fake, key=stream_key(key, "samples"), first=first)
            terms["fake_score"] = fake_energy.mean()
            loss = self.game.discriminator_loss(real_energy, fake_energy)
        if labelled is not None:
            x, label = labelled
            logits = self.network.denoise(x, key=stream_key(key, "labelled")).logits
            terms["label_loss"] = cross_entropy(logits, label)
            loss = loss + self.label_weight * terms["label_loss"]
        return {"loss": loss, **terms}

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
        refuse_labels("LadderAdversary", labels)
        energy = self.network.energy(fake, generator=generator, key=key, first=first)
        return self.game.generator_loss(energy)

    def extra_repr(self) -> str:
        return f"game={self.game}, label_weight={self.label_weight}"
