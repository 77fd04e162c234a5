from gencore.models.ebm.energy_networks import ConvEnergy, ConvEnergyName
from gencore.models.ebm.flow_ebm import FlowEBM
from gencore.models.ebm.names import FlowObjective
from gencore.models.ebm.short_run_ebm import (
    DivergenceError,
    ShortRunEBM,
    ShortRunLoss,
    check_divergence,
    contrastive_loss,
)

__all__ = [
    "ConvEnergy",
    "ConvEnergyName",
    "DivergenceError",
    "FlowEBM",
    "FlowObjective",
    "ShortRunEBM",
    "ShortRunLoss",
    "check_divergence",
    "contrastive_loss",
]
