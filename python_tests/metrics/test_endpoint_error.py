"""End-point errors of displacements."""

import pytest
import torch

from gencore.metrics import endpoint_error


def test_no_error_and_three_four_five():
    field = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert endpoint_error(field, field).max() == 0
    offset = field + torch.tensor([3.0, -4.0]).view(2, 1, 1)
    torch.testing.assert_close(endpoint_error(offset, field), torch.full((2, 3, 4), 5.0))


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="truth has shape"):
        endpoint_error(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"estimate has shape \[1, 3, 3, 3\]"):
        endpoint_error(torch.zeros(1, 3, 3, 3), torch.zeros(1, 3, 3, 3))
