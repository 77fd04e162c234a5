"""The combined loss of multi-scale prediction, its schedules, and what the adversary is for."""

import math

import pytest
import torch
from torch import nn

from gencore.objectives import (
    WeightSchedule,
    gradient_difference_loss,
    lp_loss,
    multi_scale_discriminator_loss,
    multi_scale_generator_loss,
    multi_scale_prediction_loss,
)


def scales(seed=0):
    torch.manual_seed(seed)
    shapes = [(3, 2, 4, 5), (3, 2, 8, 10)]
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


class TestAdversarial:
    def test_the_losses_are_cross_entropies_of_the_sigmoids(self):
        real, predicted = (torch.randn(5, 4, dtype=torch.float64) for _ in range(2))
        bce = nn.BCELoss(reduction="none")
        one = torch.ones_like(real)
        expected = bce(real.sigmoid(), one) + bce(predicted.sigmoid(), 0 * one)
        torch.testing.assert_close(multi_scale_discriminator_loss(real, predicted), expected.sum(1))
        expected = bce(predicted.sigmoid(), one)
        torch.testing.assert_close(multi_scale_generator_loss(predicted), expected.sum(1))

    def test_sure_answers_have_finite_losses(self):
        """Where the sigmoid rounds to 0 or 1, the loss is the logit."""
        logits = torch.tensor([[-200.0, 200.0]])
        assert multi_scale_generator_loss(logits) == 200
        assert multi_scale_discriminator_loss(logits, logits) == 400


class TestCombined:
    def test_it_is_linear_in_the_three_weights(self):
        predictions, targets = scales(0), scales(1)
        logits = torch.randn(3, 2, dtype=torch.float64)
        units = [
            multi_scale_prediction_loss(
                predictions, targets, logits, adversarial_weight=a, lp_weight=b,
                gradient_difference_weight=c,
            ).loss
            for a, b, c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
        ]  # fmt: skip
        whole = multi_scale_prediction_loss(
            predictions, targets, logits, adversarial_weight=0.05, lp_weight=2.0,
            gradient_difference_weight=0.7,
        )  # fmt: skip
        torch.testing.assert_close(whole.loss, 0.05 * units[0] + 2 * units[1] + 0.7 * units[2])
        assert all(unit.min() > 0 for unit in units)

    @pytest.mark.parametrize(("p", "alpha"), [(1, 1), (2, 1), (2, 2)])
    def test_the_parts_are_sums_over_the_scales(self, p, alpha):
        predictions, targets = scales(0), scales(1)
        loss = multi_scale_prediction_loss(predictions, targets, p=p, alpha=alpha)
        pairs = list(zip(predictions, targets, strict=True))
        torch.testing.assert_close(loss.lp, sum(lp_loss(x, y, p) for x, y in pairs))
        torch.testing.assert_close(
            loss.gradient_difference, sum(gradient_difference_loss(x, y, alpha) for x, y in pairs)
        )
        assert torch.equal(loss.adversarial, torch.zeros(3, dtype=torch.float64))

    def test_means_are_of_each_scale(self):
        """An error of 1/2 everywhere has the mean 1/2 at both scales."""
        targets = scales()
        loss = multi_scale_prediction_loss(
            [y + 0.5 for y in targets], targets, p=1, pixel_means=True
        )
        torch.testing.assert_close(loss.lp, torch.ones(3, dtype=torch.float64))

    def test_gradcheck(self):
        predictions, targets = scales(0), scales(1)
        predictions = [x.requires_grad_() for x in predictions]
        logits = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda *x: multi_scale_prediction_loss(x[:2], targets, x[2], p=2, alpha=2).loss,
            (*predictions, logits),
        )


class TestSchedule:
    def test_a_weight_changes_at_its_steps(self):
        weight = WeightSchedule(1.0, (3, 5), (0.5, 0.25))
        assert [weight(step) for step in range(7)] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
        assert WeightSchedule(0.3)(10**9) == 0.3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((1.0, (3,), ()), r"steps are \(3,\) and values \(\); expected ascending steps"),
            ((1.0, (0,), (0.5,)), r"steps are \(0,\)"),
            ((1.0, (5, 5), (0.5, 0.1)), r"steps are \(5, 5\)"),
            ((-1.0,), "a weight is -1.0; expected finite and not negative"),
            ((1.0, (2,), (math.nan,)), "a weight is nan"),
        ],
    )
    def test_bad_input(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            WeightSchedule(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: multi_scale_prediction_loss([], []), "got 0 predictions and 0 targets"),
        (lambda y: multi_scale_prediction_loss([y, y], [y]), "got 2 predictions and 1 targets"),
        (lambda y: multi_scale_prediction_loss([y], [y[:, :1]]), "prediction_losses: target"),
        (lambda y: multi_scale_generator_loss(torch.zeros(4)), r"logits are torch.float32 \[4\]"),
        (
            lambda y: multi_scale_discriminator_loss(torch.zeros(4, 2), torch.zeros(4, 1)),
            r"predicted has shape \[4, 1\]; expected \[4, 2\]",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 3, 4, 4))


def train_on_two_futures(adversarial_weight, lp_weight, steps):
    """Patches of 8 pixels whose future is +0.7 or −0.7 everywhere, as likely, after any past.

    Returns the mean squared distances of predictions to the average and to the nearest future.
    """
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8), nn.Tanh())
    discriminator = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
    players = [torch.optim.Adam(net.parameters(), 2e-3) for net in (generator, discriminator)]

    def logits(x, y):
        return discriminator(torch.cat([x, y], 1))

    for _ in range(steps):
        x = 0.1 * torch.randn(64, 8)
        y = 0.7 * (2.0 * torch.randint(2, (64, 1)) - 1).expand(64, 8)
        y = y + 0.02 * torch.randn(64, 8)
        if adversarial_weight:
            prediction = generator(x).detach()
            loss = multi_scale_discriminator_loss(logits(x, y), logits(x, prediction)).mean()
            players[1].zero_grad()
            loss.backward()
            players[1].step()
        prediction = generator(x)
        loss = multi_scale_prediction_loss(
            [prediction.view(-1, 1, 1, 8)], [y.view(-1, 1, 1, 8)],
            logits(x, prediction) if adversarial_weight else None,
            adversarial_weight=adversarial_weight, lp_weight=lp_weight,
            gradient_difference_weight=0.0, p=2, pixel_means=True,
        ).loss.mean()  # fmt: skip
        players[0].zero_grad()
        loss.backward()
        players[0].step()
    prediction = generator(0.1 * torch.randn(500, 8)).detach()
    average = prediction.square().mean()
    nearest = torch.minimum(
        (prediction - 0.7).square().mean(1), (prediction + 0.7).square().mean(1)
    )
    return average.item(), nearest.mean().item()


def test_the_squared_error_predicts_the_average_of_two_futures():
    average, nearest = train_on_two_futures(0.0, 1.0, steps=400)
    assert average < 0.01
    assert nearest > 0.4


@pytest.mark.slow
def test_the_adversary_makes_it_one_of_the_two_futures():
    average, nearest = train_on_two_futures(0.05, 1.0, steps=1500)
    assert average > 0.4
    assert nearest < 0.02
