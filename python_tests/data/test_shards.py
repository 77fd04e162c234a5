"""Shards of WebDataset: every image streamed once, in the order of seed and epoch; in memory."""

import io
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from testing.image_testing import both_parts, random_pixels
from torch.utils.data import DataLoader

from gencore.data import ShardedImages, load_images
from gencore.data.images.shards import read_shards

Image = pytest.importorskip("PIL.Image")
webdataset = pytest.importorskip("webdataset")

NUM, PER_SHARD = 40, 5
PIXELS = random_pixels(NUM, 6, 5, 3)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def write_shard(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eight shards of five images, written by the library itself."""
    folder = tmp_path_factory.mktemp("shards")
    for start in range(0, NUM, PER_SHARD):
        with webdataset.TarWriter(str(folder / f"set-{start // PER_SHARD}.tar")) as writer:
            for index in range(start, start + PER_SHARD):
                content = png(PIXELS[index])
                writer.write({"__key__": f"{index:03}", "png": content, "cls": index % 10})
    return folder


def keys(samples) -> list[str]:
    return [sample.key for sample in samples]


class TestStream:
    def test_samples_are_those_that_were_written(self, shards):
        samples = list(ShardedImages(shards))
        assert keys(samples) == [f"{index:03}" for index in range(NUM)]
        assert [sample.label for sample in samples] == [index % 10 for index in range(NUM)]
        images = torch.stack([sample.image for sample in samples])
        assert torch.equal(images, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))

    @pytest.mark.parametrize("world_size", [1, 3, 8])
    def test_every_image_is_seen_once_an_epoch(self, shards, world_size):
        seen = []
        for rank in range(world_size):
            part = ShardedImages(shards, seed=1, buffer_size=4, rank=rank, world_size=world_size)
            seen += keys(part)
        assert sorted(seen) == [f"{index:03}" for index in range(NUM)]

    def test_the_order_is_that_of_seed_and_epoch(self, shards):
        def order(seed, epoch):
            stream = ShardedImages(shards, seed=seed, buffer_size=7)
            stream.set_epoch(epoch)
            return keys(stream)

        orders = [order(0, 0), order(0, 1), order(1, 0), sorted(order(0, 0))]
        assert order(0, 0) == orders[0]
        assert len({tuple(found) for found in orders}) == len(orders)

    def test_a_buffer_mixes_shards(self, shards):
        # With a buffer for all every order is as likely: an image's expected distance from its
        # shard's next is a third of the epoch.
        order = np.array(keys(ShardedImages(shards, seed=3, buffer_size=NUM))).astype(int)
        assert np.abs(np.diff(order // PER_SHARD)).mean() > 1.5

    def test_workers_of_a_loader_share_the_shards(self, shards):
        stream = ShardedImages(shards, seed=0, rank=0, world_size=2)
        loader = DataLoader(stream, batch_size=4, num_workers=2)
        batches = list(loader)
        assert batches[0].image.dtype == torch.uint8
        found = [key for batch in batches for key in batch.key]
        assert sorted(found) == sorted(keys(stream))
        assert len(found) == NUM // 2

    def test_images_are_converted(self, shards):
        sample = next(iter(ShardedImages(shards, image_size=4, channels=1)))
        assert sample.image.shape == (1, 4, 4)

    def test_bad_options(self, shards):
        for options, message in (
            ({"image_size": 0}, "image_size = 0"),
            ({"channels": 2}, "channels = 2"),
            ({"buffer_size": 0}, "buffer_size = 0"),
            ({"rank": 2, "world_size": 2}, "rank = 2 and world_size = 2"),
            ({"rank": 0, "world_size": 9}, "8 shards are too few for 9 processes with 1 workers"),
            ({"split": "train"}, r"no shard has train or test in its name, as set-0\.tar"),
        ):
            with pytest.raises(ValueError, match=f"ShardedImages: {message}"):
                ShardedImages(shards, **options)
        with pytest.raises(ValueError, match="is empty"):
            ShardedImages([])

    def test_too_many_workers(self, shards, monkeypatch):
        stream = ShardedImages(shards, rank=4, world_size=5)  # its one shard is for worker 0
        second = SimpleNamespace(id=1, num_workers=2)
        monkeypatch.setattr("gencore.data.images.shards.get_worker_info", lambda: second)
        with pytest.raises(ValueError, match="8 shards are too few for 5 processes with 2 workers"):
            iter(stream)

    def test_missing_package(self, shards, monkeypatch):
        monkeypatch.setitem(sys.modules, "webdataset", None)
        with pytest.raises(ImportError, match=r"needs the package webdataset: .*gencore\[data\]"):
            ShardedImages(shards)


class TestInMemory:
    def test_both_parts_hold_all_images(self, shards):
        train, test = both_parts(shards)
        assert (len(train), len(test)) == (30, 10)
        images = torch.cat([train.images, test.images])
        labels = torch.cat([train.labels, test.labels])
        number = {pixels.tobytes(): index for index, pixels in enumerate(PIXELS)}
        found = [number[image.permute(1, 2, 0).numpy().tobytes()] for image in images]
        assert sorted(found) == list(range(NUM))
        assert [index % 10 for index in found] == labels.tolist()

    def test_a_shard_and_a_pattern(self, shards):
        assert keys(ShardedImages(shards / "set-3.tar")) == [f"{i:03}" for i in range(15, 20)]
        # Of two images of each class none is for testing.
        dataset = load_images(shards / "set-{1..4}.tar")
        assert torch.equal(dataset.images, torch.from_numpy(PIXELS[5:25]).permute(0, 3, 1, 2))
        assert dataset.labels.tolist() == [index % 10 for index in range(5, 25)]
        assert dataset.name == "set-{1..4}.tar"

    def test_an_archive_beside_its_images(self, tmp_path):
        write_shard(tmp_path / "all.tar", [("a.png", png(PIXELS[0]))])
        for number in range(5):
            (tmp_path / f"{number}.png").write_bytes(png(PIXELS[number]))
        assert len(load_images(tmp_path)) == 4

    def test_names_divide(self, tmp_path):
        for name, value in (("train-0", 1), ("train-1", 2), ("test-0", 3)):
            content = png(np.full((2, 2), value, np.uint8))
            write_shard(tmp_path / f"{name}.tar", [("a.png", content)])
        train, test = both_parts(tmp_path)
        assert train.images[:, 0, 0, 0].tolist() == [1, 2]
        assert test.images.unique().tolist() == [3]
        assert train.labels is None
        assert keys(ShardedImages(tmp_path, split="test")) == ["a"]
        (tmp_path / "test-0.tar").unlink()
        with pytest.raises(FileNotFoundError, match="has test in its name"):
            load_images(tmp_path, split="test")

    def test_too_much_for_memory(self, shards):
        fits = NUM * PIXELS[0].size
        assert len(read_shards(shards, "train", max_bytes=fits).images) == 30
        with pytest.raises(ValueError, match=r"need more than .* GiB .*ShardedImages"):
            read_shards(shards, "train", max_bytes=fits - 1)

    def test_grey_beside_colour(self, tmp_path):
        colour, grey = png(PIXELS[0]), png(PIXELS[1][..., 0])
        write_shard(tmp_path / "train.tar", [("a.png", colour), ("b.png", grey)])
        assert load_images(tmp_path).images.shape == (2, 3, 6, 5)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ([("a.txt", b"x")], r"train\.tar: a has no image: expected one, found txt"),
            ([("a.png", b"x"), ("a.jpg", b"x")], "a has several images.*png, jpg"),
            ([("a.png", b"xyz")], r"a\.png: cannot read an image from 3 bytes"),
            ([("a.png", png(PIXELS[0])), ("a.cls", b"cat")], r"a\.cls: expected a class as a num"),
            (
                [("a.png", png(PIXELS[0])), ("a.cls", b"1"), ("b.png", png(PIXELS[0]))],
                r"b has no class \(\.cls\), unlike",
            ),
            (
                [("a.png", png(PIXELS[0])), ("b.png", png(PIXELS[0][:3]))],
                "b has 5 x 3 pixels, but the first image has 5 x 6: give image_size",
            ),
            ([], "hold no samples"),
        ],
    )
    def test_bad_samples(self, tmp_path, files, message):
        write_shard(tmp_path / "train.tar", files)
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path)

    @pytest.mark.parametrize("kept", [0, 1, 512, 700, 2048, 5000])
    def test_a_shard_cut_short(self, shards, tmp_path, kept):
        content = (shards / "set-0.tar").read_bytes()
        (tmp_path / "train.tar").write_bytes(content[:kept])
        with pytest.raises(ValueError, match=rf"train\.tar: damaged or cut short after {kept} byt"):
            load_images(tmp_path)

    def test_a_damaged_header(self, shards, tmp_path):
        content = bytearray((shards / "set-0.tar").read_bytes())
        content[0:100] = b"x" * 100  # the checksum is wrong
        (tmp_path / "train.tar").write_bytes(content)
        with pytest.raises(ValueError, match=r"train\.tar: damaged \.tar shard of \d+ bytes"):
            load_images(tmp_path)

    def test_missing_shards(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"the shard .*a-1\.tar does not exist"):
            load_images(tmp_path / "a-{1..2}.tar")
        with pytest.raises(FileNotFoundError, match=r"a\.tar does not exist; accepted are"):
            load_images(tmp_path / "a.tar")
        with pytest.raises(FileNotFoundError, match=r"holds no \.tar shards"):
            ShardedImages(tmp_path)
