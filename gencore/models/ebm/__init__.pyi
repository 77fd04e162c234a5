from gencore.models.ebm.autoencoder_ebm import AutoencoderEBM, AutoencoderLoss
from gencore.models.ebm.autoencoder_energy import AutoencoderEnergy
from gencore.models.ebm.energy_classifier import EnergyClassifier
from gencore.models.ebm.energy_density import EnergyDensity
from gencore.models.ebm.energy_networks import ConvEnergy, ConvEnergyName
from gencore.models.ebm.flow_ebm import FlowEBM
from gencore.models.ebm.multi_grid_ebm import MultiGridEBM, MultiGridLoss
from gencore.models.ebm.names import FlowObjective, MultiGridName
from gencore.models.ebm.short_run_ebm import ShortRunEBM
from gencore.models.ebm.strided_conv_energy import ConvLayer, StridedConvEnergy
from gencore.objectives.contrastive import (
    DivergenceError,
    ShortRunLoss,
    check_divergence,
    contrastive_loss,
)

__all__ = [
    "AutoencoderEBM",
    "AutoencoderEnergy",
    "AutoencoderLoss",
    "ConvEnergy",
    "ConvEnergyName",
    "ConvLayer",
    "DivergenceError",
    "EnergyClassifier",
    "EnergyDensity",
    "FlowEBM",
    "FlowObjective",
    "MultiGridEBM",
    "MultiGridLoss",
    "MultiGridName",
    "ShortRunEBM",
    "ShortRunLoss",
    "StridedConvEnergy",
    "check_divergence",
    "contrastive_loss",
]
