from gencore.models.video.linearizing_autoencoder import (
    Code,
    LinearizingAutoencoder,
    LinearizingLoss,
    PhaseCode,
    SiameseAutoencoder,
)

__all__ = [
    "Code",
    "LinearizingAutoencoder",
    "LinearizingLoss",
    "PhaseCode",
    "SiameseAutoencoder",
]
