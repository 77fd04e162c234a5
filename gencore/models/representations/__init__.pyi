from gencore.models.representations.patch_pairs import (
    PatchPairs,
    draw_patch_pairs,
    project_colours,
)
from gencore.models.representations.relative_patches import RelativePatches, patch_encoder
from gencore.models.representations.slow_features import SlowFeatures, quadratic_expansion

__all__ = [
    "PatchPairs",
    "RelativePatches",
    "SlowFeatures",
    "draw_patch_pairs",
    "patch_encoder",
    "project_colours",
    "quadratic_expansion",
]
