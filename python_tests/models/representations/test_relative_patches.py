"""Pairs of patches of images whose pixels tell where they are, and what can be learnt of them."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from gencore.data import load_images
from gencore.models import RelativePatches, draw_patch_pairs, patch_encoder, project_colours
from gencore.models.representations.patch_pairs import POSITIONS

SIZE = {"patch_size": 8, "gap": 3, "jitter": 1}


def coordinates(num, height=40, width=50):
    """Images whose first channel is the row of a pixel and whose second one is its column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, rows], 0).expand(num, -1, -1, -1).to(torch.uint8)


def levels(patches):
    return ((patches + 1) * 127.5).round().long()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestPairs:
    @pytest.mark.parametrize(("gap", "jitter"), [(0, 0), (5, 0), (4, 2)])
    def test_positions_gaps_and_jitter(self, gap, jitter):
        num, size = 4000, 8
        pairs = draw_patch_pairs(
            coordinates(num), patch_size=size, gap=gap, jitter=jitter, generator=generator()
        )
        first, second = levels(pairs.first), levels(pairs.second)
        steps = torch.arange(size)
        for patch in (first, second):  # a patch is a square of neighbours
            corner = patch[:, :2, :1, :1]
            assert torch.equal(patch[:, 0], (corner[:, 0] + steps[:, None]).expand(num, 8, 8))
            assert torch.equal(patch[:, 1], (corner[:, 1] + steps).expand(num, 8, 8))
        expected = torch.tensor(POSITIONS)[pairs.position] * (size + gap)
        moved = (second - first)[:, :2, 0, 0] - expected
        assert (moved.abs() <= 2 * jitter).all()
        for axis in (0, 1):  # both patches move: every difference occurs, up to twice the jitter
            assert set(moved[:, axis].tolist()) == set(range(-2 * jitter, 2 * jitter + 1))

    def test_patches_are_everywhere_in_the_image(self):
        """The first and the last row and column too, and no position more often than another."""
        pairs = draw_patch_pairs(coordinates(8000), **SIZE, generator=generator())
        seen = torch.cat([levels(pairs.first), levels(pairs.second)])
        assert (seen[:, 0].min(), seen[:, 0].max()) == (0, 39)
        assert (seen[:, 1].min(), seen[:, 1].max()) == (0, 49)
        counts = pairs.position.bincount(minlength=8)
        deviation = math.sqrt(8000 / 8 * 7 / 8)
        assert ((counts - 1000).abs() < 4 * deviation).all()

    def test_the_smallest_image_has_a_pair_at_each_position(self):
        images = coordinates(200, 2 * 8 + 3 + 2, 2 * 8 + 3 + 2)
        pairs = draw_patch_pairs(images, **SIZE, generator=generator())
        assert pairs.position.unique().tolist() == list(range(8))

    def test_a_part_of_a_batch_is_a_part_of_its_draws(self):
        images, key = torch.rand(6, 3, 40, 40), torch.tensor([5, 7])
        for colour in ("keep", "drop"):
            whole = draw_patch_pairs(images, **SIZE, colour=colour, key=key)
            part = draw_patch_pairs(images[4:], **SIZE, colour=colour, key=key, first=4)
            for a, b in zip(part, whole, strict=True):
                assert torch.equal(a, b[4:])

    def test_projected_colours_have_nothing_from_magenta_to_green(self):
        x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
        found = project_colours(x)
        torch.testing.assert_close(2 * found[:, 1], found[:, 0] + found[:, 2])
        # Grey stays, as does the difference of red and blue; twice is once.
        torch.testing.assert_close(found.sum(1), x.sum(1))
        torch.testing.assert_close(found[:, 0] - found[:, 2], x[:, 0] - x[:, 2])
        torch.testing.assert_close(project_colours(found), found)
        images = torch.rand(5, 3, 40, 40)
        kept, projected = (
            draw_patch_pairs(images, **SIZE, colour=colour, key=torch.tensor([1, 1]))
            for colour in ("keep", "project")
        )
        torch.testing.assert_close(projected.second, project_colours(kept.second))

    def test_dropped_colours_are_noise_a_hundredth_as_large(self):
        images, key = torch.rand(400, 3, 40, 40), torch.tensor([1, 1])
        kept, dropped = (
            draw_patch_pairs(images, **SIZE, colour=colour, key=key) for colour in ("keep", "drop")
        )
        choices = []
        for a, b in zip(kept[:2], dropped[:2], strict=True):
            same = (a == b).flatten(2).all(2)
            assert (same.sum(1) == 1).all()
            noise = b[~same]
            std = a[same].flatten(1).std(1, correction=0).repeat_interleave(2)
            ratio = noise.flatten(1) / std[:, None]
            # Over 800 · 64 numbers.
            assert ratio.std().item() == pytest.approx(0.01, rel=0.02)
            assert abs(ratio.mean().item()) < 4 * 0.01 / math.sqrt(ratio.numel())
            choices.append(same.long().argmax(1))
        assert torch.equal(kept.position, dropped.position)
        for choice in choices:
            assert (choice.bincount(minlength=3) > 80).all()
        assert (choices[0] != choices[1]).any()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"patch_size": 0}, "patch_size is 0"),
            ({"gap": -1}, "gap is -1"),
            ({"jitter": -1}, "jitter -1"),
            ({"gap": 23}, "sides of at least 41 pixels"),
            ({"colour": "grey"}, "colour is 'grey'; expected one of"),
            ({"images": torch.rand(1, 1, 40, 40), "colour": "project"}, "1 channels; expected 3"),
            ({"images": torch.rand(3, 40, 40)}, r"shape \[3, 40, 40\]"),
        ],
    )
    def test_what_does_not_fit(self, options, message):
        given = {**SIZE, **options}
        with pytest.raises(ValueError, match=f"draw_patch_pairs: .*{message}"):
            draw_patch_pairs(given.pop("images", torch.rand(1, 3, 40, 40)), **given)
        with pytest.raises(ValueError, match="project_colours: x has shape"):
            project_colours(torch.zeros(2, 4))


class TestNetwork:
    def test_both_patches_go_through_the_same_encoder(self):
        torch.manual_seed(0)
        model = RelativePatches(patch_encoder((1, 8, 8), 5, channels=8), 5)
        first, second = torch.randn(2, 3, 1, 8, 8)
        codes = torch.cat([model.encode(first), model.encode(second)], 1)
        torch.testing.assert_close(model(first, second), model.head(codes))
        assert not torch.allclose(model(first, second), model(second, first))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: RelativePatches(torch.nn.Flatten(), 0), "RelativePatches: code_size is 0"),
            (lambda: patch_encoder((1, 8, 8), 5, channels=12), "patch_encoder: channels is 12"),
            (lambda: patch_encoder((1, 9, 8), 5), r"patch_shape \(1, 9, 8\)"),
        ],
    )
    def test_what_does_not_fit(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


def trained(images, steps):
    torch.manual_seed(0)
    model = RelativePatches(patch_encoder((1, 8, 8), 32, channels=8), 32)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(steps):
        pairs = draw_patch_pairs(images(64), **SIZE)
        loss = cross_entropy(model(pairs.first, pairs.second), pairs.position)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def num_right(model, images):
    pairs = draw_patch_pairs(images, **SIZE, generator=generator(1))
    return (model(pairs.first, pairs.second).argmax(1) == pairs.position).sum().item()


NUM = 2000
# Under chance the number of right guesses is binomial, as positions are drawn apart from patches.
MEAN, DEVIATION = NUM / 8, math.sqrt(NUM * 7 / 64)


def test_b26_above_chance_on_photographs():
    """Of people who are not in the training part: ten deviations, and three times chance."""
    pytest.importorskip("skimage")
    train, test = (load_images("faces", split=split).images for split in ("train", "test"))
    model = trained(lambda num: train[torch.randint(len(train), (num,))], 80)
    right = num_right(model, test.repeat(NUM // len(test), 1, 1, 1))
    assert right > MEAN + 10 * DEVIATION
    assert right > 3 * MEAN


def test_b26_chance_on_noise():
    """Pixels without any dependence: within four deviations."""
    model = trained(lambda num: torch.rand(num, 1, 25, 25), 40)
    assert abs(num_right(model, torch.rand(NUM, 1, 25, 25)) - MEAN) < 4 * DEVIATION
