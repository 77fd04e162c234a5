"""Tables of labels that condition a network: values, gradients, several tables, refusals."""

import pytest
import torch

from gencore.nn import LookUpAdd, LookUpDiscriminator


def test_rows_are_repeated_over_the_pixels_that_they_cover():
    add = LookUpAdd(3, (1, 2, 2))
    with torch.no_grad():
        add.table.weight.copy_(torch.arange(12.0).reshape(3, 4))
    y = add(torch.ones(1, 1, 4, 4), torch.tensor([2]))
    expected = torch.tensor([[8, 8, 9, 9], [8, 8, 9, 9], [10, 10, 11, 11], [10, 10, 11, 11.0]]) + 1
    torch.testing.assert_close(y[0, 0], expected)


def test_the_gradient_of_the_table_is_the_sum_of_each_label():
    torch.manual_seed(0)
    add = LookUpAdd(4, (2, 2, 2)).double()
    labels = torch.tensor([1, 3, 1, 1, 0])
    x = torch.randn(5, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    above = torch.randn(5, 2, 4, 4, dtype=torch.float64)
    add(x, labels).backward(above)
    torch.testing.assert_close(x.grad, above)
    blocks = above.unflatten(3, (2, 2)).sum(4).unflatten(2, (2, 2)).sum(3)
    for label in range(4):
        expected = blocks[labels == label].sum(0).flatten()
        torch.testing.assert_close(add.table.weight.grad[label], expected)


def test_each_table_conditions_its_own_maps():
    """Seven labels as of Sprites: the k-th moves the k-th seventh of the maps alone."""
    sizes = (2, 2, 6, 4, 3, 3, 2)
    add = LookUpAdd(sizes, (14, 1, 1))
    x, labels = torch.zeros(1, 14, 4, 4), torch.zeros(1, 7, dtype=torch.int64)
    before = add(x, labels)
    for kind, size in enumerate(sizes):
        changed = labels.clone()
        changed[0, kind] = size - 1
        moved = (add(x, changed) != before)[0].flatten(1).any(1)
        assert moved.nonzero().flatten().tolist() == [2 * kind, 2 * kind + 1]


def test_a_label_outside_of_its_table_has_no_row_of_a_neighbour():
    """Of which tables on an accelerator, where labels are not looked at, are refused by the
    device."""
    add = LookUpAdd((3, 5), (2,))
    inside = torch.tensor([[2, 0], [0, 4]])
    assert add._rows(inside).tolist() == [[2, 3], [0, 7]]
    outside = torch.tensor([[3, 0], [-1, 0], [0, -1], [0, 5], [2**40, -(2**40)]])
    rows = add._rows(outside)
    assert rows.tolist() == [[8, 3], [8, 3], [0, 8], [0, 8], [8, 8]]
    for row, labels in zip(rows, outside, strict=True):
        with pytest.raises(IndexError, match="out of range"):
            add.table(row)
        with pytest.raises(IndexError, match=r"the tables have \[3, 5\] rows"):
            add(torch.zeros(1, 2), labels[None])


def test_gradients():
    torch.manual_seed(0)
    discriminator = LookUpDiscriminator((1, 4, 4), (2, 3), widths=(2, 4)).double()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 2], [1, 0], [1, 1]])
    assert torch.autograd.gradcheck(lambda x: discriminator(x, labels), (x,))


def test_the_discriminator_of_the_thesis():
    """Table 5.1 a: maps of 4×4 for each of the three first layers, of ten digits."""
    discriminator = LookUpDiscriminator((1, 32, 32), 10, widths=(16, 32, 64))
    tables = [look_up.table.weight.shape for look_up in discriminator.look_ups]
    assert tables == [(10, 16 * 16), (10, 32 * 16), (10, 64 * 16)]
    assert discriminator.last.in_features == 64 * 16


@pytest.mark.parametrize(
    ("labels", "shape"), [(3, (4, 2)), ((), (4,)), ((2, 2), (3,)), (0, (4,)), (3, (0,))]
)
def test_sizes_that_do_not_fit(labels, shape):
    with pytest.raises(ValueError, match="LookUpAdd: "):
        LookUpAdd(labels, shape)


def test_calls_that_do_not_fit():
    add = LookUpAdd(3, (2, 2, 2))
    with pytest.raises(ValueError, match=r"labels have shape \[1, 2\] for 1 data points"):
        add(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected \[N, 2, multiple of 2, multiple of 2\]"):
        add(torch.zeros(1, 2, 3, 4), torch.tensor([0]))
    with pytest.raises(IndexError, match="labels are from 3 to 3; the tables have"):
        add(torch.zeros(1, 2, 4, 4), torch.tensor([3]))
    with pytest.raises(ValueError, match="sides that are multiples of 4, and at least one width"):
        LookUpDiscriminator((1, 6, 8), 3, widths=(2, 4))
