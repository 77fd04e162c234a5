"""A generator that learns from a kernel distance: its bias, its noise, and a law that it finds."""

import pytest
import torch
from torch import nn

from gencore.models import GMMN
from gencore.nn import MLP


def key(offset=0):
    return torch.tensor([5, offset])


def test_the_loss_is_without_bias_for_equal_laws():
    """Its mean over 400 batches is 0 within the Monte Carlo error, and so is its gradient."""
    torch.manual_seed(0)
    model = GMMN(nn.Linear(2, 2), 2).double()
    with torch.no_grad():
        model.generator.weight.copy_(torch.tensor([[1.0, 0.0], [0.5, 2.0]]))
    values, slopes = [], []
    for step in range(400):
        x = torch.randn(20, 2, dtype=torch.float64) @ model.generator.weight.detach().T
        loss = model(x + model.generator.bias.detach(), key=key(step))
        slopes.append(torch.autograd.grad(loss, model.generator.weight)[0].flatten())
        values.append(loss.detach())
    for drawn in (torch.stack(values)[:, None], torch.stack(slopes)):
        assert (drawn.mean(0).abs() < 4 * drawn.std(0) / 20).all()
        assert (drawn.std(0) > 0).all()


def test_a_linear_generator_finds_the_moments_of_a_gaussian():
    torch.manual_seed(0)
    mean, covariance = torch.tensor([1.0, -0.5]), torch.tensor([[1.0, 0.6], [0.6, 0.8]])
    data = torch.distributions.MultivariateNormal(mean, covariance)
    model, steps = GMMN(nn.Linear(2, 2), 2), 400
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        optimizer.zero_grad()
        model(data.sample((200,)), key=key(step)).backward()
        optimizer.step()
    weight = model.generator.weight.detach()
    torch.testing.assert_close(model.generator.bias.detach(), mean, rtol=0, atol=0.1)
    torch.testing.assert_close(weight @ weight.T, covariance, rtol=0, atol=0.1)


def test_samples_are_those_of_the_noise_in_any_split():
    model = GMMN(MLP(3, (8,), 2, zero_last=False), 3)
    whole = model.sample(7, key=key())
    parts = model.sample(3, key=key()), model.sample(4, key=key(), first=3)
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.equal(model.sample(7, key=key(1)), whole)


def test_images_are_compared_as_vectors():
    generator = nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 2)))
    model, flat, x = GMMN(generator, 4), GMMN(generator[0], 4), torch.randn(6, 3, 2, 2)
    torch.testing.assert_close(model(x, key=key()), flat(x.flatten(1), key=key()))


def test_input_that_does_not_fit():
    with pytest.raises(ValueError, match="GMMN: noise_size is 0; expected at least 1"):
        GMMN(nn.Linear(1, 1), 0)
    model = GMMN(nn.Linear(2, 3), 2)
    with pytest.raises(ValueError, match=r"GMMN: the generator gives \[5, 3\]; expected \[5, 2\]"):
        model(torch.zeros(5, 2))
