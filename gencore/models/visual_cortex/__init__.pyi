from gencore.models.visual_cortex.displacement_inference import (
    DisplacementObjective,
    descend_displacements,
)
from gencore.models.visual_cortex.motion_costs import motion_costs
from gencore.models.visual_cortex.motion_energy import align_step, complex_energy, motion_energy
from gencore.models.visual_cortex.motion_matrices import (
    RotationMotion,
    TableMotion,
    TaylorMotion,
    displacement_lattice,
)
from gencore.models.visual_cortex.simple_cells import SimpleCells, SimpleCellsLoss, fourier_cells
from gencore.models.visual_cortex.tight_frame import TightFrame

__all__ = [
    "DisplacementObjective",
    "RotationMotion",
    "SimpleCells",
    "SimpleCellsLoss",
    "TableMotion",
    "TaylorMotion",
    "TightFrame",
    "align_step",
    "complex_energy",
    "descend_displacements",
    "displacement_lattice",
    "fourier_cells",
    "motion_costs",
    "motion_energy",
]
