"""The best discriminator of mixed batches, by sums over all masks, and trained ones."""

import math
from itertools import product

import pytest
import torch
from torch.distributions import Normal

from gencore.nn import EquivariantLinear, EquivariantMLP
from gencore.objectives import (
    BGANLoss,
    MBGANLoss,
    beta_count_probabilities,
    mix_batches,
    mixed_batch_log_probs,
    mixing_masks,
    optimal_batch_discriminator,
    smoothing_count_probabilities,
)


def beta_function(a, b):
    return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))


def by_enumeration(log_p1, log_p2, a, b):
    """P(y) and Q(y) of (4.26) by sums over all masks, with the probabilities (4.19) and (4.28)."""
    size = log_p1.shape[1]
    balanced, unbalanced = torch.zeros(2, len(log_p1), dtype=torch.float64)
    for mask in product((0, 1), repeat=size):
        count = sum(mask)
        prior = beta_function(count + a, size - count + b) / beta_function(a, b)
        beta = torch.tensor(mask, dtype=torch.float64)
        joint = prior * (beta * log_p1 + (1 - beta) * log_p2).sum(1).exp()
        balanced += joint
        unbalanced += (a + b) / a * joint * count / size
    return balanced, unbalanced


@pytest.fixture
def log_probs():
    return torch.randn(2, 10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class TestOptimalDiscriminator:
    @pytest.mark.parametrize("size", [1, 2, 4, 6])
    @pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 5.0), (0.3, 0.7)])
    def test_it_is_the_sum_over_all_masks(self, log_probs, size, a, b):
        real, fake = log_probs[..., :size]
        law = beta_count_probabilities(size, a, b)
        balanced, unbalanced = by_enumeration(real, fake, a, b)
        found = mixed_batch_log_probs(real, fake, law)
        torch.testing.assert_close(found.balanced, balanced.log())
        torch.testing.assert_close(found.unbalanced, unbalanced.log())
        best = optimal_batch_discriminator(real, fake, law)
        torch.testing.assert_close(best, a / (a + b) * unbalanced / balanced)
        if a == b == 1:
            torch.testing.assert_close(optimal_batch_discriminator(real, fake), best)

    def test_of_one_point_it_is_that_of_a_gan(self, log_probs):
        real, fake = log_probs[..., :1]
        expected = (real.exp() / (real.exp() + fake.exp())).squeeze(1)
        for law in (None, smoothing_count_probabilities(1, 0.2)):
            torch.testing.assert_close(optimal_batch_discriminator(real, fake, law), expected)

    def test_of_pure_batches_it_is_that_of_whole_batches(self, log_probs):
        """(4.1), with the product of the densities of independent points."""
        real, fake = log_probs
        law = smoothing_count_probabilities(6, 0.0)
        expected = torch.sigmoid(real.sum(1) - fake.sum(1))
        torch.testing.assert_close(optimal_batch_discriminator(real, fake, law), expected)

    @pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 5.0)])
    def test_equal_laws_leave_the_mean_of_the_prior(self, log_probs, a, b):
        law = beta_count_probabilities(6, a, b)
        found = optimal_batch_discriminator(log_probs[0], log_probs[0], law)
        torch.testing.assert_close(found, torch.full_like(found, a / (a + b)))

    def test_both_are_densities_and_the_generators_loss_is_their_divergence(self):
        """On all batches of three symbols: E log D* = −log 2 − KL(p_balanced‖p_unbalanced)."""
        symbols = torch.tensor(list(product(range(3), repeat=3)))
        p1, p2 = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
        real, fake = p1.log()[symbols], p2.log()[symbols]
        balanced, unbalanced = mixed_batch_log_probs(real, fake)
        torch.testing.assert_close(balanced.exp().sum(), torch.tensor(1.0).double())
        torch.testing.assert_close(unbalanced.exp().sum(), torch.tensor(1.0).double())
        divergence = (balanced.exp() * (balanced - unbalanced)).sum()
        best = optimal_batch_discriminator(real, fake)
        value = (balanced.exp() * best.log()).sum()
        torch.testing.assert_close(value, -math.log(2) - divergence, rtol=0, atol=1e-14)
        # The generator's loss has this value where its scores are the logits of D*.
        scores = torch.logit(best)[:, None].expand(-1, 3)
        loss = torch.stack([BGANLoss().generator_loss(each[None]) for each in scores])
        torch.testing.assert_close((balanced.exp() * loss).sum(), -value)

    def test_no_other_output_has_a_smaller_loss(self):
        """On all batches and masks of three symbols, with the loss that trains."""
        symbols = torch.tensor(list(product(range(3), repeat=2)))
        p1, p2 = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64)
        real, fake = p1.log()[symbols], p2.log()[symbols]
        logits = torch.logit(optimal_batch_discriminator(real, fake)).requires_grad_()
        loss = torch.zeros((), dtype=torch.float64)
        for mask in product((0, 1), repeat=2):
            beta = torch.tensor(mask, dtype=torch.float64)
            weight = 1 / (3 * math.comb(2, sum(mask)))
            probs = weight * (beta * real + (1 - beta) * fake).sum(1).exp()
            for logit, prob in zip(logits, probs, strict=True):
                scores = logit.expand(1, 2)
                loss = loss + prob * BGANLoss().discriminator_loss(scores, beta.mean()[None])
        (slope,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)

    def test_large_batches_of_unlikely_points_stay_finite(self):
        real, fake = torch.randn(2, 4, 500) - 300
        found = optimal_batch_discriminator(real, fake)
        exact = optimal_batch_discriminator(real.double(), fake.double())
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-3)
        assert ((found > 0) & (found < 1)).all()

    def test_points_that_only_one_law_has(self):
        real, fake = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 0.0]]).log()
        assert optimal_batch_discriminator(real, fake).tolist() == [1.0]
        assert optimal_batch_discriminator(fake, real).tolist() == [0.0]

    def test_gradients(self, log_probs):
        real, fake = (part[:3, :4].clone().requires_grad_() for part in log_probs)
        assert torch.autograd.gradcheck(optimal_batch_discriminator, (real, fake))

    def test_shapes_that_do_not_fit(self):
        x = torch.zeros(3, 4)
        with pytest.raises(ValueError, match="optimal_batch_discriminator: real_log_prob"):
            optimal_batch_discriminator(x, x[:2])
        with pytest.raises(ValueError, match="mixed_batch_log_probs: real_log_prob"):
            mixed_batch_log_probs(x[:, :0], x[:, :0])
        with pytest.raises(ValueError, match=r"probabilities have shape \[4\]; expected \[5\]"):
            optimal_batch_discriminator(x, x, torch.ones(4) / 4)
        with pytest.raises(ValueError, match="beta_count_probabilities: b is 0"):
            beta_count_probabilities(3, 1.0, 0.0)


P1, P2 = Normal(0.0, 1.0), Normal(1.0, 0.7)
SIZE = 4


def toy_batches(num, offset):
    """Data N(0, 1) and samples N(1, 0.7²), mixed and their complement: twice num batches of 4."""
    noise = torch.randn(2, num, SIZE, 1)
    masks = mixing_masks(num, SIZE, key=torch.tensor([11, offset]))
    halves = mix_batches(noise[0], 1 + 0.7 * noise[1], masks)
    return [torch.cat(parts) for parts in zip(*halves, strict=True)]


def train_discriminator(loss, *, sees_mean=True, steps=600):
    torch.manual_seed(0)
    network = EquivariantMLP(1, (32, 32), activation="tanh")
    if not sees_mean:
        for layer in network.modules():
            if isinstance(layer, EquivariantLinear):
                layer.mean_weight.requires_grad_(False).zero_()
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        optimizer.zero_grad()
        samples, proportions = toy_batches(128, step)
        loss.discriminator_loss(network(samples), proportions).backward()
        optimizer.step()
    return network


@pytest.fixture(scope="module")
def held_out():
    torch.manual_seed(1)
    samples, _ = toy_batches(5000, 10_000)
    points = samples.squeeze(2)
    return samples, optimal_batch_discriminator(P1.log_prob(points), P2.log_prob(points))


class TestTrainedDiscriminator:
    """Mean |D − D*| over mixed batches of the toy, where D ≡ ½ is off by 0.2 (§4.3, §4.4)."""

    def test_a_constant_is_far_off(self, held_out):
        assert (0.5 - held_out[1]).abs().mean().item() == pytest.approx(0.203, abs=0.005)

    @pytest.mark.parametrize("loss", [BGANLoss(), MBGANLoss()])
    def test_it_is_near_the_best_one(self, held_out, loss):
        samples, best = held_out
        scores = train_discriminator(loss)(samples)
        assert (scores.mean(1).sigmoid() - best).abs().mean() < 0.03
        if isinstance(loss, MBGANLoss):  # each member is a discriminator of the whole batch
            assert (scores.sigmoid() - best[:, None]).abs().mean() < 0.03

    def test_members_that_do_not_see_the_mean_fail(self, held_out):
        """M-BGAN alone: the mean of scores of single members is enough for BGAN here."""
        samples, best = held_out
        scores = train_discriminator(MBGANLoss(), sees_mean=False)(samples)
        assert (scores.mean(1).sigmoid() - best).abs().mean() > 0.1
