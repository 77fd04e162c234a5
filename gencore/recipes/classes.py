"""The classes that a model of images is conditioned on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gencore.data import ImageDataset

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Classes"]


@dataclass(frozen=True)
class Classes:
    """The labels of training images as one-hot contexts.

    Attributes:
        labels: ascending, int64 [K]; K = 0 for a model without classes.
        places: of their ones in contexts, int64 [K].
        data: what the images are called.

    Example:
        >>> import torch
        >>> from gencore.data import ImageDataset
        >>> from gencore.recipes.classes import Classes
        >>> images = ImageDataset(torch.zeros(3, 1, 1, 1).byte(), torch.tensor([2, 0, 2]), "mine")
        >>> Classes.of("mine", images, torch.device("cpu"), True).context(images.labels)
        tensor([[0., 0., 1.],
                [1., 0., 0.],
                [0., 0., 1.]])
    """

    labels: Tensor
    places: Tensor
    data: str

    @classmethod
    def of(
        cls, data: str, dataset: ImageDataset, device: torch.device, class_conditional: bool
    ) -> "Self":
        """Those of the training images, or none."""
        if not class_conditional:
            nothing = torch.empty(0, dtype=torch.int64, device=device)
            return cls(nothing, nothing, data)
        if dataset.labels is None:
            raise ValueError(_needs_labels(data, "training"))
        labels = dataset.labels.unique().to(device)
        # Labels from 0 or 1, with a few gaps perhaps, are their own places; others are numbered.
        if labels[0] >= 0 and labels[-1] < 2 * len(labels):
            return cls(labels, labels, data)
        return cls(labels, torch.arange(len(labels), device=device), data)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def context_size(self) -> int:
        """Numbers in a context."""
        return int(self.places[-1]) + 1 if len(self) else 0

    def context(self, labels: Tensor | None) -> Tensor | None:
        """The one-hot context [N, context_size] of labels; none of a model without classes."""
        numbers = self.numbers(labels)
        return None if numbers is None else one_hot(numbers, self.context_size).to(torch.float32)

    def numbers(self, labels: Tensor | None) -> Tensor | None:
        """The place of each label's one, int64 [N]; none of a model without classes."""
        if not len(self):
            return None
        if labels is None:
            raise ValueError(_needs_labels(self.data, "test"))
        labels = labels.to(self.labels.device)
        found = torch.searchsorted(self.labels, labels).clamp(max=len(self) - 1)
        unknown = labels[self.labels[found] != labels]
        if len(unknown):
            raise ValueError(
                f"class_conditional knows the classes of the training images; an image has the "
                f"label {int(unknown[0])}, which none of them has"
            )
        return self.places[found]

    def sample_labels(self, num: int) -> Tensor | None:
        """Labels of samples, ascending, of which all classes have as many, give or take one; none
        of a model without classes."""
        if not len(self):
            return None
        return self.labels[torch.arange(num) * len(self) // max(num, 1)]

    def rows(self, samples: Tensor) -> tuple[Tensor, int | None]:
        """Samples laid out with a row for each class, filled up with grey, and the columns; as they
        are without classes."""
        labels = self.sample_labels(len(samples))
        if labels is None:
            return samples, None
        labels = labels.to(samples.device)
        classes = [samples[labels == label] for label in labels.unique()]
        columns = max(map(len, classes))
        grey = samples.new_full((columns, *samples.shape[1:]), 0.5)
        return torch.cat([torch.cat([row, grey[len(row) :]]) for row in classes]), columns


def _needs_labels(data: str, part: str) -> str:
    return f"class_conditional needs labels, which the {part} images of {data!r} lack"
