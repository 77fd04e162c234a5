"""Models with latents: autoencoders, VAEs, generative latent flow, mixtures, probabilistic PCA."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_VAE = "models/latent/test_vae.py"
_PARTS = "models/latent/test_vae_parts.py"
_TOP_DOWN = "models/latent/test_top_down_vae.py"
_BOUNDS = "models/latent/test_importance_bounds.py"
_GRADIENTS = "models/latent/test_bound_gradients.py"
_SCORE = "objectives/test_score_function.py"
_VLO = "models/latent/test_vlo.py"
_GLO = "models/latent/test_glo_and_wae_mmd.py"
_ROWS = "inference/test_latent_optimisation.py"
_GLF = "models/latent/test_generative_latent_flow.py"
_BASELINES = "models/latent/test_latent_baselines.py"
_MIXTURE = "models/latent/test_gaussian_mixture.py"
_PPCA = "models/latent/test_probabilistic_pca.py"
_AUTOENCODER = "models/latent/test_autoencoder.py"
_PREDICTION = "objectives/test_latent_prediction.py"
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
            f"{_DISENTANGLING}::TestBounds::test_many_latents_reach_the_density_given_s",
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
        id="M32",
        name="Ablation of swaps: joint training, a frozen f_s, no adversary",
        source="Mathieu 2017, §5.4.6",
        implementation="gencore.models.DisentanglingVAE",
        test=f"{_DISENTANGLING}::test_the_ablation_has_the_order_of_the_thesis",
        further_tests=(f"{_DISENTANGLING}::test_joint_training_swaps_best",),
        notes="the order alone, on points whose swaps are known in the place of Sprites, with a KL "
        "weight that leaves the label in z; its tests train for minutes: marked long, with their "
        "results in docs/disentangling.md",
    ),
    System(
        id="M07",
        name="Variational autoencoder",
        source="Mathieu 2017, §2.1.3.1",
        implementation="gencore.models.VAE",
        test=f"{_VAE}::TestBounds::test_with_the_exact_posterior_every_draw_is_the_likelihood",
        recipe="vae",
        further_tests=(
            f"{_VAE}::TestBounds::test_the_bound_is_below_the_likelihood_by_the_divergence",
            f"{_PARTS}::TestViews::test_they_are_those_of_torch",
            f"{_PARTS}::TestExtremes::test_the_divergence_is_not_negative_near_zero",
        ),
        notes="log p(x, z) of the source's (2.19) is to be log p(x | z)",
    ),
    System(
        id="Y01",
        name="Variational autoencoder and its bound",
        source="Yan 2022, §2.1.2, (2.1)",
        implementation="gencore.models.VAE",
        test=f"{_VAE}::TestBounds::test_with_the_exact_posterior_every_draw_is_the_likelihood",
        recipe="vae",
        further_implementations=("gencore.models.LevelLikelihood", "gencore.models.FlowPosterior"),
        further_tests=(
            f"{_PARTS}::TestPosteriorFlow::test_a_step_reaches_what_no_diagonal_gaussian_can",
            f"{_PARTS}::TestPriors::test_the_bound_of_one_latent_is_exact_by_quadrature",
            f"{_PARTS}::TestLevels::test_the_images_have_probability_one",
            f"{_PARTS}::TestFreeBits::test_a_latent_below_them_is_not_pressed",
        ),
    ),
    System(
        id="Y02",
        name="Importance-weighted autoencoder",
        source="Yan 2022, §2.1.2, (2.2)",
        implementation="gencore.models.VAE",
        test=f"{_BOUNDS}::test_it_grows_with_the_samples_towards_the_likelihood",
        recipe="vae",
        further_tests=(
            f"{_VAE}::TestBounds::test_with_the_exact_posterior_every_draw_is_the_likelihood",
            f"{_BOUNDS}::test_chunks_have_the_value_and_the_gradient_of_the_whole",
            f"{_BOUNDS}::test_large_weights_do_not_overflow",
        ),
    ),
    System(
        id="Y03",
        name="Variances of score-function and reparametrised gradients",
        source="Yan 2022, §2.1.5",
        implementation="gencore.objectives.estimator_variances",
        test="objectives/test_gradient_estimators.py::test_the_ratios_of_the_theorem_hold",
        recipe="vae",
        further_implementations=("gencore.objectives.score_function_surrogate",),
        further_tests=(
            "objectives/test_gradient_estimators.py::test_they_are_those_of_quadrature_and_both_estimators_are_unbiased",
            f"{_SCORE}::test_it_is_unbiased_with_any_baseline",
            f"{_SCORE}::test_leaving_one_out_takes_variance_away",
        ),
    ),
    System(
        id="Y04",
        name="Optimisation trick: the best Gaussian posterior of a data point",
        source="Yan 2022, §2.1.6, (2.5)",
        implementation="gencore.inference.optimise_posterior",
        test=f"{_ROWS}::test_the_optimisation_trick_finds_the_best_diagonal_gaussian",
        further_implementations=("gencore.models.infer_posterior",),
    ),
    System(
        id="Y05",
        name="Variational latent optimisation",
        source="Yan 2022, §2.1.7, Algorithm 1",
        implementation="gencore.models.VLO",
        test=f"{_VLO}::test_rows_converge_to_the_best_diagonal_posteriors",
        recipe="vae",
        further_implementations=("gencore.inference.DataLatents", "gencore.models.pca_posterior"),
        further_tests=(
            f"{_VLO}::test_a_step_moves_its_rows_and_gives_the_decoder_alone_gradients",
            f"{_VLO}::test_the_start_is_that_of_principal_components",
            f"{_ROWS}::TestDataLatents::test_rows_out_of_the_batch_keep_their_bits",
            "recipes/test_vae_recipe.py::TestLatentsOfImages"
            "::test_two_processes_compute_what_one_computes",
            "recipes/test_vlo_sizes.py::test_without_an_encoder_few_data_are_enough",
        ),
        notes="the last test trains for minutes: marked long, with its result in docs/vae.md",
    ),
    System(
        id="L04",
        name="Variational autoencoder: divergence and gradient estimators",
        source="Lucas 2020, §2.5.2, §2.10.1",
        implementation="gencore.models.VAE",
        test=f"{_BOUNDS}"
        "::test_both_estimators_of_the_gradient_have_the_exact_mean_and_one_less_variance",
        recipe="vae",
        further_implementations=("gencore.objectives.score_function_surrogate",),
        further_tests=(
            f"{_GRADIENTS}::TestElbo::test_its_mean_is_the_gradient_of_the_closed_form",
            f"{_GRADIENTS}::TestElbo::test_there_is_no_noise_at_the_posterior",
            f"{_VAE}::TestBounds::test_the_bound_is_below_the_likelihood_by_the_divergence",
            f"{_PARTS}::TestViews::test_they_are_those_of_torch",
        ),
    ),
    System(
        id="L08",
        name="Top-down (ladder) hierarchical VAE",
        source="Lucas 2020, §2.10.2",
        implementation="gencore.models.TopDownVAE",
        test=f"{_TOP_DOWN}::TestOneLevel::test_it_is_the_vae_draw_by_draw",
        recipe="vae",
        further_implementations=("gencore.models.VectorLevel", "gencore.models.ConvLevel"),
        further_tests=(
            f"{_TOP_DOWN}::TestChain::test_with_the_exact_posterior_every_draw_is_the_likelihood",
            f"{_TOP_DOWN}::TestDivergence::test_levels_sum_to_that_of_all_latents",
        ),
        notes="the source's two orders of levels are one here, the top first",
    ),
    System(
        id="L10",
        name="Importance-weighted bound",
        source="Lucas 2020, §2.10.4, (2.64)-(2.68)",
        implementation="gencore.models.VAE",
        test=f"{_BOUNDS}::test_it_grows_with_the_samples_towards_the_likelihood",
        recipe="vae",
        further_tests=(
            f"{_BOUNDS}::test_the_gradient_is_that_of_the_weights_by_their_shares",
            f"{_GRADIENTS}::TestImportanceWeighted::test_its_mean_is_the_gradient_by_quadrature",
            f"{_GRADIENTS}::TestImportanceWeighted"
            "::test_its_signal_does_not_sink_into_noise_with_more_samples",
        ),
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
            f"{_BASELINES}::TestTwoStageVAE"
            "::test_with_the_exact_posteriors_every_weight_is_the_likelihood",
            f"{_BASELINES}::TestRegularisedAutoencoder::test_the_gradient_of_the_penalty",
            f"{_BASELINES}::TestGaussianMixture::test_each_step_of_the_fit_gains_likelihood",
        ),
        notes="the mixture's fit starts from scikit-learn's k-means",
    ),
    System(
        id="L01",
        name="Gaussian mixture",
        source="Lucas 2020, §2.3",
        implementation="gencore.models.GaussianMixture",
        test=f"{_MIXTURE}::TestEveryCovariance::test_no_step_of_the_fit_loses_likelihood",
        recipe="toymixture",
        further_tests=(
            f"{_MIXTURE}::TestEveryCovariance::test_it_integrates_to_one",
            f"{_MIXTURE}::TestEveryCovariance::test_gradients",
            f"{_MIXTURE}::TestEveryCovariance::test_the_fit_is_where_gradients_end",
            f"{_MIXTURE}::test_it_is_that_of_scikit_learn",
            f"{_MIXTURE}::test_little_variance_and_equal_weights_are_k_means",
        ),
        notes='(2.6) is the covariance "tied_spherical"',
    ),
    System(
        id="L02",
        name="Probabilistic PCA",
        source="Lucas 2020, §2.3",
        implementation="gencore.models.ProbabilisticPCA",
        test=f"{_PPCA}::TestDensity::test_with_the_posterior_every_latent_gives_the_likelihood",
        further_tests=(
            f"{_PPCA}::TestDensity::test_it_is_that_of_the_covariance_matrix",
            f"{_PPCA}::TestFit::test_the_noise_is_the_mean_of_the_discarded_eigenvalues",
            f"{_PPCA}::TestFit::test_it_is_that_of_scikit_learn",
            f"{_PPCA}::TestBounds::test_the_bound_of_any_gaussian_is_short_by_its_divergence",
            f"{_PPCA}::TestBounds::test_it_is_the_truth_of_a_vae",
        ),
        notes="sigma of the source is a variance",
    ),
    System(
        id="L03",
        name="Linear and deep autoencoder",
        source="Lucas 2020, §2.5.1",
        implementation="gencore.models.Autoencoder",
        test=f"{_AUTOENCODER}::TestLinear::test_its_optimum_is_the_principal_subspace",
        further_tests=(
            f"{_AUTOENCODER}::TestLinear::test_nothing_is_lost_without_a_bottleneck",
            f"{_AUTOENCODER}::test_a_deep_one_follows_a_curve",
        ),
        notes="half the squared error for (2.12) too",
    ),
    System(
        id="L36",
        name="Prediction with latents",
        source="Lucas 2020, §6.2.2",
        implementation="gencore.objectives.LatentPrediction",
        test=f"{_PREDICTION}::test_one_bit_is_enough",
        further_implementations=("gencore.inference.infer_latents",),
        further_tests=(
            f"{_PREDICTION}::test_without_a_latent_the_error_is_the_variance",
            f"{_PREDICTION}::test_a_bit_that_is_cheap_is_paid_for",
            f"{_PREDICTION}::test_one_that_is_dear_is_not_used",
            f"{_PREDICTION}::test_descent_reaches_the_inner_minimum",
        ),
        notes="a penalty of continuous latents limits only networks of bounded scale",
    ),
    System(
        id="B01",
        name="Mixture model",
        source="Bruna, Lecture 11",
        implementation="gencore.models.GaussianMixture",
        test=f"{_MIXTURE}::TestEveryCovariance::test_its_density",
        recipe="toymixture",
        further_implementations=("gencore.models.ProbabilisticPCA",),
        further_tests=(
            f"{_MIXTURE}::TestEveryCovariance::test_its_samples_in_any_split",
            f"{_MIXTURE}::TestEveryCovariance::test_a_component_on_a_single_point_stays_finite",
            f"{_PPCA}::TestDensity::test_samples_have_its_moments_in_any_split",
        ),
    ),
    System(
        id="B18",
        name="Generative latent optimisation",
        source="Bruna, Lecture 11",
        implementation="gencore.models.GLO",
        test=f"{_GLO}::TestGLO::test_a_linear_decoder_finds_the_principal_subspace",
        recipe="glf",
        further_implementations=("gencore.objectives.laplacian_distance",),
        further_tests=(
            f"{_GLO}::TestLaplacianDistance::test_it_is_a_norm_of_the_difference",
            f"{_GLO}::TestGLO::test_codes_stay_in_the_ball_and_samples_have_their_moments",
        ),
    ),
    System(
        id="B19",
        name="Wasserstein autoencoder",
        source="Bruna, Lecture 11",
        implementation="gencore.models.WAEMMD",
        test=f"{_GLO}::TestMMD::test_it_is_unbiased_and_grows_with_a_shift",
        recipe="glf",
        further_implementations=(
            "gencore.models.WAEGAN",
            "gencore.objectives.maximum_mean_discrepancy",
        ),
        further_tests=(f"{_GLO}::TestMMD::test_codes_come_to_the_prior",),
    ),
)
