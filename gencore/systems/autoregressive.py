"""Autoregressive models, and the likelihoods of discrete pixels."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_PIXELCNN = "models/autoregressive/test_pixelcnn.py"
_LIKELIHOODS = "nn/test_likelihoods.py"
_LOGISTIC = "ops/test_logistic_mixture.py"

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
        id="L14",
        name="Discretised logistic, mixture of them, and quantised bins",
        source="Lucas 2020, §2.12.2 and 3.4.1",
        implementation="gencore.nn.DiscretizedLogisticMixture",
        further_implementations=(
            "gencore.nn.DiscretizedLogistic",
            "gencore.nn.QuantizedLogistic",
            "gencore.nn.Categorical",
        ),
        test=f"{_LOGISTIC}::test_probabilities_sum_to_one",
        further_tests=(
            f"{_LOGISTIC}::test_probabilities_of_a_mixture_sum_to_one",
            f"{_LOGISTIC}::test_a_coarse_bin_is_the_sum_of_its_fine_ones",
            f"{_LOGISTIC}::test_bins_of_one_level_are_the_centred_ones_half_a_level_lower",
            f"{_LOGISTIC}::test_one_component_is_a_single_logistic",
            f"{_LOGISTIC}::test_far_from_the_mean",
            f"{_LOGISTIC}::test_extreme_scales",
            f"{_LIKELIHOODS}::TestLikelihoods::test_is_the_product_of_its_conditionals",
            f"{_LIKELIHOODS}::TestLikelihoods::test_draws_have_the_probabilities",
        ),
        notes="the bins at the ends are open, so that the probabilities sum to one",
    ),
)
