"""Nearest neighbours against all distances, and copies."""

import pytest
import torch

from gencore.metrics import nearest_neighbors
from gencore.metrics.distances.nearest import k_nearest, points_in_balls


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_against_all_distances(offset):
    queries, points = offset + randn(50, 20), offset + randn(80, 20, seed=1)
    exact = (queries[:, None] - points).norm(dim=2).sort(dim=1)
    found = nearest_neighbors(queries, points, k=6, batch_size=7)
    assert torch.equal(found.indices, exact.indices[:, :6])
    torch.testing.assert_close(found.distances, exact.values[:, :6], rtol=1e-12, atol=0)


def test_no_vector_is_its_own_neighbour():
    points = torch.tensor([[0.0], [1.0], [1.0], [5.0]])
    found = k_nearest(points, points, 2, among_themselves=True, batch_size=3)
    assert found.distances.tolist() == [[1, 1], [0, 1], [0, 1], [4, 4]]
    assert found.indices[1, 0] == 2


def test_a_ball_holds_its_border_and_copies_of_a_centre_of_radius_zero():
    centres = 1e4 + randn(200, 30)
    radii = k_nearest(centres, centres, 3, among_themselves=True).distances[:, -1]
    third = k_nearest(centres, centres, 3, among_themselves=True).indices[:, -1]
    inside = torch.cat(list(points_in_balls(centres, centres, radii, batch_size=17, caller="")))
    assert (inside.sum(0) == 4).all()  # itself and its three nearest
    assert inside[third, torch.arange(200)].all()
    alone = torch.cat(list(points_in_balls(centres, centres, 0 * radii, caller="")))
    assert torch.equal(alone, torch.eye(200, dtype=torch.bool))


def test_bad_input():
    with pytest.raises(ValueError, match=r"^nearest_neighbors: k = 4, expected 1 to 3"):
        nearest_neighbors(torch.zeros(2, 2), torch.zeros(3, 2), k=4)
    with pytest.raises(ValueError, match=r"^nearest_neighbors: features have shape \(2, 2\) and"):
        nearest_neighbors(torch.zeros(2, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="expected 1 to 2"):
        k_nearest(torch.zeros(3, 1), torch.zeros(3, 1), 3, among_themselves=True)
