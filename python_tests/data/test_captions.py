"""Scenes with captions: what the pictures show is what captions, boxes and numbers say."""

import pytest
import torch

from gencore.data import CaptionedScenes, Vocabulary

COLOURS = {
    "red": (0.9, 0.15, 0.15), "green": (0.2, 0.75, 0.25), "blue": (0.2, 0.35, 0.95),
    "yellow": (0.95, 0.85, 0.2), "purple": (0.65, 0.25, 0.8), "white": (0.95, 0.95, 0.95),
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes():
    return CaptionedScenes(60, image_size=64, seed=3)


class TestScenes:
    def test_boxes_hold_the_colours_that_captions_name(self, scenes):
        """The pixels near an object's colour: all inside its box, and as far as the box's edges."""
        for index, pair in enumerate(scenes.objects):
            if pair[0].colour == pair[1].colour:
                continue
            for thing, box in zip(pair, scenes.boxes[index], strict=True):
                target = torch.tensor(COLOURS[thing.colour])[:, None, None]
                near = (scenes.images[index] / 255 - target).abs().amax(0) < 0.12
                rows, columns = near.nonzero().unbind(1)
                found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert (found / 64 - box).abs().max() < 3 / 64

    def test_the_shapes_cover_their_part_of_the_box(self, scenes):
        """π/4 of a disc's box, all of a square's, half of a triangle's."""
        parts = {"disc": torch.pi / 4, "square": 1.0, "triangle": 0.5}
        for index, pair in enumerate(scenes.objects):
            if pair[0].colour == pair[1].colour:
                continue
            for thing, box in zip(pair, scenes.boxes[index], strict=True):
                target = torch.tensor(COLOURS[thing.colour])[:, None, None]
                area = ((scenes.images[index] / 255 - target).abs().amax(0) < 0.3).sum() / 64**2
                share = area / (box[2:] - box[:2]).prod()
                assert abs(share - parts[thing.shape]) < 0.2

    def test_relations_are_those_of_the_centres(self, scenes):
        centres = (scenes.boxes[..., :2] + scenes.boxes[..., 2:]) / 2
        for index, (first, second) in enumerate(scenes.objects):
            right, down = (centres[index, 1] - centres[index, 0]).tolist()
            if abs(right) > abs(down):
                relations = ("left of", "right of")[:: 1 if right > 0 else -1]
            else:
                relations = ("above", "below")[:: 1 if down > 0 else -1]
            one, other = (f"a {thing.colour} {thing.shape}" for thing in (first, second))
            plain = {f"{one} {relations[0]} {other}", f"{other} {relations[1]} {one}"}
            assert set(scenes.references[index]) == plain | {f"there is {text}" for text in plain}

    def test_numbers_are_the_words(self, scenes):
        for index in (0, 7, 59):
            assert scenes.vocabulary.decode(scenes.captions[index]) == list(
                scenes.references[index]
            )
            for text, places in zip(
                scenes.references[index], scenes.objects_of_words[index].tolist(), strict=True
            ):
                words = text.split()
                named = [(words[i], place) for i, place in enumerate(places) if place >= 0]
                assert len(named) == 4
                for word, place in named:
                    assert word in scenes.objects[index][place]
        assert not (scenes.captions == Vocabulary.UNKNOWN).any()

    def test_any_caption_is_located(self, scenes):
        first, second = scenes.objects[0]
        text = f"no {second.colour} {second.shape} {first.shape} {first.colour} a"
        assert scenes.locate(0, text) == [-1, 1, 1, -1, -1, -1]
        assert scenes.locate(0, "") == []

    def test_objects_differ_and_do_not_touch(self, scenes):
        assert all(first != second for first, second in scenes.objects)
        assert ((scenes.boxes >= 0) & (scenes.boxes <= 1)).all()

    def test_a_scene_depends_on_seed_split_and_number_alone(self):
        few, many = CaptionedScenes(3, seed=1), CaptionedScenes(5, seed=1)
        assert torch.equal(few.images, many.images[:3])
        assert few.references == many.references[:3]
        for other in (CaptionedScenes(3, seed=2), CaptionedScenes(3, seed=1, split="test")):
            assert not (other.images == few.images).flatten(1).all(1).any()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_scenes": 0}, "num_scenes is 0"),
            ({"image_size": 8}, "image_size is 8"),
            ({"seed": -1}, "seed is -1"),
            ({"split": "all"}, "split is 'all'"),
        ],
    )
    def test_what_does_not_fit(self, options, message):
        with pytest.raises(ValueError, match=f"CaptionedScenes: .*{message}"):
            CaptionedScenes(**{"num_scenes": 2, **options})


class TestVocabulary:
    def test_words_are_sorted_by_how_often_they_occur(self):
        vocabulary = Vocabulary.of(["b c c", "a b c", "d"])
        assert vocabulary.words == ("<stop>", "<unknown>", "c", "b", "a", "d")
        assert Vocabulary.of(["b c c", "a b c"], min_count=2).words[2:] == ("c", "b")

    def test_there_and_back(self):
        vocabulary = Vocabulary(["x", "y"])
        texts = ["x y x", "", "y"]
        numbers = vocabulary.encode(texts)
        assert numbers.tolist() == [[2, 3, 2, 0], [0, 0, 0, 0], [3, 0, 0, 0]]
        assert vocabulary.decode(numbers) == texts
        assert vocabulary.decode(torch.tensor([[2, 0, 3], [3, 3, 2]])) == ["x", "y y x"]
        assert vocabulary.encode([]).shape == (0, 1)

    def test_what_does_not_fit(self):
        for words in (["a", "a"], ["a b"], [""], ["<stop>"]):
            with pytest.raises(ValueError, match="expected different words without spaces"):
                Vocabulary(words)
        with pytest.raises(ValueError, match="min_count is 0"):
            Vocabulary.of([], min_count=0)
        for numbers in (torch.tensor([[3]]), torch.tensor([[-1]]), torch.tensor([1])):
            with pytest.raises(ValueError, match="expected \\[N, T\\] numbers from 0 to 2"):
                Vocabulary(["a"]).decode(numbers)
