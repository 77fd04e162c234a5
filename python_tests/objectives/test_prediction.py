"""Losses of a prediction as likelihoods, and what minimises them."""

import pytest
import torch

from gencore.objectives import gradient_difference_loss, lp_loss


def test_the_best_constant_for_two_values():
    """Of two equally likely targets ±1, L2 is least at the mean; L1 is flat between them."""
    targets = torch.tensor([-1.0, 1.0], dtype=torch.float64)[:, None, None, None]
    constants = torch.linspace(-2, 2, 41, dtype=torch.float64)

    def risks(p):
        losses = [lp_loss(c.expand(2, 1, 1, 1), targets, p).mean() for c in constants]
        return torch.stack(losses)

    torch.testing.assert_close(risks(2), constants.square() + 1)  # least at the mean, 0
    torch.testing.assert_close(risks(1), constants.abs().clamp(min=1))
    middle = torch.full((2, 1, 1, 1), 0.3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(lp_loss(middle, targets, 1).sum(), middle)
    assert grad.sum() == 0


def test_lp_losses_are_negative_log_likelihoods():
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 3, 2, 4, 5, generator=generator, dtype=torch.float64)
    size = target[0].numel()
    normal = torch.distributions.Normal(prediction, 1.0).log_prob(target).sum((1, 2, 3))
    constant = -torch.distributions.Normal(0.0, 1.0).log_prob(torch.zeros(())).double() * size
    expected = lp_loss(prediction, target, 2) / 2 + constant
    torch.testing.assert_close(-normal, expected, rtol=1e-6, atol=0)
    scale = 0.5**0.5  # of unit variance
    laplace = torch.distributions.Laplace(prediction, scale).log_prob(target).sum((1, 2, 3))
    expected = lp_loss(prediction, target, 1) / scale + size * torch.log(torch.tensor(2 * scale))
    torch.testing.assert_close(-laplace, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("alpha", [1, 2])
def test_what_the_mean_of_two_edges_costs(alpha):
    """Of an edge at one of two places."""
    edges = torch.zeros(2, 1, 4, 6)
    edges[0, ..., 2:], edges[1, ..., 4:] = 1, 1
    mean = edges.mean(0, keepdim=True).expand(2, -1, -1, -1)
    first = edges[:1].expand(2, -1, -1, -1)

    def risk(prediction, loss, exponent):
        return loss(prediction, edges, exponent).mean()

    assert risk(mean, lp_loss, 2) < risk(first, lp_loss, 2)
    blurred, sharp = (risk(t, gradient_difference_loss, alpha) for t in (mean, first))
    # Per row: the mean's steps of 1/2 differ by 1/2 from 1 and from 0; the first edge is right
    # half of the time, and else two differences are wrong by 1.
    assert (blurred, sharp) == (4 * 2 * 0.5**alpha, 4 * 1.0)


def test_alpha_is_at_least_one():
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="gradient_difference_loss: alpha is 0"):
        gradient_difference_loss(x, x, 0)
