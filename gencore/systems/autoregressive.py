"""Autoregressive models: conditional distributions in a row, and their likelihoods."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_PIXELCNN = "models/autoregressive/test_pixelcnn.py"
_LIKELIHOODS = "nn/test_likelihoods.py"
_LOGISTIC = "ops/test_logistic_mixture.py"
_VECTORS = "models/autoregressive/test_vector_models.py"
_DARN = "models/autoregressive/test_darn.py"
_MIXTURE_DENSITY = "models/autoregressive/test_mixture_density.py"
_PIXELRNN = "models/autoregressive/test_pixelrnn.py"
_VQ = "nn/test_vector_quantizer.py"
_VQVAE = "models/autoregressive/test_vq_vae.py"
_LOSSY = "models/autoregressive/test_lossy_coder.py"
_COMPRESSION = "compression/test_models.py"
_AGAVE = "models/autoregressive/test_agave.py"
_AGAVE_RECIPE = "recipes/test_agave_recipe.py"

SYSTEMS = (
    System(
        id="M03",
        name="Mixture density network",
        source="Mathieu 2017, §2.1.1",
        implementation="gencore.models.MixtureDensityNetwork",
        test=f"{_MIXTURE_DENSITY}::test_a_mixture_of_two_is_recovered",
        further_tests=(
            f"{_MIXTURE_DENSITY}::test_the_gradient_is_the_closed_form",
            f"{_MIXTURE_DENSITY}::test_the_density_is_that_of_torch",
        ),
        notes="the sign that (2.6) lacks is there; scales are learned, or 1 as in the thesis",
    ),
    System(
        id="M04",
        name="Autoregressive factorisation",
        source="Mathieu 2017, §2.1.1",
        implementation="gencore.models.AutoregressiveVectorModel",
        test=f"{_VECTORS}::test_the_product_of_conditionals_of_short_strings_sums_to_one",
        further_tests=(f"{_VECTORS}::test_three_levels",),
    ),
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
        id="L11",
        name="VQ-VAE with an autoregressive prior",
        source="Lucas 2020, §2.10.5",
        implementation="gencore.models.VQVAE",
        further_implementations=("gencore.nn.VectorQuantizer",),
        recipe="vqvae",
        test=f"{_VQ}::TestNearest::test_indices_are_those_of_brute_force",
        further_tests=(
            f"{_VQ}::TestForward::test_gradients_are_those_of_the_formulas",
            f"{_VQ}::TestAverages::test_without_a_memory_they_are_k_means",
            f"{_VQ}::TestAverages::test_the_loss_has_the_fixed_points_of_k_means",
            f"{_VQVAE}::TestBound::test_it_is_the_likelihood_and_the_prior",
            f"{_VQVAE}::TestBound::test_all_images_of_codes_have_probability_one",
            f"{_VQVAE}::TestPrior::test_skewed_codes_take_less_than_their_logarithm",
        ),
        notes="the likelihood in (2.71) has the wrong sign; code books also by averages",
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
    System(
        id="L16",
        name="AGAVE",
        source="Lucas 2020, §3.3.3",
        implementation="gencore.models.AGAVE",
        further_implementations=("gencore.models.AuxiliaryVAE", "gencore.nn.FeatureStack"),
        test=f"{_AGAVE}::TestMarkovChains::test_information_preference",
        further_tests=(
            f"{_AGAVE}::TestMarkovChains::test_the_auxiliary_term_keeps_the_latents_in_use",
            f"{_AGAVE}::TestPixelsGivenLatents"
            "::test_parameters_depend_on_earlier_pixels_and_on_all_of_f",
            f"{_AGAVE}::TestPixelsGivenLatents::test_probabilities_of_all_images_add_up_to_one",
            f"{_AGAVE}::TestObjective::test_it_consists_of_its_terms",
            f"{_AGAVE}::TestBounds::test_what_the_bound_loses",
            f"{_AGAVE}::TestBounds::test_the_weighted_bound_grows_to_the_likelihood",
        ),
        recipe="agave",
        notes="latents are one vector; the thesis's VAE has maps of them at several scales",
    ),
    System(
        id="L17",
        name="AGAVE's baselines",
        source="Lucas 2020, §3.2",
        implementation="gencore.models.AuxiliaryPixelCNN",
        further_implementations=(
            "gencore.models.AuxiliaryVAE",
            "gencore.models.GrayscaleDecoder",
            "gencore.models.AGAVE",
        ),
        test=f"{_AGAVE_RECIPE}::TestBits::test_all_models_are_measured_alike",
        further_tests=(
            f"{_AGAVE}::TestRestrictedDecoders::test_with_few_layers_a_pixel_sees_few_pixels",
            f"{_AGAVE}::TestRestrictedDecoders::test_a_grey_decoder_does_not_see_chroma",
            f"{_AGAVE}::TestAuxiliaryPixelCNN::test_the_probabilities_of_all_pairs_add_up_to_one",
        ),
        recipe="agave",
    ),
    System(
        id="L18",
        name="Auxiliary images: fewer colours, lower resolution, grey",
        source="Lucas 2020, §3.4.5",
        implementation="gencore.models.FullResolutionTarget",
        further_implementations=(
            "gencore.models.DownSampledTarget",
            "gencore.models.GrayscaleTarget",
        ),
        test=f"{_AGAVE}::TestTargets::test_probabilities_of_all_auxiliary_images_add_up_to_one",
        further_tests=(
            f"{_AGAVE}::TestTargets::test_f_is_repeated_over_the_pixels_that_it_stands_for",
            f"{_AGAVE}::TestTargets::test_auxiliary_images_and_samples_are_multiples_of_the_bins",
            f"{_AGAVE}::TestTargets::test_what_they_keep_of_an_image",
        ),
        recipe="agave",
    ),
    System(
        id="L34",
        name="Lossless coder",
        source="Lucas 2020, §6.2.1",
        implementation="gencore.compression.compress",
        test=f"{_COMPRESSION}::test_images_come_back_from_as_many_bits_as_the_model_says",
        further_implementations=(
            "gencore.compression.decompress",
            "gencore.compression.ExactModel",
            "gencore.compression.ClassConditionalModel",
            "gencore.compression.MultiScaleModel",
            "gencore.compression.DARNModel",
            "gencore.compression.AGAVEModel",
            "gencore.compression.AuxiliaryPixelCNNModel",
            "gencore.compression.VQVAEModel",
        ),
        further_tests=(
            f"{_COMPRESSION}::test_a_model_of_equal_logits_takes_8_bits_a_value",
            f"{_COMPRESSION}::test_other_processes_threads_and_instruction_sets_decode",
            "compression/test_coder.py::test_a_stream_is_that_of_exact_arithmetic",
            "compression/test_chains.py::test_images_come_back_from_as_many_bits_as_the_parts_have",
            "compression/test_chains.py::"
            "test_images_of_darn_come_back_from_as_many_bits_as_are_not_had_back",
        ),
        notes="the thesis names no coder: it is the range coder of the package constriction, "
        "with whole-number frequencies of sum 2^24",
    ),
    System(
        id="L35",
        name="Lossy coder",
        source="Lucas 2020, §6.2.1",
        implementation="gencore.models.LossyCoder",
        further_implementations=("gencore.nn.FactorizedPrior",),
        test=f"{_LOSSY}::test_a_uniform_quantiser_is_a_quarter_bit_above_the_bound",
        further_tests=(
            f"{_LOSSY}::test_trained_coders_follow_the_bound",
            f"{_LOSSY}::test_where_errors_cost_nothing_nothing_is_coded",
            f"{_LOSSY}::test_with_all_weight_on_the_distortion_it_is_that_of_the_best_quantiser",
        ),
        notes="rates are those of ideal entropy coding",
    ),
    System(
        id="B20",
        name="Autoregressive factorisation, any ordering",
        source="Bruna, Lecture 11",
        implementation="gencore.models.AutoregressiveVectorModel",
        test=f"{_VECTORS}::test_probabilities_of_all_binary_images_sum_to_one",
        recipe="nade",
        further_tests=(
            f"{_VECTORS}::TestSamples::test_they_have_the_probabilities_of_the_model",
            f"{_VECTORS}::test_completions_of_what_comes_first_are_exact",
        ),
    ),
    System(
        id="B21",
        name="NADE, EoNADE, MADE, DARN",
        source="Bruna, Lecture 11",
        implementation="gencore.models.NADE",
        test=f"{_VECTORS}::test_the_jacobian_is_strictly_triangular_in_the_order",
        recipe="nade",
        further_implementations=(
            "gencore.models.EoNADE",
            "gencore.models.DiscreteMADE",
            "gencore.models.DARN",
        ),
        further_tests=(
            f"{_VECTORS}::TestNADE::test_the_running_sum_is_the_direct_formula",
            f"{_VECTORS}::TestEoNADE::test_the_ensemble_is_the_mean_over_orderings",
            f"{_VECTORS}::TestEoNADE::test_the_loss_is_the_mean_over_all_orders",
            f"{_VECTORS}::TestDiscreteMADE::test_the_ensemble_is_the_mean_over_masks",
            f"{_VECTORS}::TestDiscreteMADE::test_every_set_of_masks_is_triangular_in_its_order",
            f"{_DARN}::test_the_bound_is_below_the_likelihood_by_the_divergence",
            f"{_DARN}::test_the_bound_is_tight_with_the_exact_posterior",
        ),
        notes="MADE's hidden units have degrees that are spread evenly and permuted, not drawn",
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
