"""What a run is made of: a recipe (the options) builds an experiment (the live objects)."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gencore.choices import check_choice

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import ImageDataset
    from gencore.data.splits import Split

__all__ = [
    "BatchSource",
    "Diverged",
    "Experiment",
    "ImageRecipe",
    "Recipe",
    "StateObject",
    "Stateful",
]


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

    def __getitem__(self, step: int) -> Any:
        """This rank's part [B / ranks, ...] of the batch of step `step`, counted from 0."""


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
    `state` and every draw from torch's default generator is the same on all ranks**. A rank that
    needs its own noise derives it from a shared key and the index of its first element
    (`gencore.ops.philox_normal(..., first_element=...)`), so that it computes its part of what one
    process would have computed.

    Attributes:
        state: name → `nn.Module`, `Optimizer`, `torch.Generator` or `Stateful`: everything that the
            next step depends on and that a checkpoint must therefore hold.
    """

    state: Mapping[str, StateObject]

    @abstractmethod
    def step(self, batch: Any) -> dict[str, Tensor]:
        """One complete optimisation step.

        Args:
            batch: what `Recipe.batches` gives: [B, ...] on the run's device, B = global batch size
                / ranks; of an `ImageRecipe` uint8 images [B, C, H, W].

        Returns:
            Scalars to log (0-dimensional tensors, finite), averaged over ranks by `fit`. They are
            read only when a row is logged, so do not call `.item()` on them.

        Raises:
            Diverged: when the step cannot be used.
        """

    @abstractmethod
    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """`num` samples, float [num, ...]: images [num, C, H, W] in [0, 1], or what else the model
        makes; called on every rank with equal seeds."""

    @abstractmethod
    def evaluate(self, num: int) -> dict[str, float]:
        """The recipe's measures, from `num` samples; called on every rank."""

    def save_figure(self, samples: Tensor, path: Path) -> None:
        """Draws `samples` into a PNG: a grid of images, unless the experiment shows them otherwise.

        Called on one rank only, so nothing in it may communicate.
        """
        from gencore.train.figures import save_image_grid

        save_image_grid(samples, path)

    def save_figures(self, folder: Path) -> None:  # noqa: B027 - few have more to show
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


@dataclass(kw_only=True)
class Recipe(ABC):
    """The options of a runnable experiment: its fields are the command line's options.

    A subclass is a dataclass whose fields are numbers, strings, booleans, `None`, paths or tuples
    of these, each with a docstring below it that the command line shows as help. The first line of
    the class docstring is its description in ``gencore list``.

    Example:
        >>> from dataclasses import dataclass
        >>> from gencore.train import Recipe
        >>> @dataclass(kw_only=True)
        ... class GaussianRecipe(Recipe):
        ...     '''Fits a Gaussian.'''
        ...     learning_rate: float = 1e-2
        ...     def load_data(self): ...
        ...     def batches(self, fabric, dataset): ...
        ...     def build(self, fabric, dataset): ...
        >>> GaussianRecipe.name, GaussianRecipe(steps=5).steps
        ('gaussian', 5)
    """

    name: ClassVar[str] = "recipe"
    """The name in commands and checkpoints: the class name in lower case, less "Recipe"."""

    changeable: ClassVar[frozenset[str]] = frozenset({"steps"})
    """Fields that may differ on resume because no step before the checkpoint depends on them."""

    tunable: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ on resume although earlier steps depended on them: settings of the
    optimisation that shape no stored state, above all those that advice after a divergence names.
    They hold from the checkpoint on; optimisers and learning-rate schedulers then take their
    settings from the recipe, and their moments and counts from the checkpoint."""

    figure_samples: ClassVar[int] = 64
    """Samples in a figure where the user names no number."""

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Data points in one step, over all devices together."""

    seed: int = 0
    """Seed of every random number in the run."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.removesuffix("Recipe").lower()

    def __post_init__(self) -> None:
        for field, minimum in (("steps", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{type(self).__name__}: {field} must be an integer, got {value!r}")
            if value < minimum:
                raise ValueError(
                    f"{type(self).__name__}: {field} must be at least {minimum}, got {value}"
                )
        for field, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal:
                check_choice(type(self).__name__, field, getattr(self, field), get_args(hint))
        if self.seed >= 2**64:
            raise ValueError(f"{type(self).__name__}: seed must be below 2**64, got {self.seed}")

    @abstractmethod
    def load_data(self) -> Any:
        """The training data, for `batches` and `build`."""

    @abstractmethod
    def batches(self, fabric: "Fabric", dataset: Any) -> BatchSource:
        """What the steps see of the data that `load_data` returned."""

    @abstractmethod
    def build(self, fabric: "Fabric", dataset: Any) -> Experiment:
        """The networks, set up with `fabric.setup`, and all else that training needs.

        torch is seeded with `seed` before the call, alike on every rank. To draw samples of a run
        the data are those of `described_data`.
        """

    def describe_data(self, dataset: Any) -> dict[str, Any]:
        """What a run's folder keeps of the data that `load_data` returned, for JSON.

        Under "fingerprint" stands what tells them from other data, if data may change at all.
        """
        return {}

    def described_data(self, description: Mapping[str, Any]) -> Any:
        """As much of the data as `build` needs to make the networks of a run once more.

        Args:
            description: what `describe_data` returned.
        """
        return self.load_data()

    def check_positive(self, *names: str) -> None:
        """Raise a ValueError for the first of these fields that is not positive."""
        self._check(names, "positive", lambda value: value > 0)

    def check_not_negative(self, *names: str) -> None:
        """Raise a ValueError for the first of these fields that is below 0."""
        self._check(names, "0 or positive", lambda value: value >= 0)

    def check_fraction(self, *names: str) -> None:
        """Raise a ValueError for the first of these fields that is not from 0 to 1."""
        self._check(names, "from 0 to 1", lambda value: 0 <= value <= 1)

    def _check(self, names: tuple[str, ...], expected: str, fits: Callable[[Any], bool]) -> None:
        for name in names:
            if not fits(getattr(self, name)):
                raise ValueError(
                    f"{type(self).__name__}: {name} is {getattr(self, name)}; expected {expected}"
                )

    def fields(self) -> dict[str, Any]:
        """The options by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(kw_only=True)
class ImageRecipe(Recipe):
    """A recipe whose data are images in memory, shuffled anew for every epoch.

    To draw samples, `build` gets images on torch's meta device: their shape, their classes and no
    pixels. What a model learns from pixels therefore belongs in the experiment's `state`.

    Example:
        >>> from dataclasses import dataclass
        >>> from gencore.train import ImageRecipe
        >>> @dataclass(kw_only=True)
        ... class PixelRecipe(ImageRecipe):
        ...     '''Fits pixels.'''
        ...     def build(self, fabric, dataset): ...
        >>> len(PixelRecipe().load_data())
        1438
    """

    data: str = "digits"
    """Images: "digits", "photos", or the path of a folder or an .npy or .npz file (see gencore
    list)."""

    background: int = 255
    """Grey level, 0 to 255, behind the transparent pixels of image files."""

    def load_part(self, split: "Split") -> "ImageDataset":
        """The training or the test images that `data` names."""
        from gencore.data import load_images

        return load_images(self.data, split=split, background=self.background)

    def load_data(self) -> "ImageDataset":
        """The training images."""
        return self.load_part("train")

    def load_test_data(self, train: "ImageDataset") -> "ImageDataset":
        """The test images, in the format of the training images `train`.

        Raises:
            ValueError: they have another size, or colours where the training images have none.
            OSError: they cannot be read.
        """
        from gencore.data.pixels import convert_channels

        without = "(num_samples 0 and num_evaluate 0 train without test images)"
        try:
            test = self.load_part("test")
        except OSError as error:
            raise type(error)(f"{error} {without}") from error
        except ValueError as error:
            raise ValueError(f"{error} {without}") from error
        if len(train.images[0]) == 3:  # a part of a folder in colours may by chance be all grey
            test = dataclasses.replace(test, images=convert_channels(test.images, 3))
        (channels, height, width), found = train.images.shape[1:], test.images.shape[1:]
        if found != train.images.shape[1:]:
            raise ValueError(
                f"data has test images of {found[0]} x {found[1]} x {found[2]} (channels, height, "
                f"width), but training images of {channels} x {height} x {width} {without}"
            )
        return test

    def describe_data(self, dataset: "ImageDataset") -> dict[str, Any]:
        """Shape, classes and fingerprint of the training images, and where they lie."""
        from gencore.data.images import EMBEDDED, source_path

        embedded = self.data in EMBEDDED
        labels = dataset.labels
        return {
            "fingerprint": dataset.fingerprint(),
            "shape": list(dataset.images.shape[1:]),
            "classes": None if labels is None else labels.unique().tolist(),
            "source": None if embedded else str(source_path(self.data).absolute()),
        }

    def described_data(self, description: Mapping[str, Any]) -> "ImageDataset":
        """An image without pixels for each class, or one where there are no labels."""
        from gencore.data import ImageDataset

        classes = description["classes"]
        labels = None if classes is None else torch.tensor(classes, dtype=torch.int64)
        shape = (1 if labels is None else len(labels), *description["shape"])
        images = torch.empty(shape, dtype=torch.uint8, device="meta")
        return ImageDataset(images, labels, self.data)

    def batches(self, fabric: "Fabric", dataset: "ImageDataset") -> BatchSource:
        """The images of each step's batch, uint8 [B / ranks, C, H, W]."""
        from gencore.train.batches import Batches

        return Batches(dataset.images, self.batch_size, self.seed, fabric)
