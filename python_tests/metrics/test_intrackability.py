"""Intrackability: both readings, and what they are for."""

import pytest
import torch

from gencore.metrics import intrackability

AVERAGES = ("ratio of means", "mean of ratios")


def film(*levels, channels=2, side=3):
    """A film [1, T, C, side, side] whose frames are constant."""
    return torch.tensor(levels).view(1, -1, 1, 1, 1).expand(1, -1, channels, side, side)


def test_g23_both_readings():
    """Lengths of constant frames are in proportion to their levels."""
    residuals, frames = film(1.0, -3.0, 0.0), film(2.0, 4.0, -4.0)
    assert intrackability(residuals, frames).item() == pytest.approx(4 / 10)
    found = intrackability(residuals, frames, average="mean of ratios").item()
    assert found == pytest.approx((1 / 2 + 3 / 4 + 0) / 3)


@pytest.mark.parametrize("average", AVERAGES)
def test_g23_nothing_is_left_or_everything(average):
    frames = torch.randn(3, 4, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    assert (intrackability(torch.zeros_like(frames), frames, average=average) == 0).all()
    torch.testing.assert_close(
        intrackability(frames.flip(1, 3), frames.flip(1), average=average), torch.ones(3)
    )


@pytest.mark.parametrize("average", AVERAGES)
def test_films_are_by_themselves_and_the_unit_of_pixels_does_not_matter(average):
    generator = torch.Generator().manual_seed(1)
    residuals, frames = torch.randn(2, 4, 3, 2, 5, 5, generator=generator, dtype=torch.float64)
    together = intrackability(residuals, frames, average=average)
    alone = [
        intrackability(r[None], x[None], average=average)
        for r, x in zip(residuals, frames, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(intrackability(7 * residuals, 7 * frames, average=average), together)
    torch.testing.assert_close(intrackability(3 * residuals, frames, average=average), 3 * together)


def test_frames_that_are_zero():
    black = film(0.0, 0.0)
    for average in AVERAGES:
        assert intrackability(black, black, average=average).item() == 0
        assert intrackability(film(0.0, 1.0), black, average=average).item() == float("inf")
    # One black frame that is tracked.
    found = intrackability(film(0.0, 1.0), film(0.0, 2.0), average="mean of ratios")
    assert found.item() == pytest.approx(0.25)


def test_bad_input():
    x = torch.zeros(2, 3, 1, 4, 4)
    with pytest.raises(ValueError, match="average is 'median'"):
        intrackability(x, x, average="median")
    with pytest.raises(TypeError, match=r"intrackability: frames are torch.uint8; expected floa"):
        intrackability(x, x.byte())
    with pytest.raises(ValueError, match=r"residuals have shape \[2, 3, 1, 4, 4\] and frames \[2,"):
        intrackability(x, x[:, :2])
    with pytest.raises(ValueError, match="at least one frame"):
        intrackability(x[:, :0], x[:, :0])
