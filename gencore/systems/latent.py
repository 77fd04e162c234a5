"""Autoencoders whose latents have a density: VAEs, generative latent flow and its competitors."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_VAE = "models/latent/test_vae.py"
_GLF = "models/latent/test_generative_latent_flow.py"
_BASELINES = "models/latent/test_latent_baselines.py"
_DISENTANGLING = "models/latent/test_disentangling_vae.py"
_LOOK_UP = "nn/test_look_up_add.py"
_PROBE = "metrics/test_label_probe.py"
_NETWORKS = "nn/test_infogan_autoencoder.py::test_parameters_of_the_thesis"

SYSTEMS = (
    System(
        id="M28",
        name="Disentangling VAE-GAN",
        source="Mathieu 2017, §5.3",
        implementation="gencore.models.DisentanglingVAE",
        test=f"{_DISENTANGLING}::test_swaps_are_the_truth_with_the_full_objective_alone",
        recipe="disentangle",
        further_tests=(
            f"{_DISENTANGLING}::TestLoss::test_terms_are_those_of_the_algorithm",
            f"{_DISENTANGLING}::TestLoss::test_each_player_has_its_own_gradients",
        ),
        notes="the KL divergence of (5.7), which the listing of Algorithm 5.1 lacks, is included; "
        "the recipe's networks do not normalise over the batch",
    ),
    System(
        id="M29",
        name="Conditional discriminator with look-up tables",
        source="Mathieu 2017, §5.4.1",
        implementation="gencore.nn.LookUpDiscriminator",
        test=f"{_LOOK_UP}::test_the_gradient_of_the_table_is_the_sum_of_each_label",
        recipe="disentangle",
        further_implementations=("gencore.nn.LookUpAdd",),
        further_tests=(
            f"{_LOOK_UP}::test_each_table_conditions_its_own_maps",
            f"{_LOOK_UP}::test_the_discriminator_of_the_thesis",
            f"{_DISENTANGLING}::test_the_discriminator_tells_vectors_of_right_labels",
        ),
        notes="without the batch normalisation of Table 5.1",
    ),
    System(
        id="M30",
        name="Swaps, retrieval, interpolation and samples of disentangled codes",
        source="Mathieu 2017, §5.4",
        implementation="gencore.models.DisentanglingVAE",
        test=f"{_DISENTANGLING}::TestCodes::test_what_is_swapped_with_itself_is_reconstructed",
        recipe="disentangle",
        further_tests=(
            f"{_DISENTANGLING}::TestCodes::test_corners_of_a_plane_are_reconstructions_and_swaps",
            f"{_DISENTANGLING}::TestCodes::test_the_nearest_to_a_data_point_is_itself",
            f"{_DISENTANGLING}::TestCodes::test_parts_of_samples_are_those_of_the_whole",
        ),
    ),
    System(
        id="M31",
        name="Leakage probe of codes",
        source="Mathieu 2017, §5.4.6",
        implementation="gencore.metrics.label_probe_error",
        test=f"{_DISENTANGLING}::test_s_tells_the_class_and_a_drawn_z_does_not",
        recipe="disentangle",
        further_tests=(
            f"{_PROBE}::test_noise_tells_nothing",
            f"{_PROBE}::test_the_error_of_a_noisy_code_is_that_of_bayes",
            f"{_PROBE}::test_what_is_no_line_is_found",
        ),
        notes="the thesis does not say whether it probes the mean of z or a draw of it; the recipe "
        "measures both",
    ),
    System(
        id="Y16",
        name="VAE with a flow prior",
        source="Yan 2022, §3.2.2",
        implementation="gencore.models.VAE",
        test=f"{_VAE}::TestBounds::test_the_identity_as_a_flow_is_the_standard_prior",
        recipe="glf",
        further_implementations=("gencore.nn.InfoGANEncoder", "gencore.nn.InfoGANDecoder"),
        further_tests=(
            f"{_VAE}::TestBounds::test_with_the_exact_posterior_every_draw_is_the_likelihood",
            f"{_VAE}::TestBounds::test_so_it_is_with_the_prior_of_a_flow",
            f"{_VAE}::TestLoss::test_the_weight_of_the_reconstruction_is_a_precision",
            _NETWORKS,
        ),
        notes="β is the weight of the reconstruction, 1/σ²; the printed decoder of Table 3.6 ends "
        "with 128 channels, ours with those of the images",
    ),
    System(
        id="Y17",
        name="Regularised generative latent flow",
        source="Yan 2022, §3.2.3",
        implementation="gencore.models.GenerativeLatentFlow",
        test=f"{_GLF}::TestDegeneracy::test_smaller_codes_gain_the_logarithm_of_their_scale",
        recipe="glf",
        further_tests=(
            f"{_GLF}::TestGradients::test_the_density_moves_the_encoder_only_where_it_regularises",
            f"{_GLF}::test_the_limit_of_a_narrow_posterior_is_the_regularised_loss",
        ),
    ),
    System(
        id="Y18",
        name="Generative latent flow",
        source="Yan 2022, §3.2.3",
        implementation="gencore.models.GenerativeLatentFlow",
        test=f"{_GLF}::TestGradients::test_the_density_moves_the_encoder_only_where_it_regularises",
        recipe="glf",
        further_tests=(
            f"{_GLF}::TestGradients::test_one_stage_has_the_gradients_of_two",
            f"{_GLF}::TestDegeneracy::test_the_fitted_flow_reaches_the_entropy_of_a_gaussian",
            f"{_GLF}::test_noise_of_data_reconstructs_them",
        ),
    ),
    System(
        id="Y19",
        name="Perceptual generative latent flow",
        source="Yan 2022, §3.2.4",
        implementation="gencore.models.GenerativeLatentFlow",
        test=f"{_GLF}::TestPerceptualDistance::test_the_network_of_the_features_is_frozen",
        recipe="glf",
        further_implementations=("gencore.nn.PerceptualDistance",),
        further_tests=(
            f"{_GLF}::TestPerceptualDistance::test_it_is_the_mean_difference_at_each_depth",
        ),
        notes="the recipe's features are those of a classifier of the data's labels, not of VGG",
    ),
    System(
        id="Y20",
        name="WAE-GAN, two-stage VAE, RAE + GMM",
        source="Yan 2022, §3.2.6",
        implementation="gencore.models.WAEGAN",
        test=f"{_BASELINES}::TestWAEGAN::test_the_adversary_of_the_thesis",
        recipe="glf",
        further_implementations=(
            "gencore.models.TwoStageVAE",
            "gencore.models.RegularisedAutoencoder",
            "gencore.models.GaussianMixture",
        ),
        further_tests=(
            f"{_BASELINES}::TestWAEGAN"
            "::test_the_best_adversary_measures_the_jensen_shannon_divergence",
            f"{_BASELINES}::TestTwoStageVAE::test_samples_are_those_of_the_hierarchy",
            f"{_BASELINES}::TestRegularisedAutoencoder::test_the_gradient_of_the_penalty",
            f"{_BASELINES}::TestGaussianMixture::test_each_step_of_the_fit_gains_likelihood",
        ),
        notes="the mixture is fitted by scikit-learn",
    ),
)
