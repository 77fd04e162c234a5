"""What a run is made of: a recipe, the options that build an experiment.

Nothing here imports torch, nor does a module of recipes before one builds something: the command
line answers at once.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from gencore.choices import check_choice
from gencore.train.field_uses import UsedBy

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn
    from torch.optim import Optimizer
    from typing_extensions import Self

    from gencore.data import ImageDataset
    from gencore.data.splits import Split
    from gencore.train.experiment import BatchSource, Experiment
    from gencore.train.optimisation import Optimisation

__all__ = ["ImageRecipe", "OptimisedRecipe", "Precision", "Recipe", "Schedule"]

Precision = Literal["32-true", "bf16-mixed"]
Schedule = Literal["constant", "linear", "cosine"]


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
    """The name in commands and checkpoints: that of its entry point if it has one, else the class
    name in lower case, less "Recipe"."""

    changeable: ClassVar[frozenset[str]] = frozenset({"steps"})
    """Fields that may differ on resume because no step before the checkpoint depends on them."""

    tunable: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ on resume although earlier steps depended on them: settings of the
    optimisation that shape no stored state, above all those that advice after a divergence names.
    They hold from the checkpoint on; optimisers and learning-rate schedulers then take their
    settings from the recipe, and their moments and counts from the checkpoint."""

    figure_samples: ClassVar[int] = 64
    """Samples in a figure where the user names no number."""

    used_by: ClassVar[Mapping[str, UsedBy]] = {}
    """Fields that have an effect with some settings of others alone, for instance with one model.
    With the rest they have their defaults: another value is refused, unless it is a preset's, which
    is left out. Fields that only say how a run is measured and shown need not be here: runs of
    several models may have them in common."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings of papers and alike: name → field → value."""

    preset_name: ClassVar[str | None] = None
    """The preset that a recipe was made from, if it was."""

    steps: int = 1000
    """Optimisation steps of the whole run."""

    batch_size: int = 64
    """Data points in one step, over all devices together."""

    seed: int = 0
    """Seed of every random number in the run."""

    precision: Precision = "32-true"
    """Numbers in the forward pass of the losses: float32, or bfloat16 in the operations that
    torch's autocast deems safe; weights and inputs stay float32."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.removesuffix("Recipe").lower()

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in self.fields():
            self._check_number(field, hints[field])
        for field, minimum in (("steps", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, field)
            if value < minimum:
                raise ValueError(
                    f"{type(self).__name__}: {field} must be at least {minimum}, got {value}"
                )
        for field, hint in hints.items():
            if get_origin(hint) is Literal:
                check_choice(type(self).__name__, field, getattr(self, field), get_args(hint))
        if self.seed >= 2**64:
            raise ValueError(f"{type(self).__name__}: seed must be below 2**64, got {self.seed}")
        for field, value in self.fields().items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not math.isfinite(number):
                    raise ValueError(
                        f"{type(self).__name__}: {field} is {value}; expected finite numbers"
                    )
        for field in self.unused(self.fields()):
            raise ValueError(
                f"{type(self).__name__}: {field} is {getattr(self, field)!r}, but it has an effect "
                f"with {self.used_by[field].what} alone"
            )

    @classmethod
    def preset(cls, name: str, **fields: Any) -> "Self":
        """A recipe with the settings of a preset.

        Args:
            name: one of `presets`.
            fields: what differs from it. The preset's values that then have no effect are left out.

        Raises:
            ValueError: there is no such preset.

        Example:
            >>> from gencore.recipes.ebm.ebm import EBMRecipe
            >>> recipe = EBMRecipe.preset("yan2022-mnist", steps=100)
            >>> recipe.image_size, recipe.steps
            (32, 100)
        """
        if not cls.presets:
            raise ValueError(f"{cls.__name__}: preset is {name!r}, but the recipe has no presets")
        check_choice(cls.__name__, "preset", name, cls.presets)
        preset = cls.presets[name]
        settings = {**preset, **fields}
        for field in cls.unused(settings):
            if field in preset and settings[field] == preset[field]:
                del settings[field]
        recipe = cls(**settings)
        # The name shapes nothing, so it is no field; the class has it for recipes without a preset.
        vars(recipe)["preset_name"] = name
        return recipe

    @abstractmethod
    def load_data(self) -> Any:
        """The training data, for `batches` and `build`."""

    @abstractmethod
    def batches(self, fabric: "Fabric", dataset: Any) -> "BatchSource":
        """What the steps see of the data that `load_data` returned."""

    @abstractmethod
    def build(self, fabric: "Fabric", dataset: Any) -> "Experiment":
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

    @property
    def skips_parameters(self) -> bool:
        """Whether a step may leave trained parameters without a gradient, as of layers that a
        network has yet to grow. Several processes then look for them in each step."""
        return False

    def tuned(self) -> frozenset[str]:
        """The fields that may differ on resume and shape the optimisation from there on."""
        return self.tunable

    def check_positive(self, *names: str) -> None:
        """Raise a ValueError for the first of these fields that is not positive."""
        self._check(names, "positive", lambda value: value > 0)

    def check_not_negative(self, *names: str) -> None:
        """Raise a ValueError for the first of these fields that is below 0."""
        self._check(names, "0 or positive", lambda value: value >= 0)

    def check_fraction(self, *names: str) -> None:
        """Raise a ValueError for the first of these fields that is not from 0 to 1."""
        self._check(names, "from 0 to 1", lambda value: 0 <= value <= 1)

    def check_widths(self, *names: str) -> None:
        """Raise a ValueError for the first of these fields that does not name a positive width for
        each hidden layer."""
        self._check(
            names,
            "a positive width for each hidden layer",
            lambda widths: bool(widths) and min(widths) >= 1,
        )

    @classmethod
    def unused(cls, settings: Mapping[str, Any]) -> list[str]:
        """Those of these fields that differ from their default and have no effect with the rest.

        Args:
            settings: values of fields; the others have their defaults.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        fields = {**defaults, **settings}
        return [
            name
            for name, use in cls.used_by.items()
            if fields[name] != defaults[name] and not use.holds(fields)
        ]

    def _check_number(self, field: str, hint: Any) -> None:
        """Raise a TypeError where a field of numbers holds something else."""
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        value = getattr(self, field)
        if not kinds & {int, float} or kinds - {int, float, NoneType}:
            return
        number = int | float if float in kinds else int
        fits = isinstance(value, number) and not isinstance(value, bool)
        if not fits and not (value is None and NoneType in kinds):
            kind = "a number" if float in kinds else "an integer"
            raise TypeError(f"{type(self).__name__}: {field} must be {kind}, got {value!r}")

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
class OptimisedRecipe(Recipe):
    """A recipe that trains with one optimiser: the settings of its `Optimisation`.

    Example:
        >>> from dataclasses import dataclass
        >>> from gencore.train import OptimisedRecipe
        >>> @dataclass(kw_only=True)
        ... class GaussianRecipe(OptimisedRecipe):
        ...     '''Fits a Gaussian.'''
        ...     def load_data(self): ...
        ...     def batches(self, fabric, dataset): ...
        ...     def build(self, fabric, dataset): ...
        >>> GaussianRecipe(learning_rate=0).learning_rate
        Traceback (most recent call last):
            ...
        ValueError: GaussianRecipe: learning_rate is 0; expected positive
    """

    learning_rate: float = 1e-3
    """Learning rate of the optimiser, after the warm-up."""

    schedule: Schedule = "constant"
    """The learning rate after the warm-up: constant, or falling to 0 after the last step, in a line
    or in half a cosine."""

    warmup_steps: int = 0
    """Steps in which the learning rate grows linearly to its value."""

    max_grad_norm: float | None = None
    """Longer gradients of the loss are cut to this norm; without it none is."""

    ema_decay: float | None = None
    """Decay of the average of the weights that draws samples and is measured; without it the
    weights themselves do."""

    accumulate: int = 1
    """Parts in which a batch's gradients are computed, one after another, to save memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("learning_rate", "accumulate")
        self.check_not_negative("warmup_steps")
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"{type(self).__name__}: accumulate is {self.accumulate}; expected at most the "
                f"{self.batch_size} rows of a batch (batch_size)"
            )
        if self.max_grad_norm is not None:
            self.check_positive("max_grad_norm")
        if self.ema_decay is not None:
            self.check_fraction("ema_decay")

    def tuned(self) -> frozenset[str]:
        """Those, the parts of a batch, and the steps where the schedule ends at the last one."""
        ends = frozenset() if self.schedule == "constant" else frozenset({"steps"})
        return super().tuned() | {"accumulate"} | ends

    def optimisation(
        self,
        fabric: "Fabric",
        module: "nn.Module",
        optimizer: "Optimizer",
        *,
        ema_warmup: bool = False,
        method: str = "forward",
        advice: str = "a lower learning_rate or max_grad_norm, or more warmup_steps",
    ) -> "Optimisation":
        """The `Optimisation` of a module with these settings."""
        from gencore.train.optimisation import Optimisation, make_scheduler

        scheduler = make_scheduler(
            optimizer, self.schedule, warmup_steps=self.warmup_steps, steps=self.steps
        )
        return Optimisation(
            fabric,
            module,
            optimizer,
            scheduler=scheduler,
            max_grad_norm=self.max_grad_norm,
            ema_decay=self.ema_decay,
            ema_warmup=ema_warmup,
            accumulate=self.accumulate,
            method=method,
            advice=advice,
        )


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
    """Images: a name such as "digits" or "mnist", or the path of a folder, an array or shards (see
    gencore list)."""

    image_size: int | None = None
    """Scale images to this height and width; without it they keep their size."""

    background: int = 255
    """Grey level, 0 to 255, behind the transparent pixels of image files."""

    show_data: bool = False
    """Put a row of training images above the samples in samples.png."""

    changeable = frozenset({"steps", "show_data"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size is not None:
            self.check_positive("image_size")

    def load_part(self, split: "Split") -> "ImageDataset":
        """The training or the test images that `data` names."""
        from gencore.data import load_images

        return load_images(
            self.data, split=split, image_size=self.image_size, background=self.background
        )

    def load_data(self) -> "ImageDataset":
        """The training images."""
        return self.load_part("train")

    def load_test_data(self, train: "ImageDataset") -> "ImageDataset":
        """The test images of what `data` names now, in the format of the training images `train`.

        Experiments call it when they measure and not before, so that a trained run can be measured
        with other data.

        Raises:
            ValueError: they have another size, or colours where the training images have none.
            OSError: they cannot be read.
        """
        from gencore.data.images.pixels import convert_channels

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
        from gencore.data.images.images import EMBEDDED, source_path

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
        import torch

        from gencore.data import ImageDataset

        classes = description["classes"]
        labels = None if classes is None else torch.tensor(classes, dtype=torch.int64)
        shape = (1 if labels is None else len(labels), *description["shape"])
        images = torch.empty(shape, dtype=torch.uint8, device="meta")
        return ImageDataset(images, labels, self.data)

    def batches(self, fabric: "Fabric", dataset: "ImageDataset") -> "BatchSource":
        """The images of each step's batch, uint8 [B / ranks, C, H, W]."""
        from gencore.train.batches import ImageBatches

        return ImageBatches(dataset, self.batch_size, self.seed, fabric)
