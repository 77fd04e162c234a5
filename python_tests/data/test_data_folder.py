"""The reader of folders of images, written here: whole, and damaged in every way it names."""

import os
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from testing.image_testing import both_parts, random_pixels, rows

from gencore.data import load_images

Image = pytest.importorskip("PIL.Image")


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
        assert images.shape == (3, 3, 5, 6)
        quantized = Image.fromarray(colour[..., :3]).quantize(256)
        quantized.save(tmp_path / "train" / "d.png")
        decoded = load_images(tmp_path).images[3].permute(1, 2, 0)
        np.testing.assert_array_equal(decoded, colour[..., :3])
        assert load_images(tmp_path, channels=1).images.shape == (4, 1, 5, 6)

    @pytest.mark.parametrize("background", [255, 0, 40])
    def test_transparent_pixels_show_the_background(self, tmp_path: Path, background: int) -> None:
        """α·x + (1 − α)·b, whatever colour hides below a pixel of α = 0."""
        for mode in ("RGBA", "LA"):
            path = tmp_path / mode / "train" / "a.png"
            pixels = self.save(path, mode).astype(float)
            pixels[0, :, -1], pixels[1, :, -1] = 0, 255
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            alpha = pixels[..., -1:] / 255
            expected = alpha * pixels[..., :-1] + (1 - alpha) * background
            options = {} if background == 255 else {"background": background}
            images = load_images(tmp_path / mode, **options).images  # type: ignore[arg-type]
            found = images[0].permute(1, 2, 0).numpy().astype(float)
            assert abs(found - expected).max() <= 1
            np.testing.assert_array_equal(found[:2], expected[:2])

    def test_a_transparent_colour_of_a_palette_or_of_grey(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        grey = Image.fromarray(np.array([[7, 90]], dtype=np.uint8))
        grey.save(tmp_path / "train" / "a.png", transparency=7)
        grey.convert("P").save(tmp_path / "train" / "b.gif", transparency=7)
        images = load_images(tmp_path, channels=1, background=200).images
        assert images.flatten(1).tolist() == [[200, 90], [200, 90]]

    def test_exif_orientation(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        pixels = random_pixels(5, 6)
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: rotate clockwise to view
        Image.fromarray(pixels).save(tmp_path / "train" / "a.png", exif=exif)
        np.testing.assert_array_equal(load_images(tmp_path).images[0, 0], np.rot90(pixels, -1))

    def test_hidden_folders_are_passed_over(self, tmp_path: Path) -> None:
        for name in ("cat/0", "dog/0", "dog/.cache/1", ".ipynb_checkpoints/0", ".git/deep/0"):
            self.save(tmp_path / "train" / f"{name}.png")
        self.save(tmp_path / ".ipynb_checkpoints" / "0.png")
        dataset = load_images(tmp_path)
        assert dataset.labels is not None
        assert dataset.labels.tolist() == [0, 1]
        # The folder itself may be hidden, or lie in a hidden one.
        (tmp_path / "train").rename(tmp_path / ".train")
        self.save(tmp_path / ".train" / "cat" / "1.png")
        self.save(tmp_path / ".train" / "cat" / "2.png")
        assert len(load_images(tmp_path / ".train")) == 3

    def test_links_are_followed_and_loops_are_not(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        self.save(tmp_path / "store" / "felines" / "0.png")
        self.save(tmp_path / "store" / "1.png")
        self.save(root / "train" / "dog" / "0.png")
        (root / "train" / "cat").symlink_to(tmp_path / "store" / "felines")
        (root / "train" / "dog" / "1.png").symlink_to(tmp_path / "store" / "1.png")
        (root / "train" / "dog" / "up").symlink_to(root, target_is_directory=True)
        (root / "train" / "dog" / "here").symlink_to(".", target_is_directory=True)
        (root / "train" / "dog" / "itself").symlink_to("itself")
        dataset = load_images(root)
        assert dataset.labels is not None
        assert dataset.labels.tolist() == [0, 1, 1]

    @pytest.mark.parametrize("kind", ["link to nothing", "link to itself", "pipe", "text", "eps"])
    def test_what_only_looks_like_an_image(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "train" / "b.png"
        self.save(path.with_name("a.png"))
        if kind == "pipe":
            os.mkfifo(path)
        elif kind.startswith("link"):
            path.symlink_to("b.png" if kind == "link to itself" else "nothing")
        else:
            # Pillow reads EPS by starting Ghostscript.
            path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n" * (kind == "eps"))
        with pytest.raises(ValueError, match=f"{path}: cannot read an image"):
            load_images(tmp_path)

    def test_a_folder_that_looks_like_an_image(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png"):
            self.save(tmp_path / "train" / name / "0.png")
        dataset = load_images(tmp_path)
        assert dataset.labels is not None
        assert dataset.labels.tolist() == [0, 1]

    def test_a_folder_that_cannot_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is an error, not a class that is missing; root may read all, hence the stand-in."""
        self.save(tmp_path / "train" / "a" / "0.png")
        (tmp_path / "train" / "b").mkdir()
        scandir = os.scandir

        def refuse(path: Any) -> Any:
            if Path(path).name == "b":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(PermissionError, match=r"train/b"):
            load_images(tmp_path)

    def test_names_in_any_alphabet(self, tmp_path: Path) -> None:
        names = ["Zebra", "ant", "äpfel", "кот", "猫", "🐈", "a b", "0"]
        composed, parted = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
        for name in names:
            self.save(tmp_path / "train" / name / f"{name}.PNG")
        self.save(tmp_path / "train" / composed / "0.JPeG")
        self.save(tmp_path / "test" / parted / "0.png")
        train, test = both_parts(tmp_path)
        assert train.labels is not None
        assert test.labels is not None
        assert train.labels.unique().tolist() == list(range(9))
        assert train.class_names == test.class_names == tuple(sorted([*names, composed]))
        assert test.labels.item() == sorted([*names, composed]).index(composed)

    def test_parts_in_capitals(self, tmp_path: Path) -> None:
        for name in ("Train/a", "Train/b", "TEST/a"):
            self.save(tmp_path / name / "0.png")
        train, test = both_parts(tmp_path)
        assert (len(train), len(test)) == (2, 1)
        self.save(tmp_path / "train" / "a" / "0.png")
        with pytest.raises(ValueError, match="holds Train and train: which is meant"):
            load_images(tmp_path)

    def test_a_class_called_train(self, tmp_path: Path) -> None:
        for name in ("Bus", "Car", "Train"):
            for number in range(5):
                self.save(tmp_path / name / f"{number}.png")
        labels = load_images(tmp_path).labels
        assert labels is not None
        assert labels.bincount().tolist() == [4, 4, 4]

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
