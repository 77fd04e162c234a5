"""Regions of feature maps, by loops over cells."""

import pytest
import torch

from gencore.models import box_regions, cell_boxes, grid_regions, window_boxes


def test_the_grid_is_row_by_row():
    activations = torch.randn(2, 3, 4, 5)
    regions, boxes = grid_regions(activations), cell_boxes(4, 5)
    for row in range(4):
        for column in range(5):
            at = row * 5 + column
            assert torch.equal(regions[:, at], activations[:, :, row, column])
            expected = [column / 5, row / 4, (column + 1) / 5, (row + 1) / 4]
            assert boxes[at].tolist() == pytest.approx(expected)


def test_windows_are_all_squares_of_cells():
    boxes = window_boxes(3, 4, (1, 2, 3)) * torch.tensor([4, 3, 4, 3])
    expected = [
        [left, top, left + size, top + size]
        for size in (1, 2, 3)
        for top in range(3 - size + 1)
        for left in range(4 - size + 1)
    ]
    torch.testing.assert_close(boxes, torch.tensor(expected).float())


def test_boxes_have_the_greatest_of_the_cells_that_they_overlap():
    torch.manual_seed(0)
    activations = torch.randn(3, 2, 4, 5)
    corners = torch.rand(3, 30, 2, 2).sort(2).values
    boxes = corners.flatten(2)
    found = box_regions(activations, boxes)
    for image in range(3):
        for region in range(30):
            left, top, right, bottom = boxes[image, region].tolist()
            cells = [
                activations[image, :, row, column]
                for row in range(4)
                for column in range(5)
                if left < (column + 1) / 5 and right > column / 5
                if top < (row + 1) / 4 and bottom > row / 4
            ]
            expected = torch.stack(cells).max(0).values
            assert torch.equal(found[image, region], expected)


def test_edges_points_and_no_boxes():
    activations = torch.arange(6.0).view(1, 1, 2, 3)
    cells = box_regions(activations, cell_boxes(2, 3))
    assert cells.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    corner = torch.tensor([[1.0, 1, 1, 1]])
    assert box_regions(activations, corner).item() == 5
    assert box_regions(activations, torch.zeros(0, 4)).shape == (1, 0, 1)


def test_what_does_not_fit():
    activations = torch.zeros(2, 1, 3, 3)
    with pytest.raises(ValueError, match=r"grid_regions: activations have shape \[2, 3\]"):
        grid_regions(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"boxes have shape \[3, 1, 4\]; expected"):
        box_regions(activations, torch.zeros(3, 1, 4))
    for box in ([0.5, 0, 0.4, 1], [0, 0, 1, 1.1], [-0.1, 0, 1, 1]):
        with pytest.raises(ValueError, match="box_regions: a box does not lie in the image"):
            box_regions(activations, torch.tensor([box]))
    for sizes in ((), (0,), (4,)):
        with pytest.raises(ValueError, match="expected sides from 1 to 3 cells"):
            window_boxes(3, 5, sizes)
