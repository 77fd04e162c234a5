from gencore.models.grid_cells.conformality import Conformality, composition_error, conformality
from gencore.models.grid_cells.error_correction import (
    drop_units,
    expected_position_error,
    perturb_units,
    project_position,
)
from gencore.models.grid_cells.grid_cells import GridCellLoss, GridCells, GridTransform
from gencore.models.grid_cells.hexagon_code import HexagonCode
from gencore.models.grid_cells.lie_transform import LieTransform, lie_step
from gencore.models.grid_cells.names import DecodeBy, GridTransformName
from gencore.models.grid_cells.network_transform import NetworkTransform
from gencore.models.grid_cells.path_integration import PlaceCode, integrate_path
from gencore.models.grid_cells.place_readout import decode_place, least_squares_readout

__all__ = [
    "Conformality",
    "DecodeBy",
    "GridCellLoss",
    "GridCells",
    "GridTransform",
    "GridTransformName",
    "HexagonCode",
    "LieTransform",
    "NetworkTransform",
    "PlaceCode",
    "composition_error",
    "conformality",
    "decode_place",
    "drop_units",
    "expected_position_error",
    "integrate_path",
    "least_squares_readout",
    "lie_step",
    "perturb_units",
    "project_position",
]
