"""One picture, from a file or out of scikit-image."""

from pathlib import Path

from torch import Tensor

from gencore.data.images.decoding import decode_image
from gencore.data.images.skimage_pictures import PHOTOGRAPHS
from gencore.data.packaged import packaged_file

__all__ = ["load_picture"]


def load_picture(source: str | Path) -> Tensor:
    """Read one picture.

    Args:
        source: The path of an image file, or "astronaut", "cat", "coffee" or "rocket", photographs
            that come with scikit-image. A name is always the photograph; write `./cat` for a path.

    Returns:
        uint8 [C, H, W], with one channel if it is grey, else three.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: Pillow, or scikit-image for a photograph, is not installed.
        ValueError: the file cannot be decoded.

    Example:
        >>> load_picture("cat").shape
        torch.Size([3, 300, 451])
    """
    if isinstance(source, str) and source in PHOTOGRAPHS:
        path = packaged_file(f'load_picture("{source}")', "skimage", "data", PHOTOGRAPHS[source])
    else:
        path = Path(source)
        if not path.is_file():
            names = ", ".join(PHOTOGRAPHS)
            raise FileNotFoundError(
                f"load_picture: {source} is no file; expected the path of an image, or {names}"
            )
    return decode_image(path, str(path), path.stat().st_size)
