"""What data sets of clips that are made on the fly have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from gencore.choices import check_choice
from gencore.data.splits import Split
from gencore.data.video.film import Film
from gencore.data.video.video_dataset import VideoDataset
from gencore.sizes import check_whole

__all__ = ["MadeClips", "check_made_clips", "clip_random"]

_NUM_CLIPS = {"train": 10_000, "test": 1_000}


class MadeClips(VideoDataset):
    """Films of one clip each, made of random numbers of their own.

    Args:
        film: Makes a film of its name, the numbers that `clip_random` takes, the number of frames,
            and what `arguments` has besides.
        arguments: The same for all films.
        num_clips: How many.
        split, seed: What else their numbers depend on.
        clip_length, frame_step, channels, name: As of `VideoDataset`.
    """

    def __init__(
        self,
        film: Callable[..., Film],
        arguments: tuple[Any, ...],
        *,
        num_clips: int,
        split: Split,
        seed: int,
        clip_length: int,
        frame_step: int,
        channels: int,
        name: str,
    ) -> None:
        num_frames = (clip_length - 1) * frame_step + 1
        part = get_args(Split).index(split)
        films = [
            film(Path(name, split, str(index)), (seed, part, index), num_frames, *arguments)
            for index in range(num_clips)
        ]
        super().__init__(
            films,
            [range(num_frames)] * num_clips,
            clip_length=clip_length,
            stride=num_frames,
            frame_step=frame_step,
            channels=channels,
            name=name,
        )

    def __repr__(self) -> str:
        shape = "x".join(str(side) for side in self.shape)
        return f"{type(self).__name__}({self.name}: {len(self)} clips of {shape})"


def check_made_clips(
    owner: str,
    clip_length: int,
    num_clips: int | None,
    image_size: int,
    channels: int,
    frame_step: int,
    split: Split,
    seed: int,
) -> int:
    """Check the arguments of a data set; return the number of clips.

    Raises:
        TypeError: one that counts is no whole number.
        ValueError: one is out of range.
    """
    check_choice(owner, "split", split, get_args(Split))
    check_whole(
        owner,
        clip_length=clip_length,
        num_clips=num_clips,
        image_size=image_size,
        channels=channels,
        frame_step=frame_step,
        seed=seed,
    )
    num_clips = _NUM_CLIPS[split] if num_clips is None else num_clips
    for name, value, least in (
        ("clip_length", clip_length, 1),
        ("num_clips", num_clips, 1),
        ("image_size", image_size, 8),
        ("frame_step", frame_step, 1),
    ):
        if value < least:
            raise ValueError(f"{owner}: {name} = {value}, expected at least {least}")
    if channels not in (1, 3):
        raise ValueError(f"{owner}: channels = {channels}, expected 1 or 3")
    if not 0 <= seed < 2**32:
        raise ValueError(f"{owner}: seed = {seed}, expected 0 to 2**32 - 1")
    return num_clips


def clip_random(seed: int, part: int, index: int) -> np.random.RandomState:
    """The random numbers of one clip.

    Example:
        >>> clip_random(0, 1, 5).uniform() == clip_random(0, 1, 5).uniform()
        True
    """
    # The stream of RandomState is frozen by NumPy's compatibility policy; torch's is not.
    return np.random.RandomState([seed, part, index])
