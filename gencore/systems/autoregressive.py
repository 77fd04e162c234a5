"""Autoregressive models."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_PIXELCNN = "models/autoregressive/test_pixelcnn.py"

SYSTEMS = (
    System(
        id="L07",
        name="PixelCNN",
        source="Lucas 2020, §2.8",
        implementation="gencore.models.PixelCNN",
        further_implementations=("gencore.models.receptive_field",),
        recipe="pixelcnn",
        test=f"{_PIXELCNN}::TestCausality::test_nothing_sees_what_comes_later",
        further_tests=(
            f"{_PIXELCNN}::TestNormalisation::test_all_binary_images_add_up_to_one",
            f"{_PIXELCNN}::TestSampling::test_both_methods_make_the_same_choices",
            f"{_PIXELCNN}::TestBlindSpot::test_a_stack_of_masked_convolutions_has_one",
        ),
    ),
    System(
        id="B23",
        name="PixelCNN",
        source="Bruna, Lecture 11",
        implementation="gencore.models.GatedPixelCNN",
        further_implementations=("gencore.models.PixelCNN", "gencore.models.PixelCNNPlusPlus"),
        recipe="pixelcnn",
        test=f"{_PIXELCNN}::TestCausality::test_nothing_sees_what_comes_later",
        further_tests=(
            f"{_PIXELCNN}::TestCausality::test_several_resolutions_see_all_that_comes_before",
            f"{_PIXELCNN}::TestNormalisation::test_channels_and_levels_add_up_to_one",
            f"{_PIXELCNN}::TestBlindSpot::test_two_stacks_have_none",
        ),
    ),
)
