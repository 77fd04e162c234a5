"""The losses of adversarial training with the best discriminator: exact sums over a few symbols."""

import math

import pytest
import torch

from gencore.objectives import adversarial_discriminator_loss, adversarial_generator_loss

# Of p* = (1/2, 1/4, 1/4) and p_θ = (1/8, 1/8, 3/4) every eighth of the mass is a data point.
DATA = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
SAMPLES = torch.tensor([0, 1, 2, 2, 2, 2, 2, 2])
P_DATA = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
P_MODEL = torch.tensor([0.125, 0.125, 0.75], dtype=torch.float64)
MIXTURE = (P_DATA + P_MODEL) / 2


def kl(p, q):
    return (p * (p / q).log()).sum()


@pytest.fixture(scope="module")
def logits():
    """The discriminator, a table, trained on the loss to its optimum."""
    table = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = adversarial_discriminator_loss(table[DATA], table[SAMPLES])
        loss.backward()
        return loss

    optimizer.step(closure)
    return table.detach()


def test_the_best_discriminator_knows_the_ratio_of_the_densities(logits):
    torch.testing.assert_close(logits.sigmoid(), P_DATA / (P_DATA + P_MODEL), rtol=0, atol=1e-5)


def test_its_loss_is_the_jensen_shannon_divergence(logits):
    loss = adversarial_discriminator_loss(logits[DATA], logits[SAMPLES])
    expected = 2 * math.log(2) - kl(P_DATA, MIXTURE) - kl(P_MODEL, MIXTURE)
    torch.testing.assert_close(loss, expected)


def test_the_generator_s_losses_are_divergences(logits):
    fake = logits[SAMPLES]
    torch.testing.assert_close(
        adversarial_generator_loss(fake), kl(P_MODEL, P_DATA), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        adversarial_generator_loss(fake, "saturating"),
        kl(P_MODEL, MIXTURE) - math.log(2), rtol=0, atol=1e-5,
    )  # fmt: skip
    sides = [adversarial_generator_loss(fake, kind) for kind in ("saturating", "non-saturating")]
    torch.testing.assert_close(sum(sides), adversarial_generator_loss(fake))


def test_the_sum_of_both_criteria_bounds_both_divergences(logits):
    """(5.7), with a model of two latents, of which the bound L_C knows a wrong posterior."""
    prior = torch.tensor([0.25, 0.75], dtype=torch.float64)
    likelihood = torch.tensor([[0.2, 0.2, 0.6], [0.1, 0.1, 0.8]], dtype=torch.float64)
    joint = prior[:, None] * likelihood
    torch.testing.assert_close(joint.sum(0), P_MODEL)
    quality = adversarial_generator_loss(logits[SAMPLES])
    floor = kl(P_DATA, P_MODEL) + kl(P_MODEL, P_DATA) - (P_DATA * P_DATA.log()).sum()

    def coverage(posterior):
        elbo = (posterior * (joint.log() - posterior.log())).sum(0)
        return -(P_DATA * elbo).sum()

    exact = joint / joint.sum(0)
    torch.testing.assert_close(coverage(exact) + quality, floor, rtol=0, atol=1e-5)
    wrong = torch.tensor([[0.7, 0.5, 0.1], [0.3, 0.5, 0.9]], dtype=torch.float64)
    assert coverage(wrong) + quality > floor + 0.1


def test_far_from_the_data_only_one_loss_still_pulls():
    """Where D(x̃) ≈ 0 the gradient of ln(1 − D) vanishes, and that of −ln D does not."""
    slopes = []
    for kind in ("saturating", "non-saturating", "combined"):
        logit = torch.tensor([-10.0], requires_grad=True)
        adversarial_generator_loss(logit, kind).backward()
        slopes.append(-logit.grad.item())
    assert slopes == pytest.approx([math.exp(-10), 1, 1], rel=1e-3)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="adversarial_generator_loss: kind is 'hinge'; expected"):
        adversarial_generator_loss(torch.zeros(2), "hinge")
    with pytest.raises(ValueError, match=r"adversarial_generator_loss: fake is torch.int64 \[2\]"):
        adversarial_generator_loss(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"adversarial_discriminator_loss: real is .* not empty"):
        adversarial_discriminator_loss(torch.zeros(0), torch.zeros(2))
