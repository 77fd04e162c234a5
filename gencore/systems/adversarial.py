"""Adversarial models: games, discriminators of batches, networks, and how critics are held."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_GAMES = "objectives/test_games.py"
_METRICS = "objectives/test_adversarial_metrics.py"
_TRAINED = "objectives/test_trained_discriminators.py"
_PENALTY = "objectives/test_lipschitz.py"
_PULLING = "objectives/test_pulling_away.py"
_LOSSES = "objectives/test_adversarial.py"
_DIVERGENCE = f"{_GAMES}::TestBestScore::test_its_loss_is_the_divergence"
_CHANCE = f"{_GAMES}::test_at_equal_laws_the_values_are_those_of_chance"
_LINES = f"{_METRICS}::TestParallelLines::test_a_critic_of_norm_one_finds_their_distance"
_RATIO = f"{_TRAINED}::TestClassifier::test_it_is_the_ratio_of_the_densities"
_LINEAR = f"{_PENALTY}::test_of_a_linear_critic_it_is_closed"
_SINGULAR = f"{_METRICS}::TestSpectralNorm::test_it_divides_by_the_largest_singular_value"
_BATCHES = "objectives/test_mixed_batches.py"
_BEST = "objectives/test_optimal_batch_discriminator.py"
_BATCH_LOSSES = "objectives/test_batch_gan_losses.py"
_SETS = "nn/test_sets.py"
_GMMN = "models/latent/test_gmmn.py"
_CONDITIONAL = "nn/test_conditional_weight_norm.py"
_DCGAN = "nn/test_dcgan.py"
_PROGRESSIVE = "nn/test_progressive_gan.py"
_PATCHES = "nn/test_patch_networks.py"
_SCATTERING = "nn/test_scattering.py"
_LAPLACIAN = "models/adversarial/test_laplacian_gan.py"
_PAIRS = "models/adversarial/test_pair_adversary.py"
_CYCLE = "models/adversarial/test_cycle_gan.py"
_LARGE = "models/adversarial/test_truncated_latents.py"
_GRID = "train/test_grid.py"
_GAN = "recipes/test_gan_recipes.py"
_GROWING = "recipes/test_growing_networks.py"
_FROZEN = "models/hybrids/test_generator_likelihood.py"
_ENERGY = "models/adversarial/test_conv_autoencoder_energy.py"
_PYRAMID_RUN = "recipes/test_lapgan_recipe.py"
_PAIRS_RUN = "recipes/test_pix2pix_recipe.py"
_LADDER = "nn/test_ladder_network.py"
_LADDER_GAME = "models/adversarial/test_ladder_adversary.py"

SYSTEMS = (
    System(
        id="M08",
        name="Generative adversarial networks",
        source="Mathieu 2017, §2.1.3.2",
        implementation="gencore.objectives.LogisticGame",
        test=_DIVERGENCE,
        further_tests=(_CHANCE,),
    ),
    System(
        id="M33",
        name="Energy-based GAN: losses and equilibrium",
        source="Mathieu 2017, §6.2",
        implementation="gencore.objectives.EnergyGame",
        test=f"{_GAMES}::TestPlay::test_of_squared_energies_reaches_the_equilibrium",
        further_tests=(
            _DIVERGENCE,
            _CHANCE,
            f"{_GAMES}::TestBestScore::test_no_other_score_is_better",
            f"{_GAMES}::TestPlay::test_of_plain_energies_does_not",
        ),
        notes="f(u) = u and f(u) = u²; gradient play settles for the second alone",
    ),
    System(
        id="M34",
        name="Auto-encoder as a discriminator",
        source="Mathieu 2017, §6.2.3",
        implementation="gencore.models.AutoencoderEnergy",
        test=f"{_TRAINED}::TestAutoencoder::test_above_the_margin_samples_train_the_generator_alone",
        further_implementations=("gencore.objectives.EnergyGame",),
        further_tests=(
            f"{_TRAINED}::TestAutoencoder"
            "::test_the_game_with_a_generator_raises_the_energy_elsewhere",
            f"{_TRAINED}::TestAutoencoder::test_data_alone_bring_all_energies_down",
            f"{_TRAINED}::TestAutoencoder::test_gradients",
        ),
    ),
    System(
        id="M35",
        name="Pulling-away term",
        source="Mathieu 2017, §6.2.4",
        implementation="gencore.objectives.pulling_away_term",
        test=f"{_PULLING}::test_orthogonal_codes_have_none_and_collinear_ones_all",
        further_tests=(
            f"{_PULLING}::test_lengths_do_not_matter",
            f"{_PULLING}::test_descent_reaches_the_bound_of_welch",
            f"{_PULLING}::test_the_gradient",
        ),
    ),
    System(
        id="M37",
        name="Grid search of energy-based GANs",
        source="Mathieu 2017, §6.3.1, table 6.1",
        implementation="gencore.train.recipe_grid",
        test=f"{_GRID}::TestTable::test_m37_energy_based_gans_have_512_settings",
        further_tests=(
            f"{_GRID}::TestTable::test_m37_gans_have_each_with_pairs_of_optimisers_and_rates",
            f"{_GRID}::TestTable::test_the_best_settings_are_points_of_the_grid",
            f"{_GRID}::test_what_has_no_effect_is_left_out_and_recipes_are_unlike",
            f"{_GAN}::test_fully_connected_players_of_images_move",
        ),
        notes="a grid of 32 settings on digits was trained (docs/ebgan-grid.md), the 512 of the "
        "thesis were not; the thesis gives histograms and no numbers",
    ),
    System(
        id="M38",
        name="Energy-based GAN with a ladder network, for few labels",
        source="Mathieu 2017, §6.3.2",
        implementation="gencore.models.LadderAdversary",
        further_implementations=(
            "gencore.nn.LadderNetwork",
            "gencore.nn.GaussianCombinator",
            "gencore.objectives.EnergyGame",
        ),
        recipe="semiebgan",
        test="recipes/test_semiebgan_labels.py::test_the_game_is_not_worse_than_the_ladder_alone",
        further_tests=(
            f"{_LADDER}::TestValues::test_costs_of_constant_estimates",
            f"{_LADDER}::TestWithoutNoise::test_what_stays_costs_nothing",
            f"{_LADDER}::TestCombinator::test_least_squares_finds_the_posterior_mean_of_a_gaussian",
            f"{_LADDER}::TestGradients::test_they_are_right",
            f"{_LADDER_GAME}::test_the_loss_is_that_of_the_game_and_of_the_labels",
            f"{_LADDER_GAME}::test_below_the_energy_of_samples_the_ladder_learns_alone",
        ),
        notes="on the 8x8 digits, not on MNIST, and at equal steps: in equal time the ladder "
        "network alone is ahead; the margin falls to 0, as in Zhao et al. 2017; its test trains "
        "for minutes: marked long, with its result in docs/ladder.md",
    ),
    System(
        id="M39",
        name="Energy-based GAN of images",
        source="Mathieu 2017, §6.3.3",
        implementation="gencore.models.ConvAutoencoderEnergy",
        test=f"{_ENERGY}::test_m39_a_smoke_run_at_the_sizes_of_the_thesis",
        further_implementations=("gencore.nn.DCGANGenerator",),
        further_tests=(
            f"{_ENERGY}::test_it_is_that_of_bedrooms_and_faces",
            f"{_ENERGY}::test_it_is_the_sum_of_squared_errors",
        ),
        notes="networks alone, in smoke runs at 64x64, 128x128 and 256x256 pixels: no samples and "
        "no scores are claimed",
    ),
    System(
        id="Y07",
        name="GAN and Wasserstein GAN",
        source="Yan 2022, §2.3",
        implementation="gencore.objectives.WassersteinGame",
        test=f"{_METRICS}::TestPoints::test_their_distance_is_the_best_of_slopes_up_to_one",
        further_implementations=(
            "gencore.objectives.LogisticGame",
            "gencore.objectives.gradient_penalty",
        ),
        further_tests=(
            f"{_METRICS}::test_gaussians_of_equal_variance_are_as_far_as_their_means",
            _CHANCE,
            _RATIO,
            _LINEAR,
            _SINGULAR,
        ),
        notes="spectral normalisation is torch's",
    ),
    System(
        id="L06",
        name="GAN with three losses of the generator",
        source="Lucas 2020, §2.7, §5.3",
        implementation="gencore.objectives.LogisticGame",
        test=_RATIO,
        further_implementations=("gencore.objectives.adversarial_generator_loss",),
        further_tests=(
            _DIVERGENCE,
            f"{_TRAINED}::TestClassifier::test_its_losses_are_divergences",
            f"{_LOSSES}::test_the_generator_s_losses_are_divergences",
            f"{_LOSSES}::test_far_from_the_data_only_one_loss_still_pulls",
        ),
    ),
    System(
        id="L12",
        name="Wasserstein GAN: clipping, gradient penalty, spectral normalisation",
        source="Lucas 2020, §2.11",
        implementation="gencore.objectives.WassersteinGame",
        test=_LINES,
        further_implementations=(
            "gencore.objectives.gradient_penalty",
            "gencore.nn.clip_weights",
        ),
        further_tests=(
            f"{_METRICS}::TestParallelLines::test_their_jensen_shannon_divergence_is_flat",
            _LINEAR,
            f"{_PENALTY}::test_gradients_in_the_weights_of_discriminators",
            _SINGULAR,
            f"{_METRICS}::TestSpectralNorm::test_slopes_of_a_network_are_at_most_one",
            f"{_METRICS}::TestPoints::test_clipped_weights_measure_their_bound_times_the_distance",
        ),
        notes="spectral normalisation is torch's",
    ),
    System(
        id="L19",
        name="Mixed batches, batch smoothing",
        source="Lucas 2020, §4.3.1",
        implementation="gencore.objectives.mix_batches",
        test=f"{_BATCHES}::TestMixedBatches::test_both_halves_use_every_point_once",
        further_implementations=(
            "gencore.objectives.mixing_masks",
            "gencore.objectives.smoothing_count_probabilities",
        ),
        further_tests=(
            f"{_BATCHES}::TestMasks::test_the_law_of_the_number_of_data_is_an_integral",
            f"{_BATCHES}::TestMasks::test_counts_have_that_law",
            f"{_BATCHES}::TestMasks::test_any_split_over_processes_is_the_same",
        ),
        notes="pure batches (4.1) are those without smoothing",
    ),
    System(
        id="L20",
        name="Optimal batch discriminator",
        source="Lucas 2020, §4.3.2, §4.7",
        implementation="gencore.objectives.optimal_batch_discriminator",
        test=f"{_BEST}::TestOptimalDiscriminator::test_it_is_the_sum_over_all_masks",
        further_implementations=(
            "gencore.objectives.mixed_batch_log_probs",
            "gencore.objectives.beta_count_probabilities",
        ),
        further_tests=(
            f"{_BEST}::TestOptimalDiscriminator::test_of_one_point_it_is_that_of_a_gan",
            f"{_BEST}::TestOptimalDiscriminator::test_equal_laws_leave_the_mean_of_the_prior",
            f"{_BEST}::TestOptimalDiscriminator::"
            "test_both_are_densities_and_the_generators_loss_is_their_divergence",
            f"{_BEST}::TestOptimalDiscriminator::test_no_other_output_has_a_smaller_loss",
        ),
        notes="for any law of the number of data: of a Beta prior, of batch smoothing",
    ),
    System(
        id="L21",
        name="Trained discriminators of BGAN and M-BGAN",
        source="Lucas 2020, §4.3, §4.4",
        implementation="gencore.nn.EquivariantMLP",
        test=f"{_BEST}::TestTrainedDiscriminator::test_it_is_near_the_best_one",
        further_implementations=("gencore.nn.EquivariantConvDiscriminator",),
        further_tests=(
            f"{_BEST}::TestTrainedDiscriminator::test_a_constant_is_far_off",
            f"{_BEST}::TestTrainedDiscriminator::test_members_that_do_not_see_the_mean_fail",
        ),
        notes="of batches of four numbers; without Γ only M-BGAN fails there",
    ),
    System(
        id="L22",
        name="Permutation-equivariant layer",
        source="Lucas 2020, §4.4",
        implementation="gencore.nn.EquivariantLinear",
        test=f"{_SETS}::TestSymmetry::test_outputs_are_permuted_as_the_members_are",
        further_implementations=("gencore.nn.EquivariantConv2d",),
        further_tests=(
            f"{_SETS}::TestSymmetry::test_sets_do_not_see_each_other",
            f"{_SETS}::TestSymmetry::test_gradients",
            f"{_SETS}::TestEquivariantLayers::test_of_one_member_both_maps_count_the_same",
            f"{_SETS}::TestEquivariantLayers::test_without_the_mean_it_is_a_plain_layer",
        ),
        notes="the weights B/(B + 1) and 1/(B + 1) follow the size of the set that is given",
    ),
    System(
        id="L23",
        name="Universal approximation of symmetric functions",
        source="Lucas 2020, §4.4.2, §4.8",
        implementation="gencore.nn.InvariantNetwork",
        test=f"{_SETS}::TestUniversalApproximation::test_hand_set_weights_are_the_variance",
        further_tests=(
            f"{_SETS}::TestUniversalApproximation::test_symmetric_functions_are_learned",
            f"{_SETS}::TestUniversalApproximation::"
            "test_means_of_functions_of_single_members_are_not_enough",
            f"{_SETS}::TestUniversalApproximation::test_the_first_member_stays_unknown",
        ),
    ),
    System(
        id="L24",
        name="BGAN and M-BGAN losses",
        source="Lucas 2020, §4.4.3, §4.5.4",
        implementation="gencore.objectives.BGANLoss",
        test=f"{_BATCH_LOSSES}::test_jensen_s_inequality",
        further_implementations=("gencore.objectives.MBGANLoss",),
        further_tests=(
            f"{_BATCH_LOSSES}::test_they_are_the_divergence_of_bernoulli_laws",
            f"{_BATCH_LOSSES}::test_the_order_of_the_scores_changes_nothing",
            f"{_BATCH_LOSSES}::test_of_one_point_they_are_those_of_a_gan",
        ),
        notes="scores are averaged before the sigmoid, or after it",
    ),
    System(
        id="L25",
        name="Coverage of the spots of a plane by discriminators of points and of batches",
        source="Lucas 2020, §4.5.1",
        implementation="gencore.models.BatchAdversary",
        test="recipes/test_mode_coverage.py::test_batches_reach_the_spots_more_evenly_than_points",
        recipe="toygan",
        further_implementations=("gencore.models.MixupAdversary", "gencore.metrics.mode_coverage"),
        further_tests=(
            "recipes/test_mode_coverage.py::test_batches_reach_the_spots_of_a_ring_and_evenly",
        ),
        notes="our GAN, with two steps of the discriminator and a momentum of 0.5, reaches as many "
        "spots; the order of the source is that of how evenly it does, for each of five seeds",
    ),
    System(
        id="L26",
        name="MMD generator, minibatch standard deviation and discrimination, Deep Sets",
        source="Lucas 2020, §4.2",
        implementation="gencore.models.GMMN",
        test=f"{_GMMN}::test_the_loss_is_without_bias_for_equal_laws",
        further_implementations=(
            "gencore.nn.MinibatchStdDev",
            "gencore.nn.MinibatchDiscrimination",
            "gencore.nn.DeepSets",
        ),
        further_tests=(
            f"{_GMMN}::test_a_linear_generator_finds_the_moments_of_a_gaussian",
            f"{_SETS}::TestSymmetry::test_functions_of_a_set_stay_as_they_are",
            f"{_SETS}::TestAlternatives::test_the_standard_deviation_is_one_more_feature",
            f"{_SETS}::TestAlternatives::test_closeness_is_the_sum_over_pairs",
        ),
        notes="the thesis names them; their formulas are those of the papers that it cites",
    ),
    System(
        id="L29",
        name="Likelihood of a GAN, by an encoder around the frozen generator",
        source="Lucas 2020, §5.5.1",
        implementation="gencore.models.fit_likelihood_around",
        test=f"{_FROZEN}::test_l29_the_generator_stays_as_it_was_bit_for_bit",
        further_tests=(
            f"{_FROZEN}::TestBound::"
            "test_l29_it_is_below_the_exact_likelihood_by_the_divergence_of_the_posteriors",
            f"{_FROZEN}::TestBound::test_l29_more_latents_come_nearer_from_below",
            f"{_FROZEN}::TestBound::test_the_noise_is_that_of_the_data",
            f"{_GAN}::test_bits_of_a_generator_by_an_encoder_around_it",
        ),
    ),
    System(
        id="L30",
        name="Conditional weight normalisation",
        source="Lucas 2020, §5.6.1",
        implementation="gencore.nn.ConditionalWeightNorm",
        test=f"{_CONDITIONAL}::test_it_is_the_convolution_of_each_class",
        further_implementations=("gencore.nn.ProjectionDiscriminator",),
        further_tests=(
            f"{_CONDITIONAL}::test_the_norm_of_a_filter_is_its_gain",
            f"{_CONDITIONAL}::test_the_slope_is_orthogonal_to_the_directions",
            f"{_CONDITIONAL}::test_one_class_is_weight_normalisation",
            f"{_CONDITIONAL}::test_gradients",
            f"{_CONDITIONAL}::TestProjection::test_it_is_the_equation",
            f"{_CONDITIONAL}::TestProjection::test_it_learns_the_ratio_of_normal_densities",
            f"{_DCGAN}::test_l30_samples_of_a_class_are_taken_for_it",
        ),
    ),
    System(
        id="B07",
        name="Adversarial metric of a class of functions",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.AdversarialGame",
        test=f"{_METRICS}::test_the_class_of_functions_makes_the_metric",
    ),
    System(
        id="B08",
        name="Variational bounds of f-divergences; total variation",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.FDivergenceGame",
        test=_DIVERGENCE,
        further_implementations=("gencore.objectives.WassersteinGame",),
        further_tests=(
            f"{_GAMES}::TestBestScore::test_no_other_score_is_better",
            f"{_GAMES}::TestBound::test_it_is_tight_where_a_law_has_no_mass",
            f"{_METRICS}::test_the_class_of_functions_makes_the_metric",
        ),
    ),
    System(
        id="B11",
        name="Generative adversarial networks",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.LogisticGame",
        test=_DIVERGENCE,
        further_tests=(_CHANCE, _RATIO),
    ),
    System(
        id="B12",
        name="Laplacian pyramid of GANs",
        source="Bruna, Lecture 11",
        implementation="gencore.models.LaplacianGAN",
        test=f"{_LAPLACIAN}::TestPyramid::test_b12_levels_of_grey_come_back_bit_for_bit",
        further_implementations=("gencore.objectives.laplacian_reconstruction",),
        further_tests=(
            f"{_LAPLACIAN}::TestPyramid::test_b12_the_bands_give_the_image",
            f"{_LAPLACIAN}::TestSampling::test_b12_from_coarse_to_fine",
            f"{_LAPLACIAN}::TestSampling::test_samples_in_any_split",
            f"{_LAPLACIAN}::TestTraining::test_each_level_has_its_own_game",
            f"{_PYRAMID_RUN}::TestStep::"
            "test_each_level_sees_its_image_and_the_enlarged_coarser_one",
            f"{_PYRAMID_RUN}::TestStep::test_levels_do_not_meet",
        ),
        recipe="lapgan",
    ),
    System(
        id="B13",
        name="DCGAN",
        source="Bruna, Lecture 11",
        implementation="gencore.nn.DCGANGenerator",
        test=f"{_DCGAN}::test_b13_it_trains_on_digits_and_interpolates",
        further_implementations=("gencore.nn.DCGANDiscriminator",),
        further_tests=(
            f"{_DCGAN}::test_the_networks_are_those_of_the_source",
            f"{_DCGAN}::test_latents_to_images_to_logits",
            f"{_DCGAN}::test_every_pixel_of_an_odd_side_is_made_and_seen",
        ),
        notes="4x4 filters as in the authors' program, where the paper has 5x5",
    ),
    System(
        id="B14",
        name="Wasserstein GAN, with clipping or a gradient penalty",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.WassersteinGame",
        test=_LINES,
        further_implementations=(
            "gencore.objectives.gradient_penalty",
            "gencore.nn.clip_weights",
        ),
        further_tests=(f"{_METRICS}::TestPoints::test_a_penalty_lets_the_slope_exceed_one",),
    ),
    System(
        id="B15",
        name="Distance of scattering coefficients or of a CNN's features",
        source="Bruna, Lecture 11",
        implementation="gencore.nn.Scattering",
        test=f"{_SCATTERING}::TestWarps::test_b15_it_is_stable_where_pixels_are_not",
        further_implementations=("gencore.nn.PerceptualDistance",),
        further_tests=(
            f"{_SCATTERING}::TestWarps::"
            "test_b15_it_moves_in_proportion_to_the_warp_at_any_frequency",
            f"{_SCATTERING}::TestFilters::test_the_first_layer_keeps_the_energy",
            f"{_SCATTERING}::TestNorms::test_it_does_not_expand",
            f"{_SCATTERING}::TestOrders::test_they_are_sums_by_hand",
        ),
    ),
    System(
        id="B16",
        name="Translation of images: pix2pix and CycleGAN",
        source="Bruna, Lecture 11",
        implementation="gencore.models.CycleGAN",
        test=f"{_CYCLE}::test_b16_it_learns_a_rotation_from_points_without_pairs",
        further_implementations=(
            "gencore.models.PairAdversary",
            "gencore.nn.UNetGenerator",
            "gencore.nn.ResNetGenerator",
            "gencore.nn.PatchDiscriminator",
            "gencore.models.ImagePool",
            "gencore.objectives.cycle_consistency_loss",
            "gencore.objectives.identity_loss",
        ),
        further_tests=(
            f"{_CYCLE}::TestLosses::test_b16_inverse_maps_have_no_cycle_loss",
            f"{_CYCLE}::TestModel::test_the_losses_are_those_of_both_games",
            f"{_CYCLE}::TestPool::test_half_of_what_it_gives_is_new",
            f"{_PATCHES}::TestPatches::test_a_logit_sees_one_patch",
            f"{_PATCHES}::TestUNet::test_it_is_that_of_the_source",
            f"{_PATCHES}::TestResNet::test_it_is_that_of_the_source",
            f"{_PAIRS}::TestPairs::test_it_teaches_a_translation",
            f"{_PAIRS_RUN}::TestStep::test_it_is_that_of_a_plain_loop",
            f"{_PAIRS_RUN}::TestStep::test_pixels_alone_learn_the_colours",
        ),
        recipe="pix2pix",
        notes="the recipe trains pix2pix; CycleGAN trains in examples/unpaired_photos.py",
    ),
    System(
        id="B17",
        name="Discriminators at several scales, feature matching and progressive growing",
        source="Bruna, Lecture 11",
        implementation="gencore.nn.ProgressiveGenerator",
        test=f"{_PROGRESSIVE}::test_b17_without_a_share_it_is_the_small_network",
        further_implementations=(
            "gencore.nn.ProgressiveDiscriminator",
            "gencore.nn.GrowthSchedule",
            "gencore.models.MultiScalePatchDiscriminator",
            "gencore.objectives.feature_matching_loss",
            "gencore.objectives.orthogonality_penalty",
            "gencore.models.truncated_normal",
        ),
        further_tests=(
            f"{_PROGRESSIVE}::test_b17_with_the_whole_share_it_is_the_grown_network",
            f"{_PROGRESSIVE}::test_learning_rates_are_equalised",
            f"{_GROWING}::test_both_players_see_the_level_that_has_been_reached",
            f"{_GROWING}::test_data_are_faded_in_as_samples_are",
            f"{_GROWING}::test_two_processes_grow_as_one_does",
            f"{_PAIRS}::TestFeatureMatching::test_b17_equal_inputs_have_no_loss",
            f"{_PAIRS}::TestFeatureMatching::test_it_is_the_equation",
            f"{_PAIRS}::TestScales::test_a_coarser_one_sees_the_means_of_four_pixels",
            f"{_LARGE}::test_truncated_latents_have_their_moments",
            "objectives/test_orthogonality.py::test_it_is_the_equation",
        ),
        recipe="gan",
        notes="the recipe pix2pix trains discriminators at several scales with feature matching; "
        "of the large-scale class-conditional GAN there are truncation and orthogonal "
        "regularisation; the networks are DCGANGenerator with conditional weight norms and "
        "ProjectionDiscriminator (L30), and nothing was trained at a large scale",
    ),
)
