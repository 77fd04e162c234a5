from gencore.objectives.transport.divergence import sinkhorn_divergence
from gencore.objectives.transport.exact import exact_transport_cost
from gencore.objectives.transport.one_dimension import wasserstein_1d
from gencore.objectives.transport.potentials import (
    ConvergenceWarning,
    SinkhornPotentials,
    sinkhorn_potentials,
)
from gencore.objectives.transport.sliced import sliced_wasserstein

__all__ = [
    "ConvergenceWarning",
    "SinkhornPotentials",
    "exact_transport_cost",
    "sinkhorn_divergence",
    "sinkhorn_potentials",
    "sliced_wasserstein",
    "wasserstein_1d",
]
