"""Clips of textures that drift as a whole: films in which everything can be tracked."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gencore.data.splits import Split
from gencore.data.video.film import Film
from gencore.data.video.made_clips import MadeClips, check_made_clips, clip_random
from gencore.data.video.moving_shapes import Paint

__all__ = ["DriftingTextures"]

_NUM_WAVES = 6


class TextureFilm(Film):
    """A clip as a film that is drawn when it is read; it keeps its numbers alone.

    Args:
        name: Of the film, for errors.
        key: What its random numbers start from.
        num_frames: Number of frames.
        side: Pixels.
        velocity: Right and down, in pixels a frame, or None for one of `speed` in a direction that
            is drawn.
        speed: Pixels a frame.
    """

    def __init__(
        self,
        name: Path,
        key: tuple[int, int, int],
        num_frames: int,
        side: int,
        velocity: tuple[float, float] | None,
        speed: float,
    ) -> None:
        super().__init__(name, num_frames, (3, side, side))
        self._key, self._velocity, self._speed = key, velocity, speed

    def scene(self) -> tuple[Paint, tuple[float, float]]:
        """The texture and its velocity, right and down."""
        random = clip_random(*self._key)
        length = 2 * math.pi / random.uniform(6, 16, _NUM_WAVES)
        angle, phase = random.uniform(0, 2 * math.pi, (2, _NUM_WAVES))
        waves = np.stack([length * np.cos(angle), length * np.sin(angle), phase], 1)
        dark, bright = random.uniform(0.0, 0.3, 3), random.uniform(0.7, 1.0, 3)
        direction = random.uniform(0, 2 * math.pi)
        drawn = (self._speed * math.cos(direction), self._speed * math.sin(direction))
        return Paint(np.stack([dark, bright]), waves), self._velocity or drawn

    def _decode(self, indices: list[int]) -> Iterator[Tensor]:
        paint, (right, down) = self.scene()
        places = np.arange(self.shape[1], dtype=np.float64)
        for time in indices:
            picture = paint.at(places - right * time, places - down * time)
            yield torch.from_numpy(np.rint(255 * picture).astype(np.uint8))


class DriftingTextures(MadeClips):
    """Clips of textures that each move as a whole at a constant velocity, made on the fly:
    `load_video("drifting-textures", …)`.

    A texture is a sum of plane waves, 6 to 16 pixels long, between two colours. It is exact between
    pixels, so that

        I_{t+1}(p) = I_t(p − velocity)

    up to the rounding of levels, and a displacement −velocity at every pixel is the motion in the
    sign of `gencore.ops.warp`. Clip i depends on seed, split, i and the arguments alone.

    Args:
        clip_length: Frames in a clip, T.
        num_clips: Number of clips; 10,000 for training and 1,000 for testing without it.
        image_size: Pixels of a side.
        channels: 3, or 1 for the luma.
        frame_step: Frames that a clip's frame is after the one before: 2 doubles the velocities.
        velocity: Of all clips, right and down, in pixels a frame; without it each clip has its own.
        speed: Pixels a frame, in directions all around, where no velocity is given.
        split: Clips of "train" and of "test" have nothing in common.
        seed: From 0 to 2³² − 1.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> clips = DriftingTextures(clip_length=5, num_clips=3, velocity=(2.0, 0.0))
        >>> clips
        DriftingTextures(drifting-textures: 3 clips of 5x3x32x32)
        >>> clip = clips[0]
        >>> torch.equal(clip[1, ..., 2:], clip[0, ..., :-2]), clips.velocity(0)
        (True, (2.0, 0.0))
    """

    def __init__(
        self,
        *,
        clip_length: int,
        num_clips: int | None = None,
        image_size: int = 32,
        channels: int = 3,
        frame_step: int = 1,
        velocity: tuple[float, float] | None = None,
        speed: float = 1.0,
        split: Split = "train",
        seed: int = 0,
    ) -> None:
        owner = "DriftingTextures"
        num_clips = check_made_clips(
            owner, clip_length, num_clips, image_size, channels, frame_step, split, seed
        )
        given = (0.0, 0.0) if velocity is None else tuple(velocity)
        if len(given) != 2 or not all(map(math.isfinite, given)) or not 0 <= speed < math.inf:
            raise ValueError(
                f"{owner}: velocity = {velocity} and speed = {speed}, expected two finite numbers "
                "or None, and at least 0"
            )
        super().__init__(
            TextureFilm,
            (image_size, velocity, speed),
            num_clips=num_clips,
            split=split,
            seed=seed,
            clip_length=clip_length,
            frame_step=frame_step,
            channels=channels,
            name="drifting-textures",
        )

    def velocity(self, index: int) -> tuple[float, float]:
        """Pixels that clip `index` moves from one of its frames to the next, right and down.

        Raises:
            IndexError: there is no such clip.
        """
        film, frames = self.place(index)
        source = self.films[film]
        assert isinstance(source, TextureFilm)
        right, down = source.scene()[1]
        return frames.step * right, frames.step * down
