"""Representations that are learned without labels."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_SLOW = "models/representations/test_slow_features.py"
_PATCHES = "models/representations/test_relative_patches.py"

SYSTEMS = (
    System(
        id="B25",
        name="Slow feature analysis",
        source="Bruna, lecture 11",
        implementation="gencore.models.SlowFeatures",
        test=f"{_SLOW}::test_b25_slow_sources_come_back_up_to_sign_and_in_order",
        further_tests=(
            f"{_SLOW}::test_b25_features_have_unit_variance_and_no_correlation_and_are_in_order",
            f"{_SLOW}::test_b25_a_slow_latent_of_a_quadratic_mixture",
            f"{_SLOW}::test_the_slowness_of_sinusoids_is_known",
        ),
    ),
    System(
        id="B26",
        name="Relative patch configuration",
        source="Bruna, lecture 11",
        implementation="gencore.models.RelativePatches",
        test=f"{_PATCHES}::test_b26_above_chance_on_photographs",
        recipe="patches",
        further_implementations=("gencore.models.draw_patch_pairs",),
        further_tests=(
            f"{_PATCHES}::test_b26_chance_on_noise",
            f"{_PATCHES}::TestPairs::test_positions_gaps_and_jitter",
        ),
        notes="Faces of 25x25 pixels in place of ImageNet; of patches of other photographs chance "
        "is all that a few minutes reach.",
    ),
)
