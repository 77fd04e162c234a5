"""The handwritten digits that come inside scikit-learn."""

import torch

from gencore.data.images.part import ImagePart
from gencore.data.splits import Split, split_indices
from gencore.extras import training_extra

__all__ = ["read_digits"]


def read_digits(split: Split) -> ImagePart:
    """Read the 1,797 digits of 8×8 pixels; the levels 0…16 become round(255·level/16).

    The test part is a fixed fifth of each of the ten classes (359 images, 1,438 for training).

    Returns:
        Images, uint8 [N, 1, 8, 8], and labels.

    Raises:
        ImportError: scikit-learn is not installed.

    Source:
        Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
        Repository, 1998: its test set, which scikit-learn distributes.

    Example:
        >>> images, labels, names = read_digits("test")
        >>> images.shape, int(images.max()), names[7]
        (torch.Size([359, 1, 8, 8]), 255, '7')
    """
    with training_extra('load_images("digits")'):
        from sklearn.datasets import load_digits

    levels, classes = load_digits(return_X_y=True)
    images = (torch.from_numpy(levels) * 255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(classes).to(torch.int64)
    part = split_indices(len(images), split, labels)
    return ImagePart(images[part], labels[part], tuple("0123456789"))
