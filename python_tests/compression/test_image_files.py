"""Image files whose pixels are kept bit for bit."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from gencore.compression import read_exact_images, write_exact_images
from gencore.compression.image_files import shown_values


@pytest.mark.parametrize("levels", [2, 3, 16, 17, 100, 256])
def test_values_of_levels_are_all_different_and_evenly_spaced(levels):
    values = shown_values(levels).tolist()
    assert len(set(values)) == levels
    for level, value in enumerate(values):
        assert abs(value - 255 * level / (levels - 1)) <= 0.5


@pytest.mark.parametrize("suffix", ["", ".npy"])
@pytest.mark.parametrize(("channels", "levels"), [(1, 2), (1, 16), (3, 16), (3, 256)])
def test_files_give_the_levels_back(tmp_path, suffix, channels, levels):
    shape = (11, channels, 4, 6)
    x = torch.randint(levels, shape, generator=torch.Generator().manual_seed(0))
    out = tmp_path / f"out{suffix}"
    files = write_exact_images(x, levels, out)
    assert len(files) == (1 if suffix else 11)
    assert read_exact_images([out], shape[1:], levels).equal(x.to(torch.uint8))
    if not suffix:
        assert [file.name for file in files] == [f"{i:02d}.png" for i in range(11)]
        assert read_exact_images(files[::-1], shape[1:], levels).equal(x.flip(0).to(torch.uint8))


@pytest.mark.parametrize("levels", [2, 16, 128, 256])
def test_reduced_images_keep_their_highest_bits(tmp_path, levels):
    """And those that have the levels already stay as they are."""
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.save(tmp_path / "all.npy", values)
    x = read_exact_images([tmp_path / "all.npy"], (1, 16, 16), levels, reduce=True)
    assert x.numpy().tolist() == [(values.astype(int) * levels // 256).tolist()]
    write_exact_images(x, levels, tmp_path / "out")
    assert read_exact_images([tmp_path / "out"], (1, 16, 16), levels, reduce=True).equal(x)


def test_the_digits_have_17_levels():
    """So the images of a data set have the levels that it says."""
    from gencore.data import load_images

    images = load_images("digits", split="test").images
    assert set(images.unique().tolist()) == set(shown_values(17).tolist())


def test_grey_and_coloured(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, 2)).save(tmp_path / "equal.bmp")
    Image.fromarray(np.stack([grey, grey, grey + 1], 2)).save(tmp_path / "colour.gif")
    Image.fromarray(np.stack([grey, grey, grey + 1], 2)).save(tmp_path / "colour.png")
    for name in ("grey.png", "equal.bmp"):
        for channels in (1, 3):
            x = read_exact_images([tmp_path / name], (channels, 2, 3), 256)
            assert x.numpy().tolist() == [[grey.tolist()] * channels]
    with pytest.raises(ValueError, match=r"colour\.png has 3 channels that differ; .* have 1"):
        read_exact_images([tmp_path / "colour.png"], (1, 2, 3), 256)


def png_of_16_bits():
    """Red, green and blue of 16 bits, which Pillow reads as 8."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(3 * 3 * 2)) * 2)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


BLACK = Image.new("L", (3, 2))
WHITE = Image.new("L", (3, 2), 255)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", saved(Image.new("L", (2, 2))), "has 2 x 2 pixels; the model's images have 3 x 2"),
        ("a.png", saved(Image.new("L", (3, 2), 18)), r"value 18, .* 16 levels \(0, 17, 34, …, 255"),
        ("a.png", saved(Image.new("RGBA", (3, 2))), r"transparent pixels .*\(mode RGBA\)"),
        ("a.png", saved(Image.new("P", (3, 2)), transparency=0), "transparent pixels"),
        ("a.png", png_of_16_bits(), "has 16 bits a sample"),
        ("a.png", b"no", "cannot read an image from 2 bytes"),
        ("a.gif", saved(BLACK, "GIF", save_all=True, append_images=[WHITE]), "animation of 2 fr"),
        ("a.tif", saved(BLACK, "TIFF"), "expected an image"),
        ("a.npy", b"no", "no NumPy array in these 2 bytes"),
        ("folder/a.txt", b"no", "folder holds no images"),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if name.startswith("folder"):
        path = path.parent
    with pytest.raises(ValueError, match=message):
        read_exact_images([path], (1, 2, 3), 16)


def test_files_are_read_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 1):
        Image.new("L", (1, 1), 17 * number).save(tmp_path / f"{number}.png")
    levels = read_exact_images([tmp_path], (1, 1, 1), 16)
    assert levels.flatten().tolist() == [1, 2, 10]


def test_wrong_input(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png does not exist"):
        read_exact_images([tmp_path / "nothing.png"], (1, 2, 3), 16)
    with pytest.raises(ValueError, match="have 2 to 256 levels and 1 or 3 channels, got 512 and 1"):
        write_exact_images(torch.zeros(1, 1, 2, 2), 512, tmp_path)
    with pytest.raises(ValueError, match="got 16 and 2"):
        write_exact_images(torch.zeros(1, 2, 2, 2), 16, tmp_path)
