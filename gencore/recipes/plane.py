"""What recipes on densities of the plane share: fresh points, measures on a grid, the figure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gencore.data.names import DensityName
from gencore.train import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from gencore.data import Density
    from gencore.train import BatchSource

__all__ = ["PlaneRecipe"]


@dataclass(kw_only=True)
class PlaneRecipe(Recipe):
    """A recipe whose data are drawn anew for every step from a density of the plane."""

    density: DensityName = "grid9"
    """The density that the data are drawn from."""

    grid_size: int = 100
    """Cells along a side of the grid that measures densities."""

    changeable = frozenset({"steps", "grid_size"})
    figure_samples = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid_size < 3:
            raise ValueError(
                f"{type(self).__name__}: grid_size is {self.grid_size}; expected at least 3"
            )

    def load_data(self) -> "Density":
        from gencore.data import load_density

        return load_density(self.density)

    def batches(self, fabric: "Fabric", dataset: "Density") -> "BatchSource":
        from gencore.recipes.plane_experiment import DensityBatches

        return DensityBatches(
            dataset,
            self.batch_size,
            seed=self.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            device=fabric.device,
        )
