"""Levels and values of pixels, the two parts of a data set, and what names a source."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from testing.image_testing import both_parts, random_pixels, rows

from gencore.data import ImageDataset, load_images, to_float, to_uint8
from gencore.data.images.pixels import convert_channels, resize_images
from gencore.data.splits import split_indices

Image = pytest.importorskip("PIL.Image")


class TestSplit:
    @pytest.mark.parametrize("num", [3, 10, 12, 13, 1000])
    def test_parts_are_a_partition_with_a_fifth_for_testing(self, num: int) -> None:
        train, test = split_indices(num, "train"), split_indices(num, "test")
        assert sorted(train.tolist() + test.tolist()) == list(range(num))
        assert abs(len(test) - num / 5) <= 0.5

    def test_every_class_is_divided_alike(self) -> None:
        labels = torch.tensor([0] * 50 + [1] * 20 + [7] * 10)[torch.randperm(80)]
        test = labels[split_indices(80, "test", labels)]
        assert test.bincount()[[0, 1, 7]].tolist() == [10, 4, 2]

    def test_the_choice_is_fixed(self) -> None:
        # A change of these numbers would move images between the parts of everyone's runs.
        torch.manual_seed(123)
        assert split_indices(20, "test").tolist() == [1, 8, 18, 19]

    def test_too_few_images(self) -> None:
        with pytest.raises(ValueError, match="2 images are too few for a test part"):
            split_indices(2, "test")


class TestPixels:
    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.1, 0.2), (-3.0, 250.0)])
    def test_round_trip_of_every_level(self, low: float, high: float) -> None:
        levels = torch.arange(256, dtype=torch.uint8)
        values = to_float(levels, low, high)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values[[0, 255]], torch.tensor([low, high]))
        assert torch.equal(to_uint8(values, low, high), levels)

    def test_the_unit_interval_is_met_exactly(self) -> None:
        assert to_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]

    def test_values_outside_saturate_and_halves_are_accepted(self) -> None:
        values = torch.tensor([-9.0, 0.5, 9.0, float("inf")], dtype=torch.bfloat16)
        assert to_uint8(values).tolist() == [0, 128, 255, 255]

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: to_float(torch.zeros(2)), TypeError, "to_float: images are torch.float32"),
            (lambda: to_uint8(torch.zeros(2).long()), TypeError, "to_uint8: images are torch.int"),
            (lambda: to_uint8(torch.tensor([0.0, torch.nan])), ValueError, "1 of 2 values are NaN"),
            (lambda: to_uint8(torch.zeros(2), 1.0, 1.0), ValueError, "low = 1.0 must be below"),
            (lambda: to_float(torch.zeros(2).byte(), 2, 1), ValueError, "low = 2 must be below"),
        ],
    )
    def test_bad_input(self, call: Callable[[], object], error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            call()

    @pytest.mark.parametrize("size", [1, 3, 8, 20])
    def test_resize_keeps_constants(self, size: int) -> None:
        images = torch.full((2, 3, 11, 8), 77, dtype=torch.uint8)
        assert torch.equal(resize_images(images, size), images[0, 0, 0, 0].expand(2, 3, size, size))

    def test_resize_to_the_shorter_side_only_crops(self) -> None:
        images = torch.from_numpy(random_pixels(2, 1, 8, 12))
        assert torch.equal(resize_images(images, 8), images[..., 2:10])
        assert torch.equal(resize_images(images.mT, 8), images.mT[..., 2:10, :])

    def test_resize_is_antialiased(self) -> None:
        # Plain bilinear sampling of every fourth position would miss a line of one pixel.
        images = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
        images[..., 4] = 240
        shrunk = resize_images(images, 4).float()
        assert shrunk.mean().item() == pytest.approx(240 / 16, abs=0.5 + 240 / 16 / 4)
        assert torch.equal(resize_images(images.flip(-1), 4), resize_images(images, 4).flip(-1))

    def test_channels(self) -> None:
        grey = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
        assert torch.equal(convert_channels(convert_channels(grey, 3), 1), grey)
        primaries = (255 * torch.eye(3)).byte().view(3, 3, 1, 1)
        assert convert_channels(primaries, 1).flatten().tolist() == [76, 150, 29]  # ITU-R BT.601


class TestImageDataset:
    images = torch.from_numpy(random_pixels(6, 1, 4, 4))
    labels = torch.arange(6)

    @pytest.mark.parametrize(
        ("indices", "expected"),
        [
            (slice(1, 4), [1, 2, 3]),
            ([5, 0], [5, 0]),
            (range(2), [0, 1]),
            (torch.tensor([3]), [3]),
            (torch.arange(6) > 3, [4, 5]),
        ],
    )
    def test_subset(self, indices: Any, expected: list[int]) -> None:
        part = ImageDataset(self.images, self.labels, "some").subset(indices)
        assert part.labels is not None
        assert part.labels.tolist() == expected
        assert torch.equal(part.images, self.images[expected])
        assert len(part) == len(expected)
        unlabelled = ImageDataset(self.images, None, "some").subset(indices)
        assert unlabelled.labels is None
        assert torch.equal(unlabelled.images, part.images)

    def test_names_of_classes_stay_in_the_order_of_the_labels(self) -> None:
        names = tuple("abcdef")
        dataset = ImageDataset(self.images, self.labels, "some", names)
        part = dataset.subset([4, 2])
        assert part.labels is not None
        assert part.class_names == names
        assert [names[label] for label in part.labels.tolist()] == ["e", "c"]
        assert dataset.fingerprint() == ImageDataset(self.images, self.labels, "x").fingerprint()

    @pytest.mark.parametrize(
        ("labels", "names", "message"),
        [
            (None, ("a",), "names of 1 classes, but no labels"),
            (
                labels,
                tuple("abcde"),
                "labels are 0 to 5, but .* names of the classes 0 to 4",
            ),
            (labels - 1, tuple("abcdef"), "labels are -1 to 4"),
        ],
    )
    def test_wrong_names_of_classes(self, labels: Any, names: Any, message: str) -> None:
        with pytest.raises(ValueError, match=f"ImageDataset: .*{message}"):
            ImageDataset(self.images, labels, "some", names)

    @pytest.mark.parametrize(
        ("images", "labels", "error", "message"),
        [
            (images.float(), None, TypeError, "images are torch.float32"),
            (images[0], None, ValueError, r"shape \(1, 4, 4\), expected \[N, C, H, W\]"),
            (images[:0], None, ValueError, r"shape \(0, 1, 4, 4\)"),
            (images.view(3, 2, 4, 4), None, ValueError, "C = 1 or 3"),
            (images, labels.int(), TypeError, "labels are torch.int32"),
            (images, labels[:5], ValueError, r"labels have shape \(5,\), expected \(6,\)"),
        ],
    )
    def test_bad_input(self, images: Any, labels: Any, error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            ImageDataset(images, labels, "some")

    def test_the_fingerprint_is_that_of_the_contents(self) -> None:
        original = ImageDataset(self.images, self.labels, "some")
        same = ImageDataset(self.images.clone(), self.labels.clone(), "other")
        assert original.fingerprint() == same.fingerprint()
        changed = self.images.clone()
        changed[5, 0, 3, 3] ^= 1
        others = [
            ImageDataset(changed, self.labels, "some"),
            ImageDataset(self.images.view(6, 1, 2, 8), self.labels, "some"),
            ImageDataset(self.images, None, "some"),
            ImageDataset(self.images, self.labels.flip(0), "some"),
            original.subset(slice(5)),
        ]
        found = {dataset.fingerprint() for dataset in (original, *others)}
        assert len(found) == 1 + len(others)


class TestDigits:
    def test_parts_are_scikit_learns_digits(self) -> None:
        from sklearn.datasets import load_digits

        levels, classes = load_digits(return_X_y=True)
        train, test = both_parts("digits")
        assert train.images.shape == (1438, 1, 8, 8)
        assert test.images.shape == (359, 1, 8, 8)
        images = torch.cat([train.images, test.images]).double().flatten(1)
        assert train.labels is not None
        assert test.labels is not None
        # A level keeps its rank and lies within the rounding of its place in 0…255.
        recovered = (images * 16 / 255).round()
        assert (recovered * 255 / 16 - images).abs().max() <= 0.5
        labels = torch.cat([train.labels, test.labels])
        ours = rows(torch.cat([recovered, labels[:, None]], 1))
        assert ours == rows(np.concatenate([levels, classes[:, None]], 1))
        fraction = test.labels.bincount() / labels.bincount()
        assert (fraction - 0.2).abs().max() <= 0.5 / 174  # 174 is the smallest class

    def test_missing_scikit_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(ImportError, match=r"needs the package sklearn: pip install"):
            load_images("digits")


class TestLoadImages:
    def test_size_and_channels_of_any_source(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", random_pixels(5, 20, 30, 3))
        dataset = load_images(tmp_path / "a.npy", image_size=10, channels=1)
        assert dataset.images.shape == (4, 1, 10, 10)
        assert dataset.images.is_contiguous()
        assert load_images("digits", channels=3).images.shape == (1438, 3, 8, 8)

    def test_the_name_digits_and_the_path_digits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "digits").mkdir()
        for number in range(5):
            Image.new("L", (3, 3)).save(tmp_path / "digits" / f"{number}.png")
        assert len(load_images("digits")) == 1438
        assert len(load_images("./digits")) == len(load_images(Path("digits"))) == 4

    def test_what_nothing_reads(self, tmp_path: Path) -> None:
        accepted = r"accepted are the names digits, .*; a \.npy or \.npz .*IDX.*CIFAR-10.*folder"
        for nowhere in (tmp_path / "nowhere", "~no_such_user/nowhere"):
            with pytest.raises(FileNotFoundError, match=f"nowhere does not exist; {accepted}"):
                load_images(nowhere)
        (tmp_path / "a.csv").write_text("1,2")
        for source in (tmp_path / "a.csv", tmp_path):
            with pytest.raises(ValueError, match=f"nothing reads {source}; {accepted}"):
                load_images(source)

    def test_an_empty_source_is_not_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for number in range(5):
            Image.new("L", (3, 3)).save(f"{number}.png")
        with pytest.raises(ValueError, match="load_images: the source is an empty string; accept"):
            load_images("")
        assert len(load_images(".")) == 4

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"split": "valid"}, 'split = \'valid\', expected "train" or "test"'),
            ({"image_size": 0}, "image_size = 0, expected at least 1"),
            ({"channels": 2}, "channels = 2, expected 1, 3 or None"),
            ({"background": 256}, "background = 256, expected 0 to 255"),
        ],
    )
    def test_bad_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=f"load_images: {message}"):
            load_images("digits", **options)
