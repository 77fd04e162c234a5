"""The readers on files written here byte by byte, whole and damaged in every way they name."""

import gzip
import io
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gencore.data import ImageDataset, load_images, to_float, to_uint8
from gencore.data.pixels import convert_channels, resize_images
from gencore.data.splits import split_indices

Image = pytest.importorskip("PIL.Image")


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def both_parts(source: Path | str, **options: Any) -> tuple[ImageDataset, ImageDataset]:
    return (
        load_images(source, split="train", **options),
        load_images(source, split="test", **options),
    )


def rows(images: torch.Tensor | np.ndarray) -> list[bytes]:
    """The images as sortable values, to compare sets of them."""
    return sorted(np.ascontiguousarray(image).tobytes() for image in np.asarray(images))


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


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


class TestIDX:
    train, train_labels = random_pixels(7, 5, 4), np.arange(7, dtype=np.uint8)
    test, test_labels = random_pixels(3, 5, 4, seed=1), np.array([9, 255, 0], dtype=np.uint8)

    def write(self, folder: Path, name: str = "{}-{}-idx{}-ubyte", pack: Any = bytes) -> None:
        for prefix, kind, array in [
            ("train", "images", self.train),
            ("train", "labels", self.train_labels),
            ("t10k", "images", self.test),
            ("t10k", "labels", self.test_labels),
        ]:
            path = folder / name.format(prefix, kind, array.ndim)
            path.write_bytes(pack(idx_bytes(array)))

    @pytest.mark.parametrize(
        ("name", "pack"),
        [
            ("{}-{}-idx{}-ubyte", bytes),
            ("{}-{}-idx{}-ubyte.gz", gzip.compress),
            ("{}-{}.idx{}-ubyte", bytes),
        ],
    )
    def test_round_trip(self, tmp_path: Path, name: str, pack: Any) -> None:
        self.write(tmp_path, name, pack)
        train, test = both_parts(tmp_path)
        assert train.labels is not None
        assert test.labels is not None
        np.testing.assert_array_equal(train.images[:, 0], self.train)
        np.testing.assert_array_equal(test.images[:, 0], self.test)
        np.testing.assert_array_equal(train.labels, self.train_labels)
        np.testing.assert_array_equal(test.labels, self.test_labels)
        assert train.labels.dtype == torch.int64

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda b: b"", "expected the first 4 bytes 00 00 08 03, found an empty file"),
            (lambda b: b"\x89PNG" + b[4:], "00 00 08 03, found 89 50 4e 47"),
            (lambda b: b[:2] + b"\x0d" + b[3:], "00 00 08 03, found 00 00 0d 03"),
            (lambda b: b[:3] + b"\x01" + b[4:], "00 00 08 03, found 00 00 08 01"),
            (lambda b: b[:10], "header cut short: expected 16 bytes, found 10"),
            (lambda b: b[:-1], r"expected 140 bytes for the shape \(7, 5, 4\).*found only 139"),
            (lambda b: b[:16], r"expected 140 bytes.*found only 0"),
            (lambda b: b + b"x", r"expected 140 bytes.*found more"),
            (lambda b: b[:4] + b"\xff" * 12 + b[16:], "found only 140"),
            (lambda b: b[:4] + bytes(12) + b[16:], r"expected 0 bytes.*found more"),
            (lambda b: b[:4] + bytes(12), r"empty: its header says shape \(0, 0, 0\)"),
        ],
    )
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_damaged_images(
        self, tmp_path: Path, damage: Callable[[bytes], bytes], message: str, suffix: str
    ) -> None:
        content = damage(idx_bytes(self.train))
        self.write(tmp_path)
        (tmp_path / "train-images-idx3-ubyte").unlink()
        path = tmp_path / f"train-images-idx3-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)
        with pytest.raises(ValueError, match=f"{path}.*{message}"):
            load_images(tmp_path)
        load_images(tmp_path, split="test")  # the other part is whole

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda b: b[:-1], "damaged gzip file"),
            (lambda b: b[: len(b) // 2], r"expected 140 bytes.*found only \d+"),
            (lambda b: b[:-6] + bytes([b[-6] ^ 1]) + b[-5:], "damaged gzip file: CRC"),
            (lambda b: b"plain text", "damaged gzip file: Not a gzipped file"),
        ],
    )
    def test_damaged_gzip(
        self, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
    ) -> None:
        self.write(tmp_path, "{}-{}-idx{}-ubyte.gz", gzip.compress)
        path = tmp_path / "t10k-images-idx3-ubyte.gz"
        path.write_bytes(damage(gzip.compress(idx_bytes(random_pixels(7, 5, 4)))))
        with pytest.raises(ValueError, match=f"{path}.*{message}"):
            load_images(tmp_path, split="test")

    def test_missing_and_mismatched_labels(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        path = tmp_path / "train-labels-idx1-ubyte"
        path.write_bytes(idx_bytes(self.train_labels[:6]))
        with pytest.raises(ValueError, match=f"holds 7 images, but {path} holds 6 labels"):
            load_images(tmp_path)
        path.unlink()
        with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no train-labels-idx1-ubyte"):
            load_images(tmp_path)


class TestCIFAR:
    def write(self, folder: Path) -> dict[str, np.ndarray]:
        names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
        records = {}
        for seed, name in enumerate(names):
            records[name] = random_pixels(4, 3073, seed=seed)
            records[name][:, 0] %= 10
            (folder / name).write_bytes(records[name].tobytes())
        return records

    def test_round_trip(self, tmp_path: Path) -> None:
        records = self.write(tmp_path)
        train, test = both_parts(tmp_path)
        assert train.images.shape == (20, 3, 32, 32)
        assert train.labels is not None
        assert test.labels is not None
        second = records["data_batch_2.bin"]
        np.testing.assert_array_equal(train.labels[4:8], second[:, 0])
        # The second row of the green plane of the last image of the second file.
        np.testing.assert_array_equal(train.images[7, 1, 1], second[3, 1 + 1024 + 32 :][:32])
        np.testing.assert_array_equal(test.images.flatten(1), records["test_batch.bin"][:, 1:])
        np.testing.assert_array_equal(test.labels, records["test_batch.bin"][:, 0])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "expected a positive multiple of 3073 bytes.*found 0"),
            (bytes(3073 + 3072), "expected a positive multiple of 3073 bytes.*found 6145"),
            (bytes([10]) + bytes(3072), "found the label 10, expected 0 to 9"),
        ],
    )
    def test_damaged(self, tmp_path: Path, content: bytes, message: str) -> None:
        self.write(tmp_path)
        path = tmp_path / "data_batch_4.bin"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}: .*{message}"):
            load_images(tmp_path)

    def test_missing_batch(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (tmp_path / "data_batch_2.bin").unlink()
        with pytest.raises(FileNotFoundError, match=r"holds no data_batch_2\.bin"):
            load_images(tmp_path)

    def test_the_python_version_is_refused(self, tmp_path: Path) -> None:
        for number in range(1, 6):
            (tmp_path / f"data_batch_{number}").write_bytes(b"\x80\x04N.")
        with pytest.raises(
            ValueError, match=r"pickles, which can run code.*use the binary version"
        ):
            load_images(tmp_path)


class Bomb:
    """Unpickling it would end the test run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.exit, ("a pickle was loaded",)


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class TestNpy:
    @pytest.mark.parametrize(
        ("shape", "axes"),
        [
            ((15, 6, 5), None),
            ((15, 6, 5, 1), (0, 3, 1, 2)),
            ((15, 6, 5, 3), (0, 3, 1, 2)),
            ((15, 1, 6, 5), (0, 1, 2, 3)),
            ((15, 3, 6, 5), (0, 1, 2, 3)),
        ],
    )
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_layouts(self, tmp_path: Path, shape: Any, axes: Any, order: Any) -> None:
        array = np.asarray(random_pixels(*shape), order=order)
        np.save(tmp_path / "a.npy", array)
        train, test = both_parts(tmp_path / "a.npy")
        expected = array[:, None] if axes is None else array.transpose(axes)
        assert train.images.shape == (12, *expected.shape[1:])
        assert rows(torch.cat([train.images, test.images])) == rows(expected)
        assert train.labels is None
        assert train.name == "a"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no NumPy array in these 0 bytes"),
            (b"not an array at all", "no NumPy array in these 19 bytes"),
            (npy_bytes(random_pixels(5, 4, 4))[:60], "no NumPy array in these 60 bytes"),
            (npy_bytes(random_pixels(5, 4, 4))[:-9], "expected 80 bytes for shape .*, found 71"),
            (npy_bytes(np.zeros((5, 4, 4), np.float32)), "dtype float32, expected uint8"),
            (npy_bytes(np.zeros((5, 4, 4), np.int64)), "dtype int64, expected uint8"),
            (npy_bytes(random_pixels(5, 4)), r"shape \(5, 4\), expected \[N, H, W\]"),
            (npy_bytes(random_pixels(5, 4, 4, 4)), r"\(5, 4, 4, 4\): no axis is"),
            (npy_bytes(random_pixels(5, 3, 4, 3)), r"\(5, 3, 4, 3\): either axis could be"),
            (npy_bytes(random_pixels(0, 4, 4)), r"empty: shape \(0, 4, 4\)"),
            (npy_bytes(np.array([Bomb()], dtype=object)), "dtype object, expected uint8"),
        ],
    )
    def test_damaged(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "a.npy"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}: .*{message}"):
            load_images(path)

    def test_a_header_that_is_no_literal(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        path.write_bytes(npy_bytes(random_pixels(5, 4, 4)).replace(b"} ", b"}{", 1))
        with pytest.raises(ValueError, match="no NumPy array"):
            load_images(path)

    def test_a_header_that_promises_too_much_allocates_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 4, 4)}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(80))
        with pytest.raises(ValueError, match=r"cut short: expected 16000000000000 bytes.*found 80"):
            load_images(path)


class TestNpz:
    images, labels = random_pixels(20, 6, 5, 3), np.arange(20) % 2

    @pytest.mark.parametrize(
        ("images_key", "labels_key"),
        [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}", "{}_labels")],
    )
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_stored_parts(
        self, tmp_path: Path, save: Any, images_key: str, labels_key: str
    ) -> None:
        arrays = {
            images_key.format("train"): self.images[:12],
            images_key.format("test"): self.images[12:],
            labels_key.format("train"): self.labels[:12, None].astype(">u2"),
        }
        save(tmp_path / "a.npz", **arrays)
        train, test = both_parts(tmp_path / "a.npz")
        np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1), self.images[:12])
        np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1), self.images[12:])
        assert train.labels is not None
        np.testing.assert_array_equal(train.labels, self.labels[:12])
        assert test.labels is None

    @pytest.mark.parametrize(
        "keys", [("images", "labels"), ("x", "y"), ("arr_0", None), ("images", None)]
    )
    def test_chosen_parts(self, tmp_path: Path, keys: tuple[str, str | None]) -> None:
        images = self.images.copy()
        images[:, 0, 0, 0] = np.arange(20)  # tells the images apart
        arrays = {keys[0]: images}
        if keys[1] is not None:
            arrays[keys[1]] = self.labels
        np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        train, test = both_parts(tmp_path / "a.npz")
        assert (len(train), len(test)) == (16, 4)
        for part in (train, test):
            order = part.images[:, 0, 0, 0].numpy()
            np.testing.assert_array_equal(part.images.permute(0, 2, 3, 1), images[order])
            if keys[1] is None:
                assert part.labels is None
            else:
                assert part.labels is not None
                np.testing.assert_array_equal(part.labels, self.labels[order])
        assert rows(torch.cat([train.images, test.images])) == rows(images.transpose(0, 3, 1, 2))

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"pixels": images}, "one of the keys x_train, .*arr_0; found pixels"),
            ({"x_test": images}, "no images for the train part: .*found x_test"),
            ({}, "found none"),
            ({"x": images, "y": labels[:19]}, r"key y: shape \(19,\), expected \(20,\)"),
            ({"x": images, "y": labels / 2}, "key y: dtype float64"),
            ({"x": images / 255}, "key x: dtype float64, expected uint8"),
            ({"x": images.astype(np.int32)}, "key x: dtype int32, expected uint8"),
            ({"x": np.array([Bomb()], dtype=object)}, "key x: dtype object"),
        ],
    )
    def test_bad_arrays(self, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
        path = tmp_path / "a.npz"
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=f"{path}.*{message}"):
            load_images(path)

    def test_damaged_archives(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        np.savez(path, images=self.images)
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        for damaged in (b"", b"text", content[:middle], content[:-1], flipped):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"{path}.*(damaged .npz file of|Bad CRC)"):
                load_images(path)

    def test_a_member_that_is_cut_short(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", npy_bytes(self.images)[:-100])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("x_train", "no array, and so no key")
        with pytest.raises(ValueError, match=r"key images: cut short: expected 1800 .*found 1700"):
            load_images(path)


class TestFolder:
    def save(self, path: Path, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
        seed = sum(str(path.name).encode())
        pixels = random_pixels(size[1], size[0], *channels, seed=seed)
        Image.fromarray(pixels).save(path)
        return pixels

    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG", ".webp", ".ppm"])
    def test_pixels_come_back(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / "train" / f"a{suffix}"
        path.parent.mkdir()
        pixels = random_pixels(5, 6, 3)
        Image.fromarray(pixels).save(path, lossless=True)  # an option of WebP, which others ignore
        images = load_images(tmp_path).images
        np.testing.assert_array_equal(images[0].permute(1, 2, 0), pixels)

    def test_unlabelled_files_are_divided_once_and_for_all(self, tmp_path: Path) -> None:
        saved = [self.save(tmp_path / f"{number}.png") for number in range(10)]
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / "._0.png").write_bytes(b"resource fork")
        train, test = both_parts(tmp_path)
        assert (len(train), len(test)) == (8, 2)
        assert train.labels is None
        found = torch.cat([train.images, test.images]).permute(0, 2, 3, 1)
        assert rows(found) == rows(np.stack(saved))
        assert torch.equal(load_images(tmp_path).images, train.images)

    def test_subfolders_are_classes(self, tmp_path: Path) -> None:
        for name, value in [("dog", 20), ("cat", 10), ("eel/deep", 30)]:
            for number in range(5):
                path = tmp_path / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (4, 4), value).save(path)
        for part, size in zip(both_parts(tmp_path), (4, 1), strict=True):
            assert part.labels is not None
            assert part.labels.bincount().tolist() == [size] * 3
            # cat, dog, eel: alphabetical.
            np.testing.assert_array_equal(part.images[:, 0, 0, 0], 10 * (part.labels + 1))

    def test_train_and_test_folders_share_their_classes(self, tmp_path: Path) -> None:
        for name in ("train/a", "train/b", "test/b", "test/c", "val/a"):
            self.save(tmp_path / name / "0.png")
        train, test = both_parts(tmp_path)
        assert train.labels is not None
        assert test.labels is not None
        assert train.labels.tolist() == [0, 1]
        assert test.labels.tolist() == [1, 2]

    def test_only_one_part(self, tmp_path: Path) -> None:
        self.save(tmp_path / "train" / "0.png")
        assert len(load_images(tmp_path)) == 1
        with pytest.raises(FileNotFoundError, match="a folder train, but no folder test"):
            load_images(tmp_path, split="test")
        self.save(tmp_path / "car" / "0.png")
        with pytest.raises(ValueError, match=r"folders train and car: .*are parts, not classes"):
            load_images(tmp_path)

    def test_loose_images_beside_classes(self, tmp_path: Path) -> None:
        self.save(tmp_path / "a" / "0.png")
        self.save(tmp_path / "1.png")
        with pytest.raises(ValueError, match=rf"{tmp_path / '1.png'} has none"):
            load_images(tmp_path)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "gif", "tif", "ppm"])
    @pytest.mark.parametrize("kept", [0.0, 0.5])
    def test_a_file_cut_in_half(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = tmp_path / "train" / f"a.{suffix}"
        self.save(path, size=(40, 40))
        content = path.read_bytes()[: int(kept * path.stat().st_size)]
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=f"{path}: cannot read an image from {len(content)} bytes"
        ):
            load_images(tmp_path)

    def test_sixteen_bits_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "train" / "a.png"
        path.parent.mkdir()
        Image.fromarray(np.full((4, 4), 1000, dtype=np.uint16)).save(path)
        with pytest.raises(ValueError, match=f"{path}.*expected 8 bits a sample"):
            load_images(tmp_path)

    def test_different_sizes(self, tmp_path: Path) -> None:
        self.save(tmp_path / "train" / "a.png", size=(6, 5))
        self.save(tmp_path / "train" / "b.png", size=(7, 9))
        with pytest.raises(ValueError, match=r"b.png has 7 x 9 .*a.png has 6 x 5: give image_size"):
            load_images(tmp_path)
        assert load_images(tmp_path, image_size=4).images.shape == (2, 3, 4, 4)

    def test_modes(self, tmp_path: Path) -> None:
        grey = self.save(tmp_path / "train" / "a.png", "L")
        self.save(tmp_path / "train" / "b.png", "LA")
        assert load_images(tmp_path).images.shape == (2, 1, 5, 6)
        colour = self.save(tmp_path / "train" / "c.png", "RGBA")
        images = load_images(tmp_path).images
        np.testing.assert_array_equal(images[0], np.broadcast_to(grey, (3, 5, 6)))
        np.testing.assert_array_equal(images[2].permute(1, 2, 0), colour[..., :3])
        Image.fromarray(colour[..., :3]).quantize(256).save(tmp_path / "train" / "d.png")
        assert torch.equal(load_images(tmp_path).images[3], images[2])
        assert load_images(tmp_path, channels=1).images.shape == (4, 1, 5, 6)

    def test_exif_orientation(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        pixels = random_pixels(5, 6)
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: rotate clockwise to view
        Image.fromarray(pixels).save(tmp_path / "train" / "a.png", exif=exif)
        np.testing.assert_array_equal(load_images(tmp_path).images[0, 0], np.rot90(pixels, -1))

    def test_empty_part(self, tmp_path: Path) -> None:
        self.save(tmp_path / "train" / "a.png")
        (tmp_path / "test").mkdir()
        with pytest.raises(ValueError, match=rf"{tmp_path / 'test'} holds no images"):
            load_images(tmp_path, split="test")

    def test_missing_pillow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.save(tmp_path / "train" / "a.png")
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(ImportError, match=r"needs the package PIL: pip install"):
            load_images(tmp_path)


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
        accepted = r'accepted are "digits" and "photos"; a \.npy or \.npz .*IDX.*CIFAR-10.*folder'
        with pytest.raises(FileNotFoundError, match=f"nowhere does not exist; {accepted}"):
            load_images(tmp_path / "nowhere")
        (tmp_path / "a.csv").write_text("1,2")
        for source in (tmp_path / "a.csv", tmp_path):
            with pytest.raises(ValueError, match=f"nothing reads {source}; {accepted}"):
                load_images(source)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"split": "valid"}, 'split = \'valid\', expected "train" or "test"'),
            ({"image_size": 0}, "image_size = 0, expected at least 1"),
            ({"channels": 2}, "channels = 2, expected 1, 3 or None"),
        ],
    )
    def test_bad_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=f"load_images: {message}"):
            load_images("digits", **options)
