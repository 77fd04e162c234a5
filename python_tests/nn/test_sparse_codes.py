"""Codes of which few components are left."""

import pytest
import torch

from gencore.nn import KSparse, WinnerTakeAll, keep_largest


def test_k_numbers_stay_and_the_gradient_goes_through_them_alone() -> None:
    z = torch.randn(50, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept = KSparse(3)(z)
    assert ((kept != 0).sum(1) == 3).all()
    is_kept = kept != 0
    assert torch.equal(kept[is_kept], z[is_kept])
    assert (z.detach().masked_fill(is_kept, -torch.inf).amax(1) < kept.topk(3, 1)[0][:, 2]).all()
    (grad,) = torch.autograd.grad(kept.sum(), z)
    assert torch.equal(grad, is_kept.float())


def test_equal_numbers_never_leave_more_than_k() -> None:
    assert (keep_largest(torch.ones(4, 6), 2).sum(1) == 2).all()
    assert (keep_largest(torch.ones(4, 6), 0) == 0).all()


def test_a_winner_a_vector_or_a_map() -> None:
    assert WinnerTakeAll()(torch.tensor([[1.0, -2.0, 0.5]])).tolist() == [[1.0, 0.0, 0.0]]
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    winners = WinnerTakeAll()(maps)
    assert ((winners != 0).sum((2, 3)) == 1).all()
    assert torch.equal(winners.amin((2, 3)) + winners.amax((2, 3)), maps.amax((2, 3)))


def test_maps_share_the_k_of_a_code() -> None:
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    assert ((KSparse(5)(z) != 0).flatten(1).sum(1) == 5).all()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="KSparse: k is 0"):
        KSparse(0)
    with pytest.raises(ValueError, match="keep_largest: k is 4 for rows of 3"):
        KSparse(4)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"WinnerTakeAll: codes have shape \[2, 3, 4\]"):
        WinnerTakeAll()(torch.zeros(2, 3, 4))
