from gencore.models.autoregressive.darn import DARN
from gencore.models.autoregressive.eonade import EoNADE
from gencore.models.autoregressive.made import DiscreteMADE
from gencore.models.autoregressive.mixture_density import (
    Covariance,
    GaussianMixtures,
    MixtureDensityNetwork,
)
from gencore.models.autoregressive.nade import NADE
from gencore.models.autoregressive.vectors import AutoregressiveVectorModel, VectorModel

__all__ = [
    "DARN",
    "NADE",
    "AutoregressiveVectorModel",
    "Covariance",
    "DiscreteMADE",
    "EoNADE",
    "GaussianMixtures",
    "MixtureDensityNetwork",
    "VectorModel",
]
