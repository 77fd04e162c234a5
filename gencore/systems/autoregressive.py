"""Autoregressive models."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_PIXELCNN = "models/autoregressive/test_pixelcnn.py"
_PIXELRNN = "models/autoregressive/test_pixelrnn.py"

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
    System(
        id="B22",
        name="PixelRNN",
        source="Bruna, Lecture 11",
        implementation="gencore.models.PixelRNN",
        further_implementations=(
            "gencore.models.MultiScalePixelRNN",
            "gencore.nn.RowLSTM",
            "gencore.nn.DiagonalBiLSTM",
        ),
        recipe="pixelrnn",
        test=f"{_PIXELRNN}::test_a_pixel_sees_no_later_level",
        further_tests=(
            f"{_PIXELRNN}::test_a_row_lstm_sees_a_triangle",
            f"{_PIXELRNN}::test_a_diagonal_bilstm_equals_a_loop_over_pixels",
            f"{_PIXELRNN}::test_probabilities_of_all_images_sum_to_one",
            f"{_PIXELRNN}::test_probabilities_of_all_images_of_two_scales_sum_to_one",
            f"{_PIXELRNN}::test_incremental_samples_are_the_naive_ones",
        ),
        notes="a column after the image, without which the diagonal LSTMs have a blind spot; the "
        "large scale is a distribution of the pixels that the small one does not have",
    ),
)
