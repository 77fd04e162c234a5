"""The noise of a diffusion's steps."""

import pytest
import torch

from gencore.models import NoiseSchedule

_SCHEDULE = NoiseSchedule([0.1, 0.25, 0.5])


def test_data_and_noise_by_hand() -> None:
    scales = torch.tensor([1.0, 0.9, 0.9 * 0.75, 0.9 * 0.75 * 0.5], dtype=torch.float64).sqrt()
    torch.testing.assert_close(_SCHEDULE.mean_scales, scales)
    x = torch.tensor([[2.0], [2.0]])
    noise = torch.tensor([[0.0], [1.0]])
    found = _SCHEDULE.diffuse(x, torch.tensor([2, 1]), noise=noise)
    expected = torch.tensor([[2 * (0.9 * 0.75) ** 0.5], [2 * 0.9**0.5 + 0.1**0.5]])
    torch.testing.assert_close(found, expected)


def test_step_by_step_and_at_once_agree_in_law() -> None:
    num, generator = 40_000, torch.Generator().manual_seed(0)
    x = torch.full((num, 1), 1.3)
    for t in range(3):
        level = torch.full((num,), t)
        noise = torch.randn(x.shape, generator=generator)
        std = _SCHEDULE.step_std(level)[:, None].float()
        x = (1 - std**2).sqrt() * x + std * noise
    scale = _SCHEDULE.mean_scales[3].item()
    variance = 1 - scale**2
    assert abs(x.mean().item() - 1.3 * scale) < 4 * (variance / num) ** 0.5
    assert abs(x.var().item() - variance) < 4 * variance * (2 / num) ** 0.5


def test_merged_steps_are_several_at_once() -> None:
    merged = _SCHEDULE.merged([0, 1, 3])
    torch.testing.assert_close(merged.mean_scales, _SCHEDULE.mean_scales[[0, 1, 3]])
    assert NoiseSchedule.linear().mean_scales[-1].item() ** 2 == pytest.approx(4.036e-5, rel=1e-3)


def test_level_0_is_the_data_and_a_split_batch_has_the_same_noise() -> None:
    x, key = torch.randn(4, 3), torch.tensor([5, 7])
    level = torch.tensor([0, 1, 2, 3])
    whole = _SCHEDULE.diffuse(x, level, key=key)
    assert torch.equal(whole[0], x[0])
    assert torch.equal(whole[2:], _SCHEDULE.diffuse(x[2:], level[2:], key=key, first_element=6))


def test_the_step_posterior_and_the_later_level_make_the_joint() -> None:
    """x_{t+1} given x_0, then x_t given both: the joint's moments are those of the way up."""
    num, generator = 40_000, torch.Generator().manual_seed(1)
    x = torch.full((num, 1), 1.3)
    noises = torch.randn(2, num, 1, generator=generator)
    later = _SCHEDULE.diffuse(x, torch.full((num,), 3), noise=noises[0])
    mean, std = _SCHEDULE.step_posterior(x, later, 2)
    earlier = mean + std * noises[1]
    scale, variance = (0.9 * 0.75) ** 0.5, 1 - 0.9 * 0.75
    assert abs(earlier.mean().item() - 1.3 * scale) < 4 * (variance / num) ** 0.5
    assert abs(earlier.var().item() - variance) < 4 * variance * (2 / num) ** 0.5
    rest = later - 0.5**0.5 * earlier  # the noise of the step, which does not know x_t
    assert abs(rest.var().item() - 0.5) < 4 * 0.5 * (2 / num) ** 0.5
    assert abs(torch.corrcoef(torch.cat([rest, earlier], 1).T)[0, 1].item()) < 4 * num**-0.5
    assert _SCHEDULE.step_posterior(x, later, 0) == (x, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _SCHEDULE.step_posterior(torch.zeros(1), torch.zeros(1), 3), "expected 0 to 2"),
        (lambda: _SCHEDULE.step_posterior(torch.zeros(1), torch.zeros(2), 1), "as x has"),
        (lambda: NoiseSchedule([]), "variances have shape"),
        (lambda: NoiseSchedule([0.5, 1.0]), "a variance is 1"),
        (lambda: NoiseSchedule.linear(0), "num_steps is 0"),
        (lambda: _SCHEDULE.merged([0]), r"levels are \[0\]"),
        (lambda: _SCHEDULE.merged([0, 4]), "at most 3"),
        (lambda: _SCHEDULE.diffuse(torch.zeros(2, 1), torch.tensor([1])), "one level a row"),
        (lambda: _SCHEDULE.diffuse(torch.zeros(1, 1), torch.tensor([-1])), "outside 0 to 3"),
        (lambda: _SCHEDULE.diffuse(torch.zeros(1, 1), torch.tensor([4])), "outside 0 to 3"),
    ],
)
def test_bad_input(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()
