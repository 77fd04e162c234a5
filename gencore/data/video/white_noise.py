"""Clips of white noise: films in which nothing can be tracked."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencore.data.splits import Split
from gencore.data.video.film import Film
from gencore.data.video.made_clips import MadeClips, check_made_clips

__all__ = ["WhiteNoise"]


class NoiseFilm(Film):
    """Frames that are drawn when they are read, each from a stream of its own.

    Args:
        name: Of the film, for errors.
        key: Seed, part and number of the clip.
        num_frames: Number of frames.
        side: Pixels.
    """

    def __init__(self, name: Path, key: tuple[int, int, int], num_frames: int, side: int) -> None:
        super().__init__(name, num_frames, (3, side, side))
        self._key = key

    def _decode(self, indices: list[int]) -> Iterator[Tensor]:
        for time in indices:
            random = np.random.RandomState([*self._key, time])
            yield torch.from_numpy(random.randint(256, size=self.shape).astype(np.uint8))


class WhiteNoise(MadeClips):
    """Clips whose levels are independent and uniform, pixel by pixel and frame by frame, made on
    the fly: `load_video("white-noise", …)`.

    Clip i depends on seed, split, i and the arguments alone.

    Args:
        clip_length: Frames in a clip, T.
        num_clips: Number of clips; 10,000 for training and 1,000 for testing without it.
        image_size: Pixels of a side.
        channels: 3, or 1 for the luma, which is no longer uniform.
        frame_step: Frames that a clip's frame is after the one before.
        split: Clips of "train" and of "test" have nothing in common.
        seed: From 0 to 2³² − 1.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> WhiteNoise(clip_length=5, num_clips=3)
        WhiteNoise(white-noise: 3 clips of 5x3x32x32)
    """

    def __init__(
        self,
        *,
        clip_length: int,
        num_clips: int | None = None,
        image_size: int = 32,
        channels: int = 3,
        frame_step: int = 1,
        split: Split = "train",
        seed: int = 0,
    ) -> None:
        num_clips = check_made_clips(
            "WhiteNoise", clip_length, num_clips, image_size, channels, frame_step, split, seed
        )
        super().__init__(
            NoiseFilm,
            (image_size,),
            num_clips=num_clips,
            split=split,
            seed=seed,
            clip_length=clip_length,
            frame_step=frame_step,
            channels=channels,
            name="white-noise",
        )
