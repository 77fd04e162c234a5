"""What a generator learns from: a discriminator in training, or a distance of samples from data."""

from abc import ABC, abstractmethod

from torch import Generator, Tensor, nn

from gencore.ops._support.checks import accumulation_dtype

__all__ = ["Adversary"]


class Adversary(nn.Module, ABC):
    """The opponent of a generator: a call is what it minimises itself, `generator_loss` what it has
    the generator minimise.

    Both get data and samples alike, as many of the one as of the other. One without parameters,
    such as :class:`DistanceAdversary`, is not trained.
    """

    @property
    def is_trained(self) -> bool:
        """Whether it has parameters, for steps of its own."""
        return any(True for _ in self.parameters())

    @abstractmethod
    def forward(
        self,
        real: Tensor,
        fake: Tensor,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> dict[str, Tensor]:
        """Its own loss, as "loss", and what else there is to log: scalars.

        Args:
            real: data [N, ...].
            fake: samples like them; they get gradients unless detached.
            labels: classes [N] of both, for a discriminator that is conditioned on them.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of whatever is drawn.
            first: number of rows of the batch before these.

        Raises:
            ValueError: for samples of another shape than the data's.
        """

    @abstractmethod
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
        """The generator's loss of its samples, a scalar; arguments as for a call."""


def check_alike(owner: str, real: Tensor, fake: Tensor) -> None:
    """Raise a ValueError unless samples have the shape of the data."""
    if fake.shape != real.shape:
        raise ValueError(
            f"{owner}: fake has shape {list(fake.shape)}; expected {list(real.shape)}, as real has"
        )


def refuse_labels(owner: str, labels: Tensor | None) -> None:
    """Raise a TypeError for labels, which it would ignore."""
    if labels is not None:
        raise TypeError(f"{owner}: got labels; expected none, it is not conditional")


def one_score(owner: str, network: nn.Module, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """The scores [N] of data [N, ...] by a network that gives [N] or [N, 1]; never in half
    precision, in which their means would be wrong."""
    scores: Tensor = network(x) if labels is None else network(x, labels)
    if scores.shape == (len(x), 1):
        scores = scores.squeeze(1)
    if scores.shape != (len(x),):
        raise ValueError(
            f"{owner}: the network gives {list(scores.shape)}; expected [{len(x)}] or [{len(x)}, 1]"
        )
    return scores.to(accumulation_dtype(x))
