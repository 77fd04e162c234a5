"""Patches of the two photographs that come inside scikit-learn."""

from gencore.data.images.part import ImagePart
from gencore.data.images.patches import cut_patches
from gencore.data.splits import Split
from gencore.extras import training_extra

__all__ = ["read_photos"]

# Each is 427 pixels high and 640 wide.
_PHOTOS = ("china", "flower")


def read_photos(split: Split, size: int = 32) -> ImagePart:
    """Cut square patches out of a photograph of a palace and one of a flower.

    `cut_patches` says which. With 32 pixels there are 6,100 for training and 104 for testing.

    Args:
        split: The part to cut.
        size: Side of a patch, from 1 to 128 pixels.

    Returns:
        Patches, uint8 [N, 3, size, size], and the photograph of each.

    Raises:
        ImportError: scikit-learn or Pillow is not installed.
        ValueError: `size` is out of range.

    Source:
        "china" by danielbuechele and "flower" by vultilion, flickr.com, CC BY 2.0, which
        scikit-learn distributes.

    Example:
        >>> images, labels, names = read_photos("test")
        >>> images.shape, images.dtype, labels.bincount(), names
        (torch.Size([104, 3, 32, 32]), torch.uint8, tensor([52, 52]), ('china', 'flower'))
    """
    with training_extra('load_images("photos")'):
        import PIL  # noqa: F401 - scikit-learn's own complaint would not say how to install it
        from sklearn.datasets import load_sample_image

    photos = [load_sample_image(f"{name}.jpg") for name in _PHOTOS]
    return ImagePart(*cut_patches("photos", photos, split, size), _PHOTOS)
