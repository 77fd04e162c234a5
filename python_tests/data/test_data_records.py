"""Readers of IDX and CIFAR-10 files, written here byte by byte: whole, and damaged in every way."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from testing.image_testing import both_parts, random_pixels

from gencore.data import load_images


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

    @pytest.mark.parametrize("place", ["raw", "MNIST/raw"])
    def test_where_torchvision_puts_them(self, tmp_path: Path, place: str) -> None:
        (tmp_path / place).mkdir(parents=True)
        self.write(tmp_path / place)
        train, test = both_parts(tmp_path)
        np.testing.assert_array_equal(train.images[:, 0], self.train)
        np.testing.assert_array_equal(test.labels, self.test_labels)
        if place == "MNIST/raw":
            (tmp_path / "KMNIST" / "raw").mkdir(parents=True)
            self.write(tmp_path / "KMNIST" / "raw")
            with pytest.raises(ValueError, match=r"holds 2 data sets: .*KMNIST/raw/.*/MNIST/raw/"):
                load_images(tmp_path)
            assert len(load_images(tmp_path / "KMNIST")) == 7

    @pytest.mark.parametrize(
        ("name", "pack"),
        [
            ("emnist-letters-{}-{}-idx{}-ubyte.gz", gzip.compress),
            ("emnist-letters-{}-{}-idx{}-ubyte", bytes),
        ],
    )
    def test_names_of_emnist(self, tmp_path: Path, name: str, pack: Any) -> None:
        for kind, arrays in (
            ("images", (self.train, self.test)),
            ("labels", (self.train_labels, self.test_labels)),
        ):
            for part, array in zip(("train", "test"), arrays, strict=True):
                path = tmp_path / name.format(part, kind, array.ndim)
                path.write_bytes(pack(idx_bytes(array)))
                (tmp_path / f"._{path.name}").write_bytes(b"resource fork")
        train, test = both_parts(tmp_path)
        np.testing.assert_array_equal(train.images[:, 0], self.train)
        np.testing.assert_array_equal(test.labels, self.test_labels)
        self.write(tmp_path, "emnist-digits-{}-{}-idx{}-ubyte")
        with pytest.raises(ValueError, match=r"holds 2 data sets: name one .*digits.*letters"):
            load_images(tmp_path)
        named = load_images(tmp_path / name.format("test", "images", 3))
        assert torch.equal(named.images, train.images)
        (tmp_path / name.format("test", "labels", 1)).unlink()
        with pytest.raises(FileNotFoundError, match=r"no emnist-letters-test-labels-idx1-ubyte or"):
            load_images(tmp_path / name.format("test", "images", 3), split="test")

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

    def test_names_of_classes(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        assert load_images(tmp_path).class_names is None
        names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship")
        meta = tmp_path / "batches.meta.txt"
        meta.write_text("\n".join([*names, "truck", "", ""]))  # as in the archive
        assert load_images(tmp_path, split="test").class_names == (*names, "truck")
        meta.write_text("\r\n".join(names))
        with pytest.raises(ValueError, match=r"names of the 10 classes of CIFAR-10, .*found 9"):
            load_images(tmp_path)

    @pytest.mark.parametrize("folder", ["", "cifar-100-binary"])
    def test_cifar_100(self, tmp_path: Path, folder: str) -> None:
        records = {}
        (tmp_path / folder).mkdir(exist_ok=True)
        for seed, name in enumerate(("train", "test")):
            records[name] = random_pixels(4, 3074, seed=seed)
            records[name][:, :2] %= np.array([20, 100], dtype=np.uint8)
            (tmp_path / folder / f"{name}.bin").write_bytes(records[name].tobytes())
        fine = [f"fine {number}" for number in range(100)]
        (tmp_path / folder / "fine_label_names.txt").write_text("\n".join(fine))
        for name, part in zip(records, both_parts(tmp_path), strict=True):
            assert part.images.shape == (4, 3, 32, 32)
            assert part.class_names == tuple(fine)
            np.testing.assert_array_equal(part.images.flatten(1), records[name][:, 2:])
            np.testing.assert_array_equal(part.labels, records[name][:, 1])
        records["test"][2, 1] = 100
        (tmp_path / folder / "test.bin").write_bytes(records["test"].tobytes())
        with pytest.raises(
            ValueError, match=r"not CIFAR-100: found the label 100, expected 0 to 9"
        ):
            load_images(tmp_path, split="test")
        (tmp_path / folder / "train.bin").write_bytes(bytes(3073))
        with pytest.raises(ValueError, match=r"multiple of 3074 bytes \(2 for the label"):
            load_images(tmp_path)
        (tmp_path / folder / "test_batch.bin").write_bytes(bytes(3073))
        with pytest.raises(ValueError, match="holds two data sets: name one"):
            load_images(tmp_path / folder)

    def test_the_folder_of_the_archive(self, tmp_path: Path) -> None:
        (tmp_path / "cifar-10-batches-bin").mkdir()
        self.write(tmp_path / "cifar-10-batches-bin")
        assert len(load_images(tmp_path)) == 20

    @pytest.mark.parametrize(
        ("folder", "names"),
        [
            ("", [f"data_batch_{number}" for number in range(1, 6)]),
            ("cifar-10-batches-py", ["test_batch"]),
            ("", ["train", "meta"]),
            ("cifar-100-python", ["train", "test", "meta"]),
        ],
    )
    def test_the_python_version_is_refused(
        self, tmp_path: Path, folder: str, names: list[str]
    ) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in names:
            (tmp_path / folder / name).write_bytes(b"\x80\x04N.")
        with pytest.raises(
            ValueError, match=r"pickles, which can run code.*use the binary version"
        ):
            load_images(tmp_path)
