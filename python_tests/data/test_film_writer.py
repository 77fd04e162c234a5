"""Films that are written are those that are read."""

import sys

import numpy as np
import pytest
import torch

from gencore.data import MovingShapes, load_video, save_film, to_float
from gencore.metrics import psnr

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def clips():
    return torch.stack(list(MovingShapes(clip_length=6, image_size=21, num_clips=3)))


def read(path, num):
    pytest.importorskip("av")
    return load_video(path, clip_length=num, split=None)[0]


def gif_frames(path, mode):
    with Image.open(path) as film:
        frames = []
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.array(film.convert(mode)))
        return torch.from_numpy(np.stack(frames)), film.info["duration"]


@pytest.mark.parametrize("channels", [1, 3])
def test_matroska_keeps_every_level(tmp_path, clips, channels):
    clip = clips[0, :, :channels]
    save_film(clip, tmp_path / "a.mkv")
    assert torch.equal(read(tmp_path / "a.mkv", 6), clip)
    save_film(to_float(clip), tmp_path / "b.mkv", scale=2)
    larger = read(tmp_path / "b.mkv", 6)
    assert torch.equal(larger[..., ::2, 1::2], clip)


def test_mp4_is_close(tmp_path, clips):
    save_film(clips[1], tmp_path / "a.mp4", scale=4, frames_per_second=12.5)
    found = read(tmp_path / "a.mp4", 6)
    assert psnr(found[..., 1::4, 1::4], clips[1]).min() > 30
    save_film(clips[1, :, :1], tmp_path / "odd.mp4")
    assert read(tmp_path / "odd.mp4", 6).shape[2:] == (22, 22)  # sides have to be even

    import av

    with av.open(str(tmp_path / "a.mp4")) as film:
        assert film.streams.video[0].average_rate == 12.5


def test_gif(tmp_path, clips):
    save_film(clips[2, :, :1], tmp_path / "grey.gif", frames_per_second=20)
    frames, duration = gif_frames(tmp_path / "grey.gif", "L")
    assert torch.equal(frames, clips[2, :, 0])
    assert duration == 50
    save_film(clips[2], tmp_path / "colour.gif")
    frames, duration = gif_frames(tmp_path / "colour.gif", "RGB")
    assert psnr(frames.permute(0, 3, 1, 2), clips[2]).min() > 30
    assert duration == 120  # 1/8 s in whole hundredths


def test_clips_play_side_by_side(tmp_path, clips):
    save_film(clips, tmp_path / "a.mkv", columns=3)
    film = read(tmp_path / "a.mkv", 6)
    assert film.shape == (6, 3, 23, 67)
    for number, clip in enumerate(clips):
        assert torch.equal(film[..., 1:22, 22 * number + 1 : 22 * number + 22], clip)
    assert (film[..., 0, :] == 128).all()


def test_levels_that_are_none(tmp_path):
    frame = torch.tensor([-1.0, 0.2, float("nan"), 7.0]).view(1, 1, 1, 4)
    save_film(frame, tmp_path / "a.mkv")
    assert read(tmp_path / "a.mkv", 1).flatten().tolist() == [0, 51, 128, 255]


def test_frames_are_taken_one_by_one(tmp_path):
    pytest.importorskip("av")
    alive, most = set(), 0

    class Frame(torch.Tensor):
        def __del__(self):
            alive.discard(id(self))

    def frames():
        nonlocal most
        for index in range(50):
            frame = torch.full((1, 16, 16), index, dtype=torch.uint8).as_subclass(Frame)
            alive.add(id(frame))
            most = max(most, len(alive))
            yield frame

    save_film(frames(), tmp_path / "a.mkv")
    assert read(tmp_path / "a.mkv", 50)[:, 0, 0, 0].tolist() == list(range(50))
    assert most <= 3


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".mkv"])
def test_an_error_leaves_the_old_film(tmp_path, clips, suffix):
    def frames():
        yield from clips[0, :3]
        raise RuntimeError("the model failed")

    path = tmp_path / f"a{suffix}"
    save_film(clips[0], path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="the model failed"):
        save_film(frames(), path)
    with pytest.raises(ValueError, match=r"frame 1 has shape \(3, 21, 20\), the first \(3, 21, 21"):
        save_film([clips[0, 0], clips[0, 0, :, :, 1:]], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_bar_on_a_terminal(tmp_path, clips, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    save_film(clips[0], tmp_path / "film.mkv")
    assert "film.mkv" in capsys.readouterr().err
    save_film(clips[0], tmp_path / "film.mkv", show_progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("frames", "name", "options", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "a.avi", {}, r"a\.avi ends in none of \.gif \.mp4 \.mkv"),
        (torch.zeros(0, 3, 8, 8), "a.gif", {}, "no frame to write"),
        (torch.zeros(2, 2, 8, 8), "a.gif", {}, r"frame 0 has shape \(2, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "a.gif", {}, "frame 0 is torch.int64"),
        (torch.zeros(2, 3, 8, 8), "a.gif", {"scale": 0}, "scale = 0"),
        (torch.zeros(2, 3, 8, 8), "a.gif", {"frames_per_second": 0}, "frames_per_second = 0"),
    ],
)
def test_what_is_refused(tmp_path, frames, name, options, message):
    with pytest.raises(ValueError, match=f"save_film: .*{message}"):
        save_film(frames, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path, clips):
    with pytest.raises(OSError, match=r"cannot write .*a\.mp4"):
        save_film(clips[0], tmp_path / "none" / "a.mp4")


def test_contact_sheets_have_a_row_a_clip(tmp_path, clips):
    from gencore.train.figures import save_contact_sheet

    save_contact_sheet(clips, tmp_path / "sheet.png", min_side=1)
    sheet = torch.from_numpy(np.array(Image.open(tmp_path / "sheet.png"))).permute(2, 0, 1)
    assert sheet.shape == (3, 3 * 22 + 1, 6 * 22 + 1)
    for row, clip in enumerate(clips):
        for column, frame in enumerate(clip):
            assert torch.equal(sheet[:, 22 * row + 1 :, 22 * column + 1 :][:, :21, :21], frame)
    with pytest.raises(ValueError, match="save_contact_sheet: clips have shape"):
        save_contact_sheet(clips[0], tmp_path / "sheet.png")
