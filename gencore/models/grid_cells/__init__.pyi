from gencore.models.grid_cells.grid_cells import GridCellLoss, GridCells, GridTransform
from gencore.models.grid_cells.lie_transform import LieTransform, lie_step
from gencore.models.grid_cells.names import DecodeBy, GridTransformName
from gencore.models.grid_cells.place_readout import decode_place, least_squares_readout

__all__ = [
    "DecodeBy",
    "GridCellLoss",
    "GridCells",
    "GridTransform",
    "GridTransformName",
    "LieTransform",
    "decode_place",
    "least_squares_readout",
    "lie_step",
]
