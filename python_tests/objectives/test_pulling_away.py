"""The pulling-away term: closed forms, its gradient, and the bound that it reaches."""

import pytest
import torch

from gencore.objectives import pulling_away_term


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_orthogonal_codes_have_none_and_collinear_ones_all():
    orthogonal = torch.linalg.qr(randn(5, 5))[0] * torch.tensor([[3.0], [1], [2], [7], [1]])
    assert pulling_away_term(orthogonal).item() == pytest.approx(0, abs=1e-15)
    lengths = torch.tensor([[1.0], [-2.0], [0.1]]).double()  # anti-parallel too
    assert pulling_away_term(lengths * randn(1, 6)).item() == pytest.approx(1)
    assert pulling_away_term(lengths * randn(1, 2)).item() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 2, 3)], ids=str)
def test_it_is_the_mean_over_pairs_whichever_matrix_is_the_smaller(shape):
    codes = randn(*shape)
    rows = codes.flatten(1)
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], rows, dim=2)
    pairs = ~torch.eye(len(rows), dtype=torch.bool)
    torch.testing.assert_close(pulling_away_term(codes), cosines[pairs].square().mean())


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)], ids=str)
def test_the_gradient(shape):
    """dU = 4/(N(N−1)) U(C − I) of unit columns U, and from there to the columns of S; across each
    code, since its length changes nothing."""
    codes = randn(*shape).requires_grad_()
    num = len(codes)
    (gradient,) = torch.autograd.grad(pulling_away_term(codes), codes)
    with torch.no_grad():
        length = codes.norm(dim=1, keepdim=True)
        unit = (codes / length).T
        of_unit = (4 / (num * (num - 1)) * unit @ (unit.T @ unit - torch.eye(num))).T
        across = of_unit - (of_unit * unit.T).sum(1, keepdim=True) * unit.T
        torch.testing.assert_close(gradient, across / length)
        assert (gradient * codes).sum(1).abs().max() < 1e-15
    assert torch.autograd.gradcheck(pulling_away_term, (codes,))
    assert torch.autograd.gradgradcheck(pulling_away_term, (codes,))


def test_lengths_do_not_matter():
    codes = randn(6, 4)
    scaled = codes * torch.logspace(-3, 3, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(pulling_away_term(scaled), pulling_away_term(codes))


def test_descent_reaches_the_bound_of_welch():
    """(N − s)/(s(N − 1)) = .2 of 16 codes of 4 numbers."""
    codes = randn(16, 4).requires_grad_()
    optimizer = torch.optim.Adam([codes], 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss = pulling_away_term(codes)
        loss.backward()
        assert loss >= 0.2 - 1e-12
        optimizer.step()
    assert loss.item() == pytest.approx(0.2, abs=1e-6)


def test_directions_at_random_have_the_mean_of_one_over_their_number():
    # The squared cosine has the variance 2(s − 1)/(s²(s + 2)); pairs are uncorrelated.
    num, size = 400, 50
    spread = (2 * (size - 1) / (size**2 * (size + 2)) / (num * (num - 1) / 2)) ** 0.5
    assert pulling_away_term(randn(num, size)).item() == pytest.approx(1 / size, abs=4 * spread)


def test_a_code_of_zeros_adds_nothing_and_gets_no_gradient():
    codes = randn(3, 4)
    codes[1] = 0
    codes.requires_grad_()
    loss = pulling_away_term(codes)
    (gradient,) = torch.autograd.grad(loss, codes)
    torch.testing.assert_close(loss, pulling_away_term(codes[::2]) / 3)  # one pair of three
    assert (gradient[1] == 0).all()
    assert gradient[0].abs().min() > 0


def test_wrong_codes_are_named():
    with pytest.raises(ValueError, match=r"pulling_away_term: codes have shape \[1, 3\]; expected"):
        pulling_away_term(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"codes have shape \[3\]; expected \[N, ...\] of two"):
        pulling_away_term(torch.zeros(3))
    with pytest.raises(ValueError, match=r"pulling_away_term: codes is torch.int64 \[2, 2\]"):
        pulling_away_term(torch.ones(2, 2, dtype=torch.int64))
