"""Features learned from the labels of the data itself."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

__all__ = ["ClassifierFeatures"]


class ClassifierFeatures(nn.Module):
    """The penultimate activations of a small classifier of the data's own labels.

    Pixels weigh every stroke by its ink; these features weigh what tells one class from another.
    Two 3×3 convolutions (the second of stride 2), pooling to 4×4, a hidden layer of `dim` rectified
    units, which are the features, and a linear classifier. Made by `fit`, which trains it.

    Name them in a report as "features of a classifier with N % test accuracy".

    Example:
        >>> from gencore.data import load_images
        >>> train, test = (load_images("digits", split=part) for part in ("train", "test"))
        >>> features = ClassifierFeatures.fit(train.images, train.labels, num_steps=100)
        >>> features(test.images).shape
        torch.Size([359, 64])
        >>> features.accuracy(test.images, test.labels) > 0.9
        True
    """

    test_accuracy: float | None
    """Accuracy on the test images given to `fit`, in [0, 1]."""

    classes: Tensor
    """The labels that the outputs of the head stand for, ascending, int64 [num_classes]."""

    def __init__(self, channels: int, num_classes: int, dim: int = 64) -> None:
        super().__init__()
        self.test_accuracy = None
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, dim),
            nn.ReLU(),
        )
        self.head = nn.Linear(dim, num_classes)
        self.register_buffer("classes", torch.arange(num_classes))

    def extra_repr(self) -> str:
        return "" if self.test_accuracy is None else f"test_accuracy={self.test_accuracy:.4f}"

    @classmethod
    def fit(
        cls,
        images: Tensor,
        labels: Tensor,
        test_images: Tensor | None = None,
        test_labels: Tensor | None = None,
        *,
        dim: int = 64,
        num_steps: int = 400,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        seed: int = 0,
    ) -> "ClassifierFeatures":
        """Train on labelled images by Adam with a cosine schedule.

        The result depends on the arguments alone (and, in the last bits, on the machine and its
        number of threads); torch's default generators are left as they were.

        Args:
            images: [N, C, H, W], uint8, or floating point in [0, 1].
            labels: int64 [N], any numbers.
            test_images: Held-out images, for `test_accuracy`.
            test_labels: Their labels.
            dim: Number of features.
            num_steps: Number of optimisation steps.
            batch_size: Images a step, drawn with replacement.
            learning_rate: At the first step; it falls to zero.
            seed: Of the initial weights and of the batches.

        Raises:
            ValueError: images are not [N, C, H, W], labels not int64 [N] of at least two classes,
                or only one of the test arguments is given.
        """
        _check_labelled("images", images, labels)
        if (test_images is None) != (test_labels is None):
            raise ValueError("ClassifierFeatures.fit: give both test_images and test_labels")
        classes, places = labels.unique(return_inverse=True)
        if len(classes) < 2:
            raise ValueError("ClassifierFeatures.fit: labels hold one class, expected at least 2")

        with torch.random.fork_rng(devices=[]):
            # Layers draw their weights on the CPU. `torch.manual_seed` would reseed the GPUs too.
            torch.default_generator.manual_seed(seed)
            model = cls(images.shape[1], len(classes), dim).to(images.device)
        model.classes.copy_(classes)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        with torch.enable_grad():
            for _ in range(num_steps):
                batch = torch.randint(len(images), (batch_size,), generator=generator)
                batch = batch.to(images.device)
                loss = cross_entropy(model.head(model(images[batch])), places[batch])
                torch.autograd.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        model.requires_grad_(False)
        if test_images is not None and test_labels is not None:
            model.test_accuracy = model.accuracy(test_images, test_labels)
        return model

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features [N, dim] of images [N, C, H, W], uint8 or floating in [0, 1]."""
        features: Tensor = self.body(_as_float(images))
        return features

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Return the fraction of the images [N, C, H, W] that get their label, int64 [N]."""
        _check_labelled("images", images, labels)
        correct = 0
        for part, truth in zip(torch.split(images, 1024), torch.split(labels, 1024), strict=True):
            correct += int((self.classes[self.head(self(part)).argmax(1)] == truth).sum())
        return correct / len(images)


def _as_float(images: Tensor) -> Tensor:
    return images / 255 if images.dtype == torch.uint8 else images.float()


def _check_labelled(name: str, images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"ClassifierFeatures: {name} have shape {tuple(images.shape)}, expected [N, C, H, W] "
            "with N ≥ 1"
        )
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"ClassifierFeatures: labels of {labels.dtype} and shape {tuple(labels.shape)}, "
            f"expected int64 of shape ({len(images)},)"
        )
