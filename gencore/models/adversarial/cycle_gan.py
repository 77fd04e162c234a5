"""Translation between two domains without pairs (Zhu et al. 2017)."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.adversarial.image_pool import ImagePool
from gencore.nn.stop_gradient import stop_gradient
from gencore.objectives import AdversarialGame, LogisticGame
from gencore.objectives.cycle_consistency import cycle_consistency_loss, identity_loss
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import number

__all__ = ["CycleGAN", "CycleGANLoss"]


class CycleGANLoss(NamedTuple):
    """Means over a batch, for both generators."""

    loss: Tensor
    """The weighted sum of the others, a scalar."""
    adversarial: Tensor
    """Of both games."""
    cycle: Tensor
    """How far data come back from a round trip."""
    identity: Tensor
    """How far data of the target domain are moved; 0 where it has no weight."""
    fake_x: Tensor
    """F(y), for `discriminator_loss`."""
    fake_y: Tensor
    """G(x), for `discriminator_loss`."""


class CycleGAN(nn.Module):
    r"""Two generators, G: X → Y and F: Y → X, that are to undo each other, and two critics.

    .. math:: \min_{G, F} \ \mathcal L_{GAN}(G, D_Y) + \mathcal L_{GAN}(F, D_X) +
              \lambda \mathcal L_{cyc}(G, F) + \lambda_{id} \mathcal L_{identity}(G, F)

    The games make G carry the density of X to that of Y, and F back; the round trips make each
    data point's translation its own. Nothing else fixes the maps: where the densities have a
    symmetry, so have the solutions.

    Args:
        generator: G, [N, ...] → [N, ...].
        inverse_generator: F.
        critic_x: D_X, data of X → scores of any shape.
        critic_y: D_Y.
        cycle_weight: λ.
        identity_weight: λ_id; λ/2 in the source, where it is used. X and Y are of one shape then.
        game: the losses of both players; by default the logistic one, with the generator's loss
            that does not saturate.
        pool_x: past samples F(y) for D_X; the present ones alone where there is none.
        pool_y: the same for D_Y.

    Raises:
        ValueError: for a negative weight, or on a call for maps whose shapes do not fit.

    References:
        Zhu, Park, Isola and Efros, "Unpaired image-to-image translation using cycle-consistent
        adversarial networks", 2017, (1) to (4).

    Example:
        >>> import torch
        >>> from gencore.models import CycleGAN
        >>> from gencore.nn import MLP
        >>> critics = MLP(2, (8,), 1), MLP(2, (8,), 1)
        >>> model = CycleGAN(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), *critics)
        >>> x, y = torch.randn(16, 2), torch.randn(16, 2)
        >>> terms = model(x, y)
        >>> terms.loss.backward()
        >>> model.discriminator_loss(x, y, terms.fake_x, terms.fake_y).backward()
        >>> model.translate(x).shape
        torch.Size([16, 2])
    """

    def __init__(
        self,
        generator: nn.Module,
        inverse_generator: nn.Module,
        critic_x: nn.Module,
        critic_y: nn.Module,
        *,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        game: AdversarialGame | None = None,
        pool_x: ImagePool | None = None,
        pool_y: ImagePool | None = None,
    ) -> None:
        super().__init__()
        self.cycle_weight = number("CycleGAN", "cycle_weight", cycle_weight)
        self.identity_weight = number("CycleGAN", "identity_weight", identity_weight)
        self.generators = nn.ModuleDict({"x to y": generator, "y to x": inverse_generator})
        self.critics = nn.ModuleDict({"x": critic_x, "y": critic_y})
        self.game = LogisticGame() if game is None else game
        self.pool_x, self.pool_y = pool_x, pool_y

    def translate(self, x: Tensor) -> Tensor:
        """G(x)."""
        y: Tensor = self.generators["x to y"](x)
        return y

    def translate_back(self, y: Tensor) -> Tensor:
        """F(y)."""
        x: Tensor = self.generators["y to x"](y)
        return x

    def forward(self, x: Tensor, y: Tensor) -> CycleGANLoss:
        """The generators' loss of data; it has gradients in the generators alone.

        Args:
            x: data of X, [N, ...].
            y: data of Y, [M, ...], which have nothing to do with them.
        """
        fake_y, fake_x = self.translate(x), self.translate_back(y)
        adversarial = self.game.generator_loss(
            stop_gradient(self.critics["y"])(fake_y)
        ) + self.game.generator_loss(stop_gradient(self.critics["x"])(fake_x))
        cycle = cycle_consistency_loss(x, self.translate_back(fake_y), y, self.translate(fake_x))
        identity = torch.zeros_like(cycle)
        if self.identity_weight:
            identity = identity_loss(x, self.translate_back(x), y, self.translate(y))
        loss = adversarial + self.cycle_weight * cycle + self.identity_weight * identity
        return CycleGANLoss(loss, adversarial, cycle, identity, fake_x, fake_y)

    def discriminator_loss(
        self,
        x: Tensor,
        y: Tensor,
        fake_x: Tensor,
        fake_y: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
    ) -> Tensor:
        """Both critics' loss, a scalar, without a gradient in the generators.

        Samples go through the pools, if there are any.

        Args:
            x, y: data.
            fake_x, fake_y: F(y) and G(x), as of `forward`.
            generator: draws the key of the pools where none is given.
            key: int64 [seed, offset] of the pools.
        """
        fakes = [fake_x.detach(), fake_y.detach()]
        if self.pool_x is not None or self.pool_y is not None:
            if key is None:
                key = random_key(generator, device=x.device)
            keys = split_key(key, 2)
            for place, pool in enumerate((self.pool_x, self.pool_y)):
                if pool is not None:
                    fakes[place] = pool(fakes[place], key=keys[place])
        losses = [
            self.game.discriminator_loss(critic(real), critic(fake))
            for critic, real, fake in zip(self.critics.values(), (x, y), fakes, strict=True)
        ]
        return torch.stack(losses).sum()
