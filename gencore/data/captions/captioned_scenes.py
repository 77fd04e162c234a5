"""Pictures of two shapes, with captions that a small grammar makes and the shapes' boxes."""

import math
from typing import ClassVar, NamedTuple, get_args

import numpy as np
import torch

from gencore.choices import check_choice
from gencore.data.captions.vocabulary import Vocabulary
from gencore.data.splits import Split
from gencore.data.video.made_clips import clip_random
from gencore.data.video.moving_shapes import Paint, Scene, Shape
from gencore.sizes import check_positive, check_whole

__all__ = ["CaptionedScenes", "SceneObject"]

_COLOURS = {
    "red": (0.9, 0.15, 0.15), "green": (0.2, 0.75, 0.25), "blue": (0.2, 0.35, 0.95),
    "yellow": (0.95, 0.85, 0.2), "purple": (0.65, 0.25, 0.8), "white": (0.95, 0.95, 0.95),
}  # fmt: skip
# Angles of the corners, to the right of the centre at 0 and below it at π/2.
_SHAPES = {
    "disc": np.zeros(0),
    "square": np.pi / 4 + np.pi / 2 * np.arange(4),
    "triangle": -np.pi / 2 + 2 * np.pi / 3 * np.arange(3),
}
_OPPOSITE = {
    "left of": "right of", "right of": "left of", "above": "below", "below": "above",
}  # fmt: skip
_OPENINGS = ("", "there is ")


class SceneObject(NamedTuple):
    """What a scene shows in one of its boxes."""

    colour: str
    shape: str


class CaptionedScenes:
    """Scenes of two shapes before a dark background, made on the fly, each with four captions:

        CAPTION  = ["there is"] OBJECT RELATION OBJECT
        OBJECT   = "a" COLOUR SHAPE
        RELATION = "left of" | "right of" | "above" | "below"

    Six colours, three shapes; the relation is that of the direction in which the centres are
    farther apart. The four captions of a scene are those that are true of it: either object comes
    first, with or without "there is". The objects of a scene differ in colour or shape, so that a
    colour with a shape says which one is meant. They stand in for captioned photographs, which no
    package brings.

    Scene i depends on seed, split, i and the image size alone.

    Args:
        num_scenes: N.
        image_size: pixels of a side, S.
        split: scenes of "train" and of "test" have nothing in common.
        seed: from 0 to 2³² − 1.

    Attributes:
        images: uint8 [N, 3, S, S].
        boxes: of the two objects, float32 [N, 2, 4]: left, top, right and bottom edge as parts of
            the image's sides.
        objects: what they are.
        references: the captions of each scene.
        captions: the same as numbers, int64 [N, 4, T].
        objects_of_words: which object a word of them names, its colour or its shape, int64
            [N, 4, T]; −1 for all other words.
        vocabulary: of the grammar, the same for all scenes.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> scenes = CaptionedScenes(20, seed=1)
        >>> scenes.images.shape, scenes.boxes.shape, scenes.captions.shape
        (torch.Size([20, 3, 32, 32]), torch.Size([20, 2, 4]), torch.Size([20, 4, 11]))
        >>> scenes.references[0][1]
        'there is a yellow triangle below a red triangle'
        >>> scenes.objects_of_words[0, 0]
        tensor([-1,  0,  0, -1, -1,  1,  1, -1, -1, -1, -1])
    """

    vocabulary: ClassVar[Vocabulary] = Vocabulary(
        ["a", *_COLOURS, *_SHAPES, "above", "below", "left", "right", "of", "there", "is"]
    )

    def __init__(
        self, num_scenes: int, *, image_size: int = 32, split: Split = "train", seed: int = 0
    ) -> None:
        check_choice("CaptionedScenes", "split", split, get_args(Split))
        check_positive("CaptionedScenes", num_scenes=num_scenes)
        check_whole("CaptionedScenes", image_size=image_size, seed=seed)
        if image_size < 16 or not 0 <= seed < 2**32:
            raise ValueError(
                f"CaptionedScenes: image_size is {image_size} and seed is {seed}; expected at "
                "least 16, and 0 to 2**32 - 1"
            )
        part = get_args(Split).index(split)
        images, boxes, objects, relations = zip(
            *(_draw(clip_random(seed, part, index), image_size) for index in range(num_scenes)),
            strict=True,
        )
        self.images = torch.from_numpy(np.stack(images))
        self.boxes = torch.from_numpy(np.stack(boxes)).float()
        self.objects: tuple[tuple[SceneObject, SceneObject], ...] = objects
        self.references = tuple(
            _captions(pair[0], pair[1], relation)
            for pair, relation in zip(objects, relations, strict=True)
        )
        flat = [caption for four in self.references for caption in four]
        self.captions = self.vocabulary.encode(flat).unflatten(0, (num_scenes, -1))
        places = [
            self.locate(index, caption)
            for index, four in enumerate(self.references)
            for caption in four
        ]
        length = self.captions.shape[2]
        padded = [place + [-1] * (length - len(place)) for place in places]
        self.objects_of_words = torch.tensor(padded).view_as(self.captions)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        channels, height, width = self.images.shape[1:]
        return f"CaptionedScenes({len(self)} scenes of {channels}x{height}x{width})"

    def locate(self, index: int, caption: str) -> list[int]:
        """For each word of any caption, which object of scene `index` it names: a colour and the
        shape after it do if the scene has an object of both; −1 for all other words."""
        words = caption.split()
        places = [-1] * len(words)
        for start in range(len(words) - 1):
            named = SceneObject(*words[start : start + 2])
            if named in self.objects[index]:
                places[start : start + 2] = [self.objects[index].index(named)] * 2
        return places


def _draw(
    random: np.random.RandomState, side: int
) -> tuple[np.ndarray, np.ndarray, tuple[SceneObject, SceneObject], str]:
    """Picture, boxes, objects, and the first object's relation to the second."""
    pairs = [SceneObject(colour, shape) for colour in _COLOURS for shape in _SHAPES]
    first, second = random.choice(len(pairs), 2, replace=False)
    objects = pairs[first], pairs[second]
    radii, centres, relation = _place(random)
    boxes, shapes = [], []
    for (colour, kind), radius, centre in zip(objects, radii, centres, strict=True):
        corners = _SHAPES[kind]
        # A pixel's place is its centre, half a pixel from the edges of its square.
        middle = side * centre - 0.5
        paint = np.clip(_COLOURS[colour] + random.uniform(-0.05, 0.05, 3), 0, 1)
        plain = Paint(np.stack([paint, paint]), np.zeros((0, 3)))
        shapes.append(Shape(middle, np.zeros(2), side * radius, corners, plain))
        reach = np.array([[-1, -1], [1, 1]])
        if len(corners):
            points = np.stack([np.cos(corners), np.sin(corners)], 1)
            reach = np.stack([points.min(0), points.max(0)])
        boxes.append((centre + radius * reach).ravel())
    dark = random.uniform(0.05, 0.2, 3)
    angle = random.uniform(0, 2 * math.pi)
    wave = 2 * math.pi / side * np.array([[math.cos(angle), math.sin(angle), 0]])
    background = Paint(np.stack([dark, dark + 0.1]), wave)
    picture = Scene(background, tuple(shapes)).frame(0, side)
    levels = np.rint(255 * picture + random.uniform(-8, 8, picture.shape)).clip(0, 255)
    return levels.astype(np.uint8), np.stack(boxes), objects, relation


def _place(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, str]:
    """Radii [2] and centres [2, 2] of objects that do not touch and whose relation is clear, as
    parts of the image's sides."""
    while True:
        radii = random.uniform(0.11, 0.19, 2)
        centres = radii[:, None] + (1 - 2 * radii[:, None]) * random.uniform(0, 1, (2, 2))
        right, down = centres[1] - centres[0]
        near, far = sorted((abs(right), abs(down)))
        if math.hypot(right, down) < radii.sum() or far < 1.5 * near:
            continue
        if abs(right) > abs(down):
            return radii, centres, "left of" if right > 0 else "right of"
        return radii, centres, "above" if down > 0 else "below"


def _captions(first: SceneObject, second: SceneObject, relation: str) -> tuple[str, ...]:
    one, other = (f"a {colour} {shape}" for colour, shape in (first, second))
    return tuple(
        opening + sentence
        for sentence in (f"{one} {relation} {other}", f"{other} {_OPPOSITE[relation]} {one}")
        for opening in _OPENINGS
    )
