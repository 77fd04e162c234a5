"""Grid cells: vectors of places that steps rotate and that place cells read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gencore.models.grid_cells.names import GridTransformName
from gencore.train import OptimisedRecipe, UsedBy, used_by

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import PlaceLattice
    from gencore.recipes.grid_cells.gridcells_experiment import GridCellsExperiment
    from gencore.train import BatchSource

__all__ = ["GridCellsRecipe", "PathName"]

PathName: TypeAlias = Literal["lattice", "free", "rat"]
"""Paths that are measured: from place to place of the lattice, any, or parts of a rat's."""

_USED_BY: dict[str, UsedBy] = {
    "num_directions": used_by(transform=("lie",)),
    "order": used_by(transform=("lie",)),
    "skew": used_by(transform=("lie",)),
    "hidden": used_by(transform=("network",)),
    "halve_every": UsedBy("freeze_step", lambda fields: fields["freeze_step"] is not None),
}
# 144 directions of 625 samples are the thesis's 90,000 a step.
_GAO_2021: dict[str, Any] = {
    "num_modules": 16, "module_size": 12, "batch_size": 144, "samples": 625, "steps": 14_000,
    "learning_rate": 3e-3, "schedule": "constant", "freeze_step": 8000, "halve_every": 500,
}  # fmt: skip

_PRESETS: dict[str, dict[str, Any]] = {
    "gao2021": _GAO_2021,
    "gao2021-no-isotropy": {**_GAO_2021, "isotropy_weight": 0.0},
    "gao2021-signed-readout": {**_GAO_2021, "excitatory": False},
    "gao2021-no-skew": {**_GAO_2021, "skew": False},
    "gao2021-blocks16": {**_GAO_2021, "num_modules": 12, "module_size": 16},
    "gao2021-blocks24": {**_GAO_2021, "num_modules": 8, "module_size": 24},
    "gao2021-blocks32": {**_GAO_2021, "num_modules": 6, "module_size": 32},
    "gao2021-blocks64": {**_GAO_2021, "num_modules": 3, "module_size": 64},
    "gao2021-one-block": {**_GAO_2021, "num_modules": 1, "module_size": 192},
}


@dataclass(kw_only=True)
class GridCellsRecipe(OptimisedRecipe):
    """Grid cells, learned from place fields, rotations by steps, and isotropy.

    The defaults take about two minutes of one CPU core, and make no hexagons to speak of.
    """

    used_by = _USED_BY

    lattice_size: int = 40
    """Places along a side of the square, which is a metre long."""

    num_modules: int = 8
    """Modules of units, each with rotations of its own."""

    module_size: int = 12
    """Units of a module."""

    sigma: float = 0.07
    """Width of place fields, in metres."""

    max_step: float = 3.0
    """The longest step that is learned, in lattice spacings."""

    transform: GridTransformName = "lie"
    """What a step does to vectors: rotations of a Lie group, or a network."""

    num_directions: int = 144
    """Directions of the circle that have matrices of their own."""

    order: int | None = 2
    """Terms of the exponential's series that a step takes; none for the exact exponential."""

    skew: bool = True
    """Keep the matrices antisymmetric, so that steps rotate."""

    hidden: int = 32
    """Width of the hidden layer of the networks, one a module."""

    excitatory: bool = True
    """Keep the weights from grid cells to place cells from being negative."""

    transformation_weight: float = 0.03
    """Weight of the loss of steps, beside that of place fields."""

    isotropy_weight: float = 0.03
    """Weight of the loss of isotropy, of speeds in units of one over the longest step."""

    readout_weight: float = 1e-5
    """Weight of the mean square length of the weights to a place cell."""

    batch_size: int = 48
    """Directions in one step, over all devices together."""

    samples: int = 6
    """Samples of each direction in one step."""

    steps: int = 3000
    """Optimisation steps of the whole run."""

    learning_rate: float = 0.02
    """Learning rate of Adam, after the warm-up."""

    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """The learning rate after the warm-up: constant, or falling to 0 after the last step, in a line
    or in half a cosine."""

    freeze_step: int | None = None
    """From this step on the vectors of places stay, and only the rest learns; without it never."""

    halve_every: int | None = None
    """Steps, after those before the vectors stay, in which the learning rate halves."""

    paths: tuple[PathName, ...] = ("lattice", "free")
    """Paths on which path integration is measured: lattice, free, rat (needs gencore[data])."""

    path_steps: int = 50
    """Steps of a path."""

    changeable = frozenset({"steps", "paths", "path_steps"})
    tunable = frozenset(
        {
            "learning_rate", "warmup_steps", "max_grad_norm", "ema_decay", "transformation_weight",
            "isotropy_weight", "readout_weight",
        }
    )  # fmt: skip
    presets = _PRESETS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive(
            "num_modules", "module_size", "sigma", "max_step", "num_directions", "hidden",
            "samples", "path_steps",
        )  # fmt: skip
        self.check_not_negative("transformation_weight", "isotropy_weight", "readout_weight")
        for name in ("order", "freeze_step", "halve_every"):
            if getattr(self, name) is not None:
                self.check_positive(name)
        if self.lattice_size < 8:
            raise ValueError(
                f"GridCellsRecipe: lattice_size is {self.lattice_size}; expected at least 8"
            )
        if not self.max_step < self.lattice_size - 1:
            raise ValueError(
                f"GridCellsRecipe: max_step is {self.max_step}; expected less than the square's "
                f"{self.lattice_size - 1} spacings"
            )
        if "lattice" in self.paths and self.max_step < 1:
            raise ValueError(
                f"GridCellsRecipe: max_step is {self.max_step}, which reaches no place: expected "
                "at least 1 with lattice paths"
            )

    def load_data(self) -> "PlaceLattice":
        from gencore.data import PlaceLattice

        return PlaceLattice(self.lattice_size)

    def batches(self, fabric: "Fabric", dataset: "PlaceLattice") -> "BatchSource":
        from gencore.recipes.grid_cells.gridcells_experiment import DirectionBatches

        return DirectionBatches(
            self.batch_size,
            seed=self.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            device=fabric.device,
        )

    def build(self, fabric: "Fabric", dataset: "PlaceLattice") -> "GridCellsExperiment":
        from gencore.recipes.grid_cells.gridcells_experiment import GridCellsExperiment

        return GridCellsExperiment(self, fabric, dataset)
