"""What a run is made of: an experiment, the live objects that a recipe builds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gencore.train.batches import Batch

__all__ = ["BatchSource", "Diverged", "Experiment", "StateObject", "Stateful"]


@runtime_checkable
class Stateful(Protocol):
    """Anything whose state a checkpoint can hold: a learning-rate scheduler, an EMA, a buffer."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as nested dicts, lists and tuples of tensors, numbers and strings."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take over a state that `state_dict` returned."""


StateObject: TypeAlias = nn.Module | Optimizer | torch.Generator | Stateful


class BatchSource(Protocol):
    """What the steps see: a pure function of the step, so that its number alone resumes a run."""

    def __getitem__(self, step: int) -> Batch:
        """This rank's rows of the batch of step `step`, counted from 0."""


class Diverged(RuntimeError):  # noqa: N818 - an outcome of training, not a mistake
    """The optimisation has left the region from which it can recover.

    Raised by `Experiment.step`; `fit` then stops and keeps the last good checkpoint.

    Args:
        reason: what was seen, e.g. ``"the energy difference is nan"``.
        advice: what the user can change, as the end of the sentence "Try …".

    Example:
        >>> from gencore.train import Diverged
        >>> raise Diverged("the loss is nan", advice="a learning_rate below 1e-3")
        Traceback (most recent call last):
            ...
        gencore.train.experiment.Diverged: the loss is nan
    """

    def __init__(
        self,
        reason: str,
        *,
        advice: str = "a smaller learning rate, a tighter gradient clamp or more regularisation",
    ) -> None:
        super().__init__(reason)
        self.advice = advice


class Experiment(ABC):
    """The live objects of a run: networks, optimisers and whatever else one step needs.

    A subclass sets `state` in its `__init__`; `fit` then repeats `step` and saves `state`.

    One rule makes an experiment resumable bit for bit and right on many devices: **everything in
    `state` and every draw from torch's generators is the same on all ranks**. Noise for the rows of
    a batch comes from `Batch.normal`, `Batch.uniform` or operators that are given a shared key and
    `Batch.first`, so that each rank computes its part of what one process would have computed.
    Where there are several ranks, `fit` refuses a first step that draws as many rows as the batch
    has by `torch.randn` and the like.

    Attributes:
        state: name → `nn.Module`, `Optimizer`, `torch.Generator` or `Stateful`: everything that the
            next step depends on and that a checkpoint must therefore hold.
    """

    state: Mapping[str, StateObject]

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One complete optimisation step.

        Args:
            batch: this rank's rows, B = global batch size / ranks of them, on the run's device; of
                an `ImageRecipe` uint8 images [B, C, H, W].

        Returns:
            Scalars to log (0-dimensional tensors, finite), averaged over ranks by `fit`. They are
            read only when a row is logged, so do not call `.item()` on them.

        Raises:
            Diverged: when the step cannot be used.
        """

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """`num` samples, float [num, ...]: images [num, C, H, W] in [0, 1], or what else the model
        makes; called on every rank with equal seeds. A model that makes none leaves this out.
        """
        raise NotImplementedError(f"{type(self).__name__} draws no samples")

    def evaluate(self, num: int) -> dict[str, float]:
        """The recipe's measures, from `num` samples or data points; called on every rank. A model
        that is not measured leaves this out.

        Where fewer were to be had, "num_samples" among the measures says how many.
        """
        raise NotImplementedError(f"{type(self).__name__} has no measures")

    def image_model(self) -> Any:
        """The model by which ``gencore compress`` codes images, with the weights that samples are
        drawn of: a `CodingModel`, a `ChainModel` or a `VQVAEModel` of `gencore.compression`. An
        experiment without one leaves this out.
        """
        raise NotImplementedError(f"{type(self).__name__} codes no images")

    def can(self, name: str) -> bool:
        """Whether the experiment has what it may leave out: "sample", "evaluate" or
        "image_model"."""
        return getattr(type(self), name) is not getattr(Experiment, name)

    def save_samples(self, samples: Tensor, path: Path) -> None:
        """Draws `samples` into a PNG: a grid of images [N, C, H, W], or points [N, 2] of the plane,
        unless the experiment shows them otherwise, which samples of other kinds need.

        Called on one rank only, so nothing in it may communicate.
        """
        from gencore.train.figures import save_image_grid, save_plane_panels

        if samples.ndim == 2 and samples.shape[1] == 2:
            save_plane_panels({"samples": samples}, 1.05 * samples.abs().max().item(), path)
        elif samples.ndim == 4 and samples.shape[1] in (1, 3):
            save_image_grid(samples, path)
        else:
            raise ValueError(
                f"num_samples asks for a figure of samples {tuple(samples.shape)}, which are "
                f"neither images nor points of the plane: give {type(self).__name__} a method "
                "save_samples, or draw none (num_samples 0)"
            )

    def figures(self, folder: Path) -> None:  # noqa: B027 - few have more to show
        """Draws what else shows the model into PNGs in `folder`, which it makes; nothing, unless
        the experiment has more to show.

        Called on one rank only, so nothing in it may communicate.
        """

    def prepare(self, num_samples: int, num_evaluate: int) -> None:  # noqa: B027 - as above
        """Loads and checks what the figures of `num_samples` samples and `evaluate(num_evaluate)`
        will need beside the training data; nothing, unless the experiment needs more.

        `fit` calls it before the first step, so that no run fails after its last one; 0 stands for
        no figures and no measures. It must not draw from torch's default generators.

        Raises:
            ValueError: something does not fit, in one sentence.
            OSError: something cannot be read.
        """
