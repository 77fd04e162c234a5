"""The reader of .npy and .npz files, written here: whole, and damaged in every way it names."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from testing.image_testing import both_parts, random_pixels, rows

from gencore.data import load_images


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
            (npy_bytes(np.zeros((5, 4, 4), np.float32)), "float32, expected uint8 .*to_uint8 conv"),
            (npy_bytes(np.zeros((5, 4, 4), np.int64)), r"int64, expected uint8 .*\(array.astype"),
            (npy_bytes(np.zeros((5, 4, 4), np.complex64)), "complex64, .* levels 0 to 255$"),
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

    def test_a_name_in_capitals(self, tmp_path: Path) -> None:
        (tmp_path / "A.NPY").write_bytes(npy_bytes(random_pixels(5, 4, 4)))
        assert len(load_images(tmp_path / "A.NPY")) == 4
        np.savez(tmp_path / "a.npz", random_pixels(5, 4, 4))
        (tmp_path / "a.npz").rename(tmp_path / "A.Npz")
        assert len(load_images(tmp_path / "A.Npz")) == 4


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
            ({"x": images, "y": labels / 2}, "key y: dtype float64, expected integer labels$"),
            ({"x": images, "y": labels.astype(str)}, "key y: dtype <U21, .* numbers names"),
            (
                {"x": images, "y": labels.astype(np.uint64) + 2**63},
                "found the label 9223372036854775809",
            ),
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

    def test_labels_of_any_integer_type(self, tmp_path: Path) -> None:
        for dtype, label in ((np.uint64, 2**63 - 1), (np.int8, -128), (">i4", -(2**31))):
            labels = np.full(20, label, dtype)
            np.savez(tmp_path / "a.npz", images=self.images, labels=labels)
            found = load_images(tmp_path / "a.npz").labels
            assert found is not None
            assert found.tolist() == [label] * 16

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
