"""A film in a file, decoded by PyAV: any frame is the one that decoding from the start gives."""

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gencore.data.video.film import Film
from gencore.extras import data_extra

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

__all__ = ["FilmFile"]

# Formats that store the time of every frame and tell which are keyframes. Of the others libav
# guesses times, and after a seek otherwise than before.
_INDEXED = {"avi", "flv", "matroska", "mov"}

# Their files have packets that decode to no frame of their own.
_HIDDEN_FRAMES = ("vp8",)

# Closing a file that was open when the process was forked would wait for ever for its threads,
# which have not been forked.
_INHERITED: list[Any] = []


class FilmFile(Film):
    """The first video track of a file.

    The file's packets are listed once, without decoding them. A frame is then found by decoding on
    from where the last reading ended, or from the keyframe before it, whichever is nearer. Frames
    are turned as the file says (a telephone held upright), and have 1 channel if the file is grey,
    else 3. Formats without time stamps are decoded from the start instead, in the list as well.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: av is not installed.
        ValueError: the file is no film, has no frames, is damaged or cut short, or its frame rate
            varies; each also when it is read.
    """

    def __init__(self, path: Path) -> None:
        self._times: list[int] | None = None
        """Time stamp of each frame, ascending, or None where the file has none."""
        self._keys: list[int] = [0]
        """Numbers of the frames to which one can seek, ascending."""
        self._decoder: _Decoder | None = None
        num_frames = self._list_frames(path)
        with _errors_of(path), _opened(path) as (container, stream):
            first = next(iter(container.decode(stream)), None)
            if first is None:
                raise ValueError(f"{path} holds no frame that can be decoded")
            shape = _pixels(first).shape
        super().__init__(path, num_frames, (shape[0], shape[1], shape[2]))

    def close(self) -> None:
        super().close()
        self._decoder = None

    def __getstate__(self) -> dict[str, Any]:
        # An open file belongs to one process.
        return {**self.__dict__, "_decoder": None, "_recent": {}}

    def _list_frames(self, path: Path) -> int:
        """Find the time stamps and keyframes; return the number of frames."""
        with _errors_of(path), _opened(path) as (container, stream):
            times, keys, num_packets = [], [], 0
            for packet in container.demux(stream):
                if packet.size == 0:  # the end
                    continue
                if packet.is_corrupt:
                    raise ValueError(f"{path}: damaged: a packet of the film is corrupt")
                num_packets += 1
                if not packet.is_discard:
                    times.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
            _check_whole(path, stream, num_packets, times)
            base, codec = stream.time_base, stream.codec_context.name
            formats = set(container.format.name.split(","))
            # AVI has the order of decoding alone, which is that of time without B frames.
            can_seek = bool(formats & _INDEXED) and not (
                "avi" in formats and stream.codec_context.has_b_frames
            )
        if None in times or len(set(times)) < len(times) or codec in _HIDDEN_FRAMES:
            with _errors_of(path), _opened(path) as (container, stream):
                frames = [(frame.pts, frame.key_frame) for frame in container.decode(stream)]
            times = [time for time, _ in frames]
            keys = [time for time, is_key in frames if is_key]
        if not times:
            raise ValueError(f"{path} holds no frame that can be decoded")
        known = sorted({time for time in times if time is not None})
        if len(known) < len(times):
            return len(times)
        # A recording that starts between keyframes shows nothing before the first.
        known_keys = sorted(key for key in keys if key is not None)
        start = known_keys[0] if known_keys else known[0]
        self._times = [time for time in known if time >= start]
        if can_seek and known_keys:
            self._keys = [bisect_right(self._times, key) - 1 for key in known_keys]
        _check_rate(path, self._times, base)
        return len(self._times)

    def _decode(self, indices: list[int]) -> Iterator[Tensor]:
        first = indices[0]
        key = self._keys[bisect_right(self._keys, first) - 1]
        with _errors_of(self.path):
            decoder = self._decoder
            if decoder is None or not decoder.is_ours or not key <= decoder.position <= first:
                decoder = _Decoder(self.path, self._times)
                # The first decoder of a film starts at its beginning in any case.
                if key > 0 and not decoder.seek(key, first):
                    decoder = _Decoder(self.path, self._times)
            self._decoder = None  # after an error it does not go on
            for index in indices:
                pixels = _pixels(decoder.frame(index))
                if pixels.shape != self.shape:
                    raise ValueError(
                        f"{self.path}: frame {index} has shape {pixels.shape}, but the first has "
                        f"{self.shape} ([C, H, W])"
                    )
                yield torch.from_numpy(pixels)
            self._decoder = decoder


class _Decoder:
    """An open file and the number of the frame that it gives next."""

    def __init__(self, path: Path, times: list[int] | None) -> None:
        self._path, self._times, self._owner = path, times, os.getpid()
        self._container, self._stream = _open(path)
        self._frames = self._container.decode(self._stream)
        self._ahead: tuple[int, VideoFrame] | None = None
        self._count = 0
        self.position = 0

    @property
    def is_ours(self) -> bool:
        """Whether this process has opened the file, and not the one that it was forked from."""
        return self._owner == os.getpid()

    def __del__(self) -> None:
        if self.is_ours:
            if hasattr(self, "_container"):  # it may not have opened
                self._container.close()  # its objects refer to each other, and would wait for gc
        else:
            _INHERITED.append((self._container, self._stream, self._frames, self._ahead))

    def seek(self, key: int, wanted: int) -> bool:
        """Go to a keyframe, or one before it; tell whether the frame `wanted` still lies ahead."""
        assert self._times is not None
        self._container.seek(self._times[key], stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)
        for frame in self._frames:
            # What precedes the first keyframe may refer to frames that have not been decoded.
            if frame.key_frame:
                self._ahead = self._number(frame), frame
                self.position = self._ahead[0]
                return self.position <= wanted
        return False

    def frame(self, index: int) -> "VideoFrame":
        """Decode on to a frame."""
        while True:
            number, frame = self._ahead or self._next(index)
            self._ahead = None
            self.position = max(self.position, number + 1)
            if number == index:
                if frame.is_corrupt:
                    raise ValueError(f"{self._path}: damaged: frame {index} is corrupt")
                return frame
            if number > index:
                raise ValueError(f"{self._path}: damaged: frame {index} cannot be decoded")

    def _next(self, index: int) -> "tuple[int, VideoFrame]":
        frame = next(self._frames, None)
        if frame is None:
            raise ValueError(f"{self._path}: cut short: it ends before frame {index}")
        return self._number(frame), frame

    def _number(self, frame: "VideoFrame") -> int:
        if self._times is None:
            self._count += 1
            return self._count - 1
        if frame.pts is None or frame.pts < self._times[0]:
            return -1
        number = bisect_right(self._times, frame.pts) - 1
        if self._times[number] != frame.pts:
            raise ValueError(f"{self._path}: damaged: a frame has a time that no packet has")
        return number


def _open(path: Path) -> "tuple[InputContainer, VideoStream]":
    if not path.exists():
        raise FileNotFoundError(f"load_video: {path} does not exist")
    with data_extra("load_video"):
        import av
        from av.stream import Disposition

    # A playlist may name addresses: only files are opened.
    options = {"protocol_whitelist": "file"}
    container = av.open(str(path.absolute()), options=options, metadata_errors="replace")
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic  # a cover
    ]
    if not streams:
        container.close()
        raise ValueError(f"{path} holds no film: it has no video track")
    streams[0].thread_type = "AUTO"
    return container, streams[0]


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[InputContainer, VideoStream]]":
    container, stream = _open(path)
    with container:
        yield container, stream


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Errors of PyAV in this block name the file."""
    with data_extra("load_video"):
        from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        size = path.stat().st_size
        reason = error.strerror or error
        raise ValueError(f"{path}: cannot read a film from {size} bytes: {reason}") from error


def _pixels(frame: "VideoFrame") -> np.ndarray:
    """uint8 [C, H, W], turned as the file says."""
    if frame.format.name.startswith(("gray", "mono")):
        pixels = frame.to_ndarray(format="gray")[None]
    else:
        pixels = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)
    if frame.rotation % 90 == 0:
        pixels = np.rot90(pixels, frame.rotation // 90, axes=(1, 2))
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _check_whole(path: Path, stream: "VideoStream", num_packets: int, times: list[Any]) -> None:
    """Compare what is there with what the header says."""
    if stream.frames > num_packets:
        raise ValueError(
            f"{path}: cut short: its header says {stream.frames} frames, found {num_packets}"
        )
    # Matroska and WebM count nothing, but know the end of a track.
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    known = sorted(time for time in times if time is not None)
    if not seconds or len(known) < 2 or stream.time_base is None:
        return
    length = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    gap = (known[-1] - known[0]) / (len(known) - 1)
    end = float((known[-1] + gap) * stream.time_base)
    if end < length - 1.5 * float(gap * stream.time_base):
        raise ValueError(
            f"{path}: cut short: its header says {length:.3f} s, the frames end at {end:.3f} s"
        )


def _check_rate(path: Path, times: list[int], base: Fraction | None) -> None:
    """Refuse frames that do not lie equally far apart, but for the rounding of time stamps."""
    gaps = np.diff(times)
    if len(gaps) == 0:
        return
    usual = float(np.median(gaps))
    if np.abs(gaps - usual).max() > max(usual / 2, 1):
        unit = 1000 * float(base or 1)
        raise ValueError(
            f"{path}: its frame rate varies or frames are lost: they lie {gaps.min() * unit:.3g} "
            f"to {gaps.max() * unit:.3g} ms apart, and clips need one rate "
            "(ffmpeg -i IN -fps_mode cfr OUT)"
        )
