"""Clips of shapes that drift across one another, with the true motion of every pixel."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gencore.data.splits import Split
from gencore.data.video.film import Film
from gencore.data.video.made_clips import MadeClips, check_made_clips, clip_random
from gencore.sizes import check_whole

__all__ = ["MovingShapes", "Scene", "Shape", "TrueMotion"]

_NUM_WAVES = 3


class TrueMotion(NamedTuple):
    """Where the surface that a pixel shows goes until the clip's next frame."""

    flow: Tensor
    """Displacement in pixels, float32 [T, 2, H, W], to the right in channel 0 and down in channel
    1, at the pixels of the frame that it starts from."""

    moving: Tensor
    """Whether the pixel shows a shape that moves, bool [T, H, W]."""


class Paint(NamedTuple):
    """A mixture of two colours, A + (B − A)·(1 + w)/2, where w is the mean of a few plane waves.

    A wave is a function of the plane, which is exact at places between pixels.
    """

    colours: np.ndarray
    """A and B, [2, 3] in [0, 1]."""

    waves: np.ndarray
    """Wave numbers in radians a pixel, right and down, and the phase, [K, 3]; plain without any."""

    def at(self, right: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Colours at the crossings of rows and columns, [3, len(down), len(right)]."""
        pattern = np.full((len(down), len(right)), -1.0)
        if len(self.waves):
            across, along, phase = self.waves.T[..., None]
            # cos(a + b) as an outer product: a wave costs no cosine a pixel.
            pattern = np.exp(1j * (along * down + phase)).T @ np.exp(1j * across * right)
            pattern = pattern.real / len(self.waves)
        first, second = self.colours[..., None, None]
        return first + (second - first) * (0.5 + 0.5 * pattern)


class Shape(NamedTuple):
    """A disc or a convex polygon, and its path: centre + velocity · time."""

    centre: np.ndarray
    """At time 0, right and down, [2]."""

    velocity: np.ndarray
    """Pixels a frame, right and down, [2]."""

    radius: float
    """Of the disc, or of the circle in which the polygon's corners lie."""

    corners: np.ndarray
    """Angles of the corners, ascending, at most π apart; a disc without any."""

    paint: Paint

    def distance(self, right: np.ndarray, down: np.ndarray) -> np.ndarray:
        """How far outside of the shape places are, negative inside; places from its centre.

        Beyond the corners of a polygon it is less: it is the greatest of the distances from the
        lines that its edges lie on and from the circle.
        """
        if len(self.corners) == 0:
            return np.hypot(right, down[:, None]) - self.radius
        after = np.append(self.corners[1:], self.corners[0] + 2 * math.pi)
        middle, half = (after + self.corners) / 2, (after - self.corners) / 2
        normals = np.stack([np.cos(middle), np.sin(middle)])[..., None, None]
        beyond = normals[0] * right + normals[1] * down[:, None]
        beyond = np.max(beyond - self.radius * np.cos(half)[:, None, None], axis=0)
        return np.maximum(beyond, np.hypot(right, down[:, None]) - self.radius)


class Scene(NamedTuple):
    """What a clip shows."""

    background: Paint

    shapes: tuple[Shape, ...]
    """The last is in front."""

    def frame(self, time: float, side: int) -> np.ndarray:
        """The picture at a time, colours [3, side, side] in [0, 1].

        A shape covers a pixel by ½ minus its distance from the pixel's centre, cut to [0, 1]: the
        share of the pixel's area, if the edge is straight and along the grid.
        """
        places = np.arange(side, dtype=np.float64)
        picture = self.background.at(places, places)
        for shape in self.shapes:
            columns, rows, right, down = _around(shape, time, side)
            cover = np.clip(0.5 - shape.distance(right, down), 0, 1)
            part = picture[:, rows, columns]
            part += cover * (shape.paint.at(right, down) - part)
        return picture

    def motion(self, time: float, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Velocity [2, side, side] of what each pixel's centre shows, and whether it moves."""
        velocity: np.ndarray = np.zeros((2, side, side))
        for shape in self.shapes:
            columns, rows, right, down = _around(shape, time, side)
            inside = shape.distance(right, down) <= 0
            for axis in range(2):
                velocity[axis, rows, columns][inside] = shape.velocity[axis]
        return velocity, (velocity != 0).any(0)


def _around(shape: Shape, time: float, side: int) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Columns and rows of the pixels that a shape can touch, and their places from its centre."""
    cuts, places = [], []
    for centre in shape.centre + shape.velocity * time:
        low = min(max(math.floor(centre - shape.radius), 0), side)
        high = max(min(math.ceil(centre + shape.radius) + 1, side), low)
        cuts.append(slice(low, high))
        places.append(np.arange(low, high) - centre)
    return cuts[0], cuts[1], places[0], places[1]


class ShapesFilm(Film):
    """A clip as a film that is drawn when it is read; it keeps its numbers alone.

    Args:
        name: Of the film, for errors.
        key: What its random numbers start from.
        num_frames: Number of frames.
        side: Pixels.
        num_shapes: Number of shapes.
        speeds: Lowest and highest, in pixels a frame.
        textured: Whether shapes and background have patterns.
    """

    def __init__(
        self,
        name: Path,
        key: tuple[int, int, int],
        num_frames: int,
        side: int,
        num_shapes: int,
        speeds: tuple[float, float],
        textured: bool,
    ) -> None:
        super().__init__(name, num_frames, (3, side, side))
        self._key, self._num_shapes, self._speeds = key, num_shapes, speeds
        self._textured = textured

    def scene(self) -> Scene:
        """Draw what the film shows."""
        random, side = clip_random(*self._key), self.shape[1]

        def paint(colours: np.ndarray) -> Paint:
            length = 2 * math.pi / random.uniform(5, 15, _NUM_WAVES)
            angle, phase = random.uniform(0, 2 * math.pi, (2, _NUM_WAVES))
            waves = np.stack([length * np.cos(angle), length * np.sin(angle), phase], 1)
            return Paint(colours, waves if self._textured else waves[:0])

        dark = random.uniform(0.05, 0.3, 3)
        background = paint(np.stack([dark, dark + 0.2]))
        shapes = []
        for _ in range(self._num_shapes):
            bright = random.uniform(0.35, 1.0, 3)
            radius = side * random.uniform(0.12, 0.25)
            speed, direction = random.uniform(*self._speeds), random.uniform(0, 2 * math.pi)
            velocity = speed * np.array([math.cos(direction), math.sin(direction)])
            # Each shape is in the picture in the middle of the clip.
            centre = random.uniform(0, side - 1, 2) - velocity * (self.num_frames - 1) / 2
            corners = _draw_corners(random)
            surface = paint(np.stack([bright, 0.4 * bright]))
            shapes.append(Shape(centre, velocity, radius, corners, surface))
        return Scene(background, tuple(shapes))

    def motion(self, frames: range) -> TrueMotion:
        """The motion from each of some frames to the one that is frames.step later."""
        scene, side = self.scene(), self.shape[1]
        velocities, moving = zip(*(scene.motion(time, side) for time in frames), strict=True)
        flow = torch.from_numpy(frames.step * np.stack(velocities)).float()
        return TrueMotion(flow, torch.from_numpy(np.stack(moving)))

    def _decode(self, indices: list[int]) -> Iterator[Tensor]:
        scene = self.scene()
        for time in indices:
            levels = np.rint(255 * scene.frame(time, self.shape[1]))
            yield torch.from_numpy(levels.astype(np.uint8))


def _draw_corners(random: np.random.RandomState) -> np.ndarray:
    """A disc, a rectangle, or a polygon of three to six corners, one as likely as the other."""
    kind, num, turn = random.randint(3), random.randint(3, 7), random.uniform(0, 2 * math.pi)
    half, jitter = random.uniform(0.5, 1.1), random.uniform(-0.25, 0.25, 6)
    if kind == 0:
        return np.zeros(0)
    if kind == 1:
        return turn + np.array([-half, half, math.pi - half, math.pi + half])
    return turn + (np.arange(num) + jitter[:num]) * (2 * math.pi / num)


class MovingShapes(MadeClips):
    """Clips of discs, rectangles and polygons that each move at a constant velocity, made on the
    fly: `load_video("moving-shapes", …)`.

    Velocities are not of whole pixels; edges are anti-aliased, and patterns are sums of waves that
    are exact between pixels. A shape hides what is behind it. Clip i depends on seed, split, i and
    the arguments alone, so that workers, ranks and resumed runs see the same.

    Args:
        clip_length: Frames in a clip, T.
        num_clips: Number of clips; 10,000 for training and 1,000 for testing without it.
        image_size: Pixels of a side.
        channels: 3, or 1 for the luma.
        frame_step: Frames that a clip's frame is after the one before: 2 doubles the velocities.
        num_shapes: Shapes in a clip.
        min_speed: Pixels a frame.
        max_speed: Pixels a frame. Speeds are uniform between the two, directions all around.
        textured: Whether shapes and background have patterns, or one colour each.
        split: Clips of "train" and of "test" have nothing in common.
        seed: From 0 to 2³² − 1.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> clips = MovingShapes(clip_length=5, image_size=24, num_clips=10, seed=1)
        >>> clips
        MovingShapes(moving-shapes: 10 clips of 5x3x24x24)
        >>> flow, moving = clips.motion(7)
        >>> flow.shape, moving.shape
        (torch.Size([5, 2, 24, 24]), torch.Size([5, 24, 24]))
    """

    def __init__(
        self,
        *,
        clip_length: int,
        num_clips: int | None = None,
        image_size: int = 32,
        channels: int = 3,
        frame_step: int = 1,
        num_shapes: int = 3,
        min_speed: float = 0.5,
        max_speed: float = 2.0,
        textured: bool = True,
        split: Split = "train",
        seed: int = 0,
    ) -> None:
        num_clips = check_made_clips(
            "MovingShapes", clip_length, num_clips, image_size, channels, frame_step, split, seed
        )
        check_whole("MovingShapes", num_shapes=num_shapes)
        if num_shapes < 0 or not 0 <= min_speed <= max_speed < math.inf:
            raise ValueError(
                f"MovingShapes: num_shapes = {num_shapes}, min_speed = {min_speed}, max_speed = "
                f"{max_speed}, expected num_shapes >= 0 and 0 <= min_speed <= max_speed"
            )
        super().__init__(
            ShapesFilm,
            (image_size, num_shapes, (min_speed, max_speed), textured),
            num_clips=num_clips,
            split=split,
            seed=seed,
            clip_length=clip_length,
            frame_step=frame_step,
            channels=channels,
            name="moving-shapes",
        )

    def motion(self, index: int) -> TrueMotion:
        """The true motion in clip `index`, from each of its frames to the next.

        Raises:
            IndexError: there is no such clip.
        """
        film, frames = self.place(index)
        source = self.films[film]
        assert isinstance(source, ShapesFilm)
        return source.motion(frames)
