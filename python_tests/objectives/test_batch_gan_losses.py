"""The losses of BGAN and M-BGAN: closed forms, Jensen's inequality, derivatives."""

import pytest
import torch

from gencore.objectives import (
    BGANLoss,
    MBGANLoss,
    adversarial_discriminator_loss,
    adversarial_generator_loss,
    mix_batches,
    mixing_masks,
)

LOSSES = [BGANLoss(), BGANLoss("probabilities"), MBGANLoss()]


def test_they_are_the_divergence_of_bernoulli_laws():
    torch.manual_seed(0)
    scores = torch.randn(5, 3, dtype=torch.float64)
    proportions = torch.tensor([0, 1 / 3, 2 / 3, 1, 1 / 3], dtype=torch.float64)

    def divergence(u, v):
        laws = [torch.distributions.Bernoulli(probs=p) for p in (u, v)]
        return torch.distributions.kl_divergence(*laws)

    expected = [
        divergence(proportions, scores.mean(1).sigmoid()).mean(),
        divergence(proportions, scores.sigmoid().mean(1)).mean(),
        divergence(proportions[:, None].expand(5, 3), scores.sigmoid()).mean(),
    ]
    found = [loss.discriminator_loss(scores, proportions) for loss in LOSSES]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_generator_wants_batches_of_data_alone(loss):
    scores = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = loss.discriminator_loss(scores, torch.ones(5))
    torch.testing.assert_close(loss.generator_loss(scores), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_zero_at_the_proportion_alone(loss):
    u = torch.tensor([0.25, 0.5], dtype=torch.float64)
    scores = torch.logit(u)[:, None].expand(2, 4)
    assert loss.discriminator_loss(scores, u).item() == pytest.approx(0, abs=1e-15)
    assert loss.discriminator_loss(scores + 0.1, u) > 1e-4
    pure = torch.tensor([[40.0, 50.0], [-40.0, -50.0]], dtype=torch.float64)
    assert loss.discriminator_loss(pure, torch.tensor([1, 0])).item() == pytest.approx(0)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_jensen_s_inequality(average):
    """BGAN ≤ M-BGAN, with equality for equal outputs and no others."""
    bgan, mbgan = BGANLoss(average), MBGANLoss()
    torch.manual_seed(0)
    for _ in range(200):
        scores = 3 * torch.randn(1, 4, dtype=torch.float64)
        u = torch.randint(5, (1,)) / 4
        gap = mbgan.discriminator_loss(scores, u) - bgan.discriminator_loss(scores, u)
        assert gap > 0
        assert mbgan.generator_loss(scores) > bgan.generator_loss(scores)
        equal = scores[:, :1].expand(1, 4)
        sides = [loss.discriminator_loss(equal, u) for loss in (bgan, mbgan)]
        torch.testing.assert_close(*sides)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_the_scores_changes_nothing(loss):
    scores, u = torch.randn(6, 5, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    ordered = scores.sort(1).values
    torch.testing.assert_close(
        loss.discriminator_loss(ordered, u), loss.discriminator_loss(scores, u)
    )
    torch.testing.assert_close(loss.generator_loss(ordered), loss.generator_loss(scores))


@pytest.mark.parametrize("loss", LOSSES)
def test_of_one_point_they_are_those_of_a_gan(loss):
    real, fake = torch.randn(2, 8, 1, dtype=torch.float64)
    halves = mix_batches(real, fake, mixing_masks(8, 1, key=torch.tensor([11, 0])))
    both = [torch.cat(parts) for parts in zip(*halves, strict=True)]
    expected = adversarial_discriminator_loss(real, fake) / 2
    torch.testing.assert_close(loss.discriminator_loss(*both), expected)
    expected = adversarial_generator_loss(fake, "non-saturating")
    torch.testing.assert_close(loss.generator_loss(fake), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss):
    torch.manual_seed(0)
    scores = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    u = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(loss.discriminator_loss, (scores, u))
    assert torch.autograd.gradcheck(loss.generator_loss, (scores,))


@pytest.mark.parametrize("loss", LOSSES)
def test_scores_far_out_have_finite_gradients(loss):
    scores = torch.tensor([[1e4, -1e4], [1e4, 1e4]], requires_grad=True)
    value = loss.discriminator_loss(scores, torch.tensor([0.5, 0.0]))
    value.backward()
    assert value.isfinite()
    assert scores.grad.isfinite().all()


def test_input_that_does_not_fit():
    with pytest.raises(ValueError, match="BGANLoss: average is 'mean'; expected one of logits"):
        BGANLoss("mean")
    with pytest.raises(ValueError, match=r"MBGANLoss.generator_loss: scores are .* \[3\]; exp"):
        MBGANLoss().generator_loss(torch.zeros(3))
    with pytest.raises(ValueError, match=r"proportions have shape \[2\] for scores \[3, 4\]"):
        BGANLoss().discriminator_loss(torch.zeros(3, 4), torch.zeros(2))
