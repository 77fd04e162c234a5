"""Detection of data from elsewhere (out of distribution)."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_REGRET = "models/latent/test_likelihood_regret.py"
_NOVELTY = "metrics/test_novelty_scores.py"

SYSTEMS = (
    System(
        id="Y25",
        name="Likelihood regret",
        source="Yan 2022, §4.2.3",
        implementation="gencore.models.likelihood_regret",
        test=f"{_REGRET}::TestLinearModels::test_y25_the_regret_is_a_difference_of_divergences",
        further_tests=(
            f"{_REGRET}::TestLinearModels::"
            "test_y25_the_regret_is_not_negative_and_vanishes_with_more_samples",
            f"{_REGRET}::TestWhatItLeavesAlone::test_y25_y26_model_and_data_keep_their_bits",
            f"{_REGRET}::test_each_data_point_steps_as_by_torch_alone",
        ),
        notes='"latents" is LR_Z, "encoder" LR_E; K is an argument, which the source does not '
        "state; docs/out-of-distribution.md has figures",
    ),
    System(
        id="Y26",
        name="Likelihood regret of the decoder, and of both networks",
        source="Yan 2022, §4.2.4",
        implementation="gencore.models.likelihood_regret",
        test=f"{_REGRET}::test_y26_a_decoder_that_adapts_fits_the_data_themselves",
        further_tests=(
            f"{_REGRET}::TestWhatItLeavesAlone::test_y25_y26_model_and_data_keep_their_bits",
            f"{_REGRET}::TestWhatItLeavesAlone::test_y26_scores_do_not_depend_on_the_other_data",
        ),
        notes='"decoder" is LR_D, "both" LR_ED: ablations',
    ),
    System(
        id="Y27",
        name="Input complexity, likelihood ratio and latent Mahalanobis distance",
        source="Yan 2022, §4.2.6",
        implementation="gencore.metrics.complexity_score",
        further_implementations=(
            "gencore.metrics.compressed_bits",
            "gencore.metrics.likelihood_ratio_score",
            "gencore.data.mutate_pixels",
            "gencore.metrics.LatentNovelty",
            "gencore.metrics.MahalanobisDistance",
        ),
        test=f"{_NOVELTY}::TestCompression::test_y27_constants_take_far_fewer_bits_than_noise",
        further_tests=(
            f"{_NOVELTY}::TestCorrectedLikelihoods::test_y27_complexity_is_in_bits",
            f"{_NOVELTY}::TestCorrectedLikelihoods::test_y27_equal_models_have_a_ratio_of_0",
            f"{_NOVELTY}::TestMahalanobis::test_y27_the_mean_square_is_the_dimension",
            f"{_NOVELTY}::TestNovelty::test_y27_both_terms_have_one_spread",
            "data/test_made_images.py::TestMutation::test_values_change_at_the_rate_that_is_said",
        ),
        notes="of any likelihoods, those of flows and pixel models too; files by Pillow",
    ),
    System(
        id="Y29",
        name="Images of noise and of constants",
        source="Yan 2022, §4.2.6",
        implementation="gencore.data.noise_images",
        further_implementations=("gencore.data.constant_images",),
        test="data/test_made_images.py::"
        "test_y29_noise_has_a_uniform_histogram_and_constants_no_variance",
        further_tests=(
            "data/test_made_images.py::test_images_are_functions_of_their_number_and_the_key",
        ),
    ),
)
