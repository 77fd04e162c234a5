"""The patches of photographs: which pixels they are, and that no pixel is in both parts."""

import numpy as np
import pytest
import torch

from gencore.data import load_images

pytest.importorskip("PIL")
load_sample_image = pytest.importorskip("sklearn.datasets").load_sample_image


@pytest.fixture
def marked_photos(monkeypatch):
    """Photographs whose three channels tell the row, the column, and the photograph."""

    def marked(name):
        rows, columns = np.mgrid[:427, :640]
        assert rows.shape == load_sample_image(name).shape[:2]
        photo = np.full_like(rows, name == "flower.jpg")
        # The two bits of row and column above the eighth beside the photograph's number.
        high = photo + 2 * (rows // 256) + 4 * (columns // 256)
        return np.stack([rows % 256, columns % 256, high], 2).astype(np.uint8)

    monkeypatch.setattr("sklearn.datasets.load_sample_image", marked)


def pixels(images):
    """(photograph, row, column) of every pixel of the patches [N, 3, S, S], each [N, S, S]."""
    row, column, high = images.int().unbind(1)
    return high % 2, row + 256 * (high // 2 % 2), column + 256 * (high // 4)


@pytest.mark.parametrize("size", [None, 1, 20, pytest.param(128, marks=pytest.mark.slow)])
def test_no_pixel_is_in_both_parts(marked_photos, size):
    seen = {}
    for split in ("train", "test"):
        dataset = load_images("photos", split=split, image_size=size)
        photo, row, column = pixels(dataset.images)
        assert (photo == dataset.labels[:, None, None]).all()
        # A patch is a contiguous square.
        for place, dim in ((row, 1), (column, 2)):
            assert (place.diff(dim=dim) == 1).all()
            assert (place.diff(dim=3 - dim) == 0).all()
        seen[split] = torch.zeros(2, 427, 640, dtype=torch.bool)
        seen[split][photo, row, column] = True
    assert not (seen["train"] & seen["test"]).any()
    # No test pixel is seen twice, and less than a patch is left over at each end.
    assert seen["test"].sum() == row.numel()
    side = row.shape[1]
    assert len(row) == 2 * (427 // side) * (128 // side)


def test_patches_are_those_of_the_photographs():
    for split, place in (("train", np.s_[8:40, 16:48]), ("test", np.s_[32:64, 576:608])):
        dataset = load_images("photos", split=split)
        assert dataset.images.dtype == torch.uint8
        assert len(dataset) == {"train": 6100, "test": 104}[split]
        for label, name in enumerate(("china.jpg", "flower.jpg")):
            patch = torch.from_numpy(load_sample_image(name)[place].copy()).permute(2, 0, 1)
            matches = (dataset.images == patch).all(3).all(2).all(1)
            assert dataset.labels[matches].tolist() == [label]


def test_every_call_gives_the_same_patches():
    first, second = (load_images("photos", image_size=64) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert repr(first) == "ImageDataset(photos: 5244 images of 3x64x64, 2 classes)"


def test_channels_are_converted():
    assert load_images("photos", split="test", channels=1).images.shape == (104, 1, 32, 32)


@pytest.mark.parametrize("size", [129, 500])
def test_too_large_a_patch_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size = {size}, expected 1 to 128"):
        load_images("photos", image_size=size)
