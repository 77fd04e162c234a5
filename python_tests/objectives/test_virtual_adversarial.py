"""Virtual adversarial training against closed forms of linear classifiers."""

import pytest
import torch
from torch import nn

from gencore.objectives import virtual_adversarial_loss, virtual_adversarial_perturbation


def key(seed):
    return torch.tensor([seed, 0])


def linear(num_classes, num_inputs=3):
    torch.manual_seed(0)
    return nn.Linear(num_inputs, num_classes).double()


def test_two_classes_of_a_linear_classifier():
    """With w = w₁ − w₀ the divergence depends on wᵀr alone: r = ±εw/‖w‖ after one iteration, and
    the loss is KL(Bernoulli(σ(t)) ‖ Bernoulli(σ(t ± ε‖w‖)))."""
    classifier, radius = linear(2), 0.4
    x = torch.randn(6, 3, dtype=torch.float64)
    w = (classifier.weight[1] - classifier.weight[0]).detach()
    r = virtual_adversarial_perturbation(classifier, x, radius, key=key(1))
    cosine = (r @ w) / (radius * w.norm())
    assert (cosine.abs() - 1).abs().max() < 1e-4  # the error of ∇D(ξd) is of order ξ
    t = (x @ w + classifier.bias[1] - classifier.bias[0]).detach()
    moved = torch.distributions.Bernoulli(logits=t + cosine.sign() * radius * w.norm())
    expected = torch.distributions.kl_divergence(torch.distributions.Bernoulli(logits=t), moved)
    loss = virtual_adversarial_loss(classifier, x, radius, key=key(1))
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-4)


def test_three_classes_by_the_dominant_eigenvector():
    """H = Wᵀ(diag p − ppᵀ)W of the softmax."""
    classifier = linear(3)
    x = torch.randn(5, 3, dtype=torch.float64)
    r = virtual_adversarial_perturbation(
        classifier, x, 1.0, num_iterations=200, step=1e-5, key=key(2)
    )
    with torch.no_grad():
        for row, p in zip(r, classifier(x).softmax(1), strict=True):
            w = classifier.weight
            hessian = w.T @ (p.diag() - torch.outer(p, p)) @ w
            dominant = torch.linalg.eigh(hessian)[1][:, -1]
            assert abs(row @ dominant) == pytest.approx(1, abs=1e-4)


def test_the_gradient_goes_through_the_moved_point_alone():
    classifier = linear(2)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    loss = virtual_adversarial_loss(classifier, x, 0.3, key=key(3))
    assert x.grad is None
    loss.backward()
    assert x.grad is None
    r = virtual_adversarial_perturbation(classifier, x, 0.3, key=key(3))
    p, moved = (classifier(y).softmax(1).detach() for y in (x.detach(), x.detach() + r))
    expected = ((moved - p).T @ (x.detach() + r)) / 4  # of the cross-entropy of p
    torch.testing.assert_close(classifier.weight.grad, expected)


def test_rows_do_not_depend_on_their_batch():
    classifier, x = linear(3), torch.randn(6, 3, dtype=torch.float64)
    whole = virtual_adversarial_perturbation(classifier, x, 0.3, key=key(4))
    part = virtual_adversarial_perturbation(classifier, x[4:], 0.3, key=key(4), first=4)
    torch.testing.assert_close(whole[4:], part)


def test_where_nothing_changes_the_direction_stays():
    flat = linear(2)
    nn.init.zeros_(flat.weight)
    r = virtual_adversarial_perturbation(flat, torch.zeros(3, 3).double(), 0.5, key=key(0))
    torch.testing.assert_close(r.norm(dim=1), torch.full((3,), 0.5).double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius is 0"),
        ({"radius": 1.0, "step": -1.0}, "step is -1"),
        ({"radius": 1.0, "num_iterations": -1}, "num_iterations"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        virtual_adversarial_loss(linear(2), torch.zeros(2, 3).double(), **options)


def test_a_classifier_of_one_number_a_row_is_refused():
    with pytest.raises(ValueError, match=r"the classifier gives \[2\]"):
        virtual_adversarial_loss(lambda x: x.sum(1), torch.zeros(2, 3), 1.0)
