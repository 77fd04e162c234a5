"""Motion in images and films."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_WARP = "ops/test_warp.py"
_ANCHORS = "ops/test_anchor_warp.py"
_DIFFERENCES = "ops/test_prediction_losses.py"
_LOSSES = "objectives/test_prediction.py"
_BASELINES = "models/video/test_baselines.py"
_MOTIONS = "data/test_motions.py::TestMotions"
_MOTION_GENERATOR = "models/video/test_motion_generator.py"
_MULTI_SCALE = "models/video/test_multi_scale.py"
_MULTI_SCALE_LOSS = "objectives/test_multi_scale_prediction.py"
_PREDICTION_RECIPE = "recipes/test_videoprediction_recipe.py"
_LINEARITY = "objectives/test_linearity.py"
_LINEARIZING = "models/video/test_linearizing_autoencoder.py"
_POOL = "ops/test_phase_pool.py"
_UNPOOL = "ops/test_phase_unpool.py"
_DELTA = "nn/test_delta_code.py"
_DESCENT = "inference/test_latent_descent.py"
_LATENT = "models/video/test_latent_linearizing_autoencoder.py"
_UNCERTAIN = "models/video/test_uncertainty.py"
_DYNAMIC = "models/video/test_dynamic_generator.py"
_LINEAR_DYNAMICS = "models/video/test_linear_dynamics.py"
_CHAINS = "inference/test_latent_langevin.py"
_IMAGE_TO_VIDEO = "models/video/test_image_to_video.py"
_DYNAMIC_RECIPE = "recipes/test_dynamicgenerator_recipe.py"

SYSTEMS = (
    System(
        id="G16",
        name="Dynamic generator",
        source="Gao 2021, §3.2.1",
        implementation="gencore.models.DynamicGenerator",
        test=f"{_DYNAMIC}::TestModel::test_g16_a_film_is_a_function_of_its_latents",
        recipe="dynamicgenerator",
        further_implementations=("gencore.nn.StateTransition", "gencore.models.LinearDynamics"),
        further_tests=(
            f"{_DYNAMIC}::TestModel::test_g16_linear_networks_are_a_linear_dynamical_system",
            f"{_DYNAMIC}::TestModel::test_g16_one_frame_is_a_static_generator",
            f"{_LINEAR_DYNAMICS}::test_the_fit_recovers_the_spectrum_and_the_space_of_frames",
        ),
        notes="The linear baseline of its experiments is `LinearDynamics`",
    ),
    System(
        id="G17",
        name="Alternating back-propagation through time",
        source="Gao 2021, §3.2.2, Algorithm 4",
        implementation="gencore.inference.LatentChains",
        test=f"{_DYNAMIC}::TestPosterior"
        "::test_g17_the_mean_gradient_over_the_posterior_is_that_of_the_marginal",
        recipe="dynamicgenerator",
        further_implementations=("gencore.inference.LatentLangevin",),
        further_tests=(
            f"{_DYNAMIC}::TestPosterior"
            "::test_g17_langevin_has_the_mean_and_the_covariance_of_its_step",
            f"{_DYNAMIC}::TestPosterior::test_g17_the_correction_leaves_no_bias",
            f"{_DYNAMIC}::TestPosterior::test_g17_a_warm_start_goes_on_with_the_chains",
            f"{_DYNAMIC}::TestGradients::test_g17_noise_moves_its_own_frame_and_later_ones",
            f"{_DYNAMIC}::TestGradients::test_g17_gradients_of_linear_networks",
            f"{_CHAINS}::TestChains::test_a_batch_moves_its_rows_alone",
        ),
        notes="The sum of (3.9) begins with the noise's own frame, where the thesis prints the "
        "next one; the authors' program divides the squared error by the number of frames, which "
        "`reduction` offers",
    ),
    System(
        id="G18",
        name="Appearance and motion codes",
        source="Gao 2021, §3.2.3",
        implementation="gencore.models.DynamicGenerator",
        test=f"{_DYNAMIC}::TestLearning"
        "::test_g18_another_appearance_has_another_colour_and_the_same_way",
        recipe="dynamicgenerator",
        further_tests=(f"{_DYNAMIC}::TestModel::test_codes_are_fixed_over_time",),
    ),
    System(
        id="G19",
        name="Learning from incomplete films",
        source="Gao 2021, §3.3",
        implementation="gencore.models.DynamicGenerator",
        test=f"{_DYNAMIC}::TestIncomplete::test_g19_what_is_hidden_has_no_effect",
        recipe="dynamicgenerator",
        further_tests=(
            f"{_DYNAMIC}::TestIncomplete"
            "::test_g19_recovered_frames_are_those_of_the_kalman_smoother",
            f"{_DYNAMIC}::TestLearning"
            "::test_g19_a_moving_bump_is_recovered_better_than_by_the_frame_before",
            f"{_LINEAR_DYNAMICS}::test_the_smoother_conditions_the_joint_gaussian",
            f"{_DYNAMIC_RECIPE}::TestStep::test_a_hidden_pixel_does_not_count",
        ),
    ),
    System(
        id="G20",
        name="Image to video",
        source="Gao 2021, §3.3, (3.12) to (3.14)",
        implementation="gencore.models.ImageToVideo",
        test=f"{_IMAGE_TO_VIDEO}::test_g20_noise_is_the_only_latent",
        recipe="imagetovideo",
        further_implementations=("gencore.models.ImageToVideoEncoder",),
        further_tests=(
            f"{_IMAGE_TO_VIDEO}::test_g20_a_held_out_image_moves_as_what_was_learned",
            f"{_IMAGE_TO_VIDEO}::test_g20_the_encoder_has_the_layers_of_the_thesis",
            f"{_IMAGE_TO_VIDEO}::test_g20_state_and_appearance_are_what_the_encoder_gives",
            f"{_IMAGE_TO_VIDEO}::test_g20_all_three_networks_learn_and_inference_changes_none",
        ),
    ),
    System(
        id="G21",
        name="Bilinear warping",
        source="Gao 2021, §3.4",
        implementation="gencore.ops.warp",
        test=f"{_WARP}::test_no_displacement_is_the_identity_bit_for_bit",
        further_tests=(
            f"{_WARP}::test_whole_displacements_are_shifts",
            f"{_WARP}::TestWarp::test_gradcheck",
            f"{_WARP}::test_the_gradient_is_the_adjoint",
        ),
    ),
    System(
        id="G22",
        name="Motion-based dynamic generator",
        source="Gao 2021, §3.4",
        implementation="gencore.models.MotionGenerator",
        test=f"{_MOTION_GENERATOR}::test_g22_translating_texture",
        further_implementations=(
            "gencore.nn.DisplacementDecoder",
            "gencore.objectives.displacement_roughness",
            "gencore.objectives.residual_penalty",
        ),
        further_tests=(
            f"{_MOTION_GENERATOR}::TestFilm::test_g22_nothing_moves_and_nothing_is_left",
            f"{_MOTION_GENERATOR}::TestFilm::test_g22_whole_displacements_shift_and_residuals_add",
            f"{_MOTION_GENERATOR}::TestGradients"
            "::test_g22_they_reach_image_and_fields_through_all_warps",
            f"{_MOTION_GENERATOR}::TestCodes::test_g22_codes_of_motion_swap_motions_alone",
        ),
        recipe="motiongenerator",
        notes="The thesis prints no penalised objective: its weights stand beside sums over pixels "
        "here, for the norm of a residual or its square",
    ),
    System(
        id="G23",
        name="Intrackability and motion transfer",
        source="Gao 2021, §3.4.1 and §3.4.2",
        implementation="gencore.metrics.intrackability",
        test=f"{_MOTION_GENERATOR}::TestObjective"
        "::test_g23_intrackability_of_noise_at_the_minimum_falls",
        further_implementations=("gencore.models.transfer_motion",),
        further_tests=(
            f"{_MOTION_GENERATOR}"
            "::test_g23_noise_is_intrackable_and_its_score_falls_with_the_preference",
            f"{_MOTION_GENERATOR}::TestTransfer::test_g23_the_first_frame_is_the_new_image",
            "metrics/test_intrackability.py::test_g23_both_readings",
        ),
        recipe="motiongenerator",
        notes="Both readings of the definition; the ratio of means by default",
    ),
    System(
        id="M01",
        name="Notation of networks",
        source="Mathieu 2017, §1.3",
        implementation="gencore.nn.NotatedNetwork",
        test="nn/test_notation.py::test_m01_lenet_5_has_the_sizes_of_the_thesis",
        further_tests=("nn/test_notation.py::test_what_does_not_fit_is_told",),
    ),
    System(
        id="M02",
        name="MSE and L1 losses",
        source="Mathieu 2017, §2.1.1",
        implementation="gencore.objectives.lp_loss",
        test=f"{_LOSSES}::test_the_best_constant_for_two_values",
        further_tests=(f"{_LOSSES}::test_lp_losses_are_negative_log_likelihoods",),
        notes="With p = 1 a Laplace density of unit variance has the scale 1/√2",
    ),
    System(
        id="M09",
        name="Naive linearity loss",
        source="Mathieu 2017, §3.1.1",
        implementation="gencore.objectives.linearity_loss",
        test=f"{_LINEARITY}::test_m09_shrinking_codes_lowers_the_linearity_loss_alone",
        further_implementations=(
            "gencore.objectives.reconstruction_loss",
            "gencore.objectives.linear_prediction_loss",
        ),
        further_tests=(f"{_LINEARITY}::test_the_losses_of_linear_maps_in_closed_form",),
        notes="Codes that are g times smaller divide (3.2) by the square of g; the thesis has g.",
    ),
    System(
        id="M10",
        name="Linearising auto-encoder with curvature penalty",
        source="Mathieu 2017, §3.2",
        implementation="gencore.models.LinearizingAutoencoder",
        test=f"{_LINEARIZING}::TestBumps::test_m10_codes_become_straight",
        recipe="linae",
        further_implementations=("gencore.objectives.curvature_cosine",),
        further_tests=(
            f"{_LINEARIZING}::TestBumps::test_the_table",
            f"{_LINEARIZING}::TestBumps::test_pixels_are_curved",
            f"{_LINEARIZING}::TestLoss::test_it_is_equation_3_6",
            f"{_LINEARITY}::TestCosine::test_it_is_that_of_the_angle",
            f"{_LINEARITY}::TestCosine::test_gradients",
        ),
        notes="The thesis gives neither λ nor its optimiser; a loss is a sum over pixels.",
    ),
    System(
        id="M11",
        name="Phase pooling",
        source="Mathieu 2017, §3.2.1",
        implementation="gencore.ops.phase_pool",
        test=f"{_POOL}::test_pools_by_loops",
        further_implementations=("gencore.nn.PhasePool",),
        further_tests=(
            f"{_POOL}::test_sums_of_derivatives",
            f"{_POOL}::test_derivatives_by_beta_are_variance_and_covariance",
            f"{_POOL}::test_a_bump_that_moves_has_a_linear_phase",
        ),
    ),
    System(
        id="M12",
        name="Unpooling by magnitude and phase",
        source="Mathieu 2017, §3.2.1",
        implementation="gencore.ops.phase_unpool",
        test=f"{_UNPOOL}::test_mass_and_centre_are_magnitude_and_phase",
        further_implementations=("gencore.nn.PhaseUnpool",),
        further_tests=(
            f"{_UNPOOL}::test_pools_by_loops",
            f"{_UNPOOL}::test_the_round_trip_of_a_phase_on_an_element",
            f"{_UNPOOL}::test_a_phase_shift_of_one_element_moves_the_map_by_one",
        ),
    ),
    System(
        id="M13",
        name="Magnitude and phase predictor",
        source="Mathieu 2017, §3.2.1",
        implementation="gencore.models.LinearizingAutoencoder",
        test=f"{_LINEARIZING}::TestPredictor::test_m13_magnitudes_stay_and_phases_go_on",
        recipe="linae",
        further_implementations=("gencore.models.PhaseCode",),
        further_tests=(
            f"{_LINEARIZING}::TestPredictor::"
            "test_m13_a_predicted_step_of_one_node_moves_the_map_by_one",
            f"{_LINEARIZING}::TestPredictor::test_a_learned_predictor_starts_as_the_fixed_one",
            f"{_LINEARIZING}::TestLoss::test_magnitudes_have_no_curvature",
        ),
    ),
    System(
        id="M14",
        name="Code corrected by latents",
        source="Mathieu 2017, §3.2.2",
        implementation="gencore.nn.DeltaCode",
        test=f"{_DELTA}::test_no_latents_give_the_last_code_or_the_extrapolation",
        further_tests=(
            f"{_DELTA}::test_gradcheck",
            f"{_DELTA}::test_gradients_of_the_printed_form",
            f"{_DELTA}::test_the_affine_form_is_the_code",
        ),
        notes="(3.11) as printed gives the last code without latents; the form that gives the "
        "extrapolation is offered beside it",
    ),
    System(
        id="M15",
        name="Inference of latents",
        source="Mathieu 2017, §3.2.2, Algorithm 3.1",
        implementation="gencore.inference.infer_latents",
        test=f"{_DESCENT}::test_a_linear_decoder_leads_to_least_squares",
        further_implementations=(
            "gencore.inference.DecoderError",
            "gencore.inference.LatentDistribution",
        ),
        further_tests=(
            f"{_DESCENT}::test_at_the_minimum_the_gradient_by_parameters_is_the_whole_one",
            f"{_DESCENT}::test_a_row_does_not_depend_on_the_others",
            f"{_LATENT}::test_the_latents_are_those_of_algorithm_3_1",
            f"{_LATENT}::test_the_cosine_has_no_gradient_by_the_latents",
            "inference/test_latent_distribution.py::"
            "test_the_kernel_density_is_the_mixture_and_its_draws_are_of_it",
        ),
    ),
    System(
        id="M16",
        name="Uncertainty experiment",
        source="Mathieu 2017, §3.3.3",
        implementation="gencore.models.LatentLinearizingAutoencoder",
        test=f"{_UNCERTAIN}::test_m16_predictions_are_sharp_and_latents_tell_what_happened",
        further_tests=(
            f"{_UNCERTAIN}::test_m16_latents_drawn_from_their_estimate_give_one_of_both_futures",
        ),
        notes="On a moving bump in place of NORB",
    ),
    System(
        id="M17",
        name="Shallow and deep architectures of table 3.1",
        source="Mathieu 2017, §3.3",
        implementation="gencore.models.linearizing_architecture",
        test=f"{_LINEARIZING}::TestArchitectures::test_m17_codes_of_phases",
        recipe="linae",
        further_implementations=("gencore.models.SiameseAutoencoder",),
        further_tests=(
            f"{_LINEARIZING}::TestArchitectures::test_m17_codes_of_4096",
            f"{_LINEARIZING}::TestPaths::test_they_go_through_both_codes_and_the_predictions",
            f"{_LINEARIZING}::TestPaths::test_the_siamese_decoder_has_the_codes_before",
            "recipes/test_linae_recipe.py::TestFigures::test_a_strip_is_above_what_is_decoded",
        ),
        notes="Trained on photographs' patches and digits that move in the plane, in place of "
        "YouTube's films and NORB. The 32 groups of shallow architecture 2 need features in a "
        "circle.",
    ),
    System(
        id="M18",
        name="Affine triplets",
        source="Mathieu 2017, §3.3.1",
        implementation="gencore.data.make_triplets",
        test=f"{_MOTIONS}::test_nothing_moves_at_time_zero",
        further_implementations=(
            "gencore.data.draw_motions",
            "gencore.data.move_images",
            "gencore.ops.affine_warp",
        ),
        further_tests=(
            f"{_MOTIONS}::test_motions_are_a_group",
            f"{_MOTIONS}::test_translations_by_whole_pixels_are_exact",
        ),
    ),
    System(
        id="M19",
        name="Multi-scale generator of frames",
        source="Mathieu 2017, §4.2.1",
        implementation="gencore.models.MultiScaleGenerator",
        test=f"{_MULTI_SCALE}::TestGenerator::test_zero_weights_predict_zero_at_every_scale",
        further_implementations=("gencore.models.image_pyramid",),
        further_tests=(
            f"{_MULTI_SCALE}::TestUpsampling::test_the_backward_pass_is_the_adjoint",
            f"{_MULTI_SCALE}::TestUpsampling::test_constants_are_exact",
            f"{_MULTI_SCALE}::TestGenerator::test_any_size_that_can_be_halved",
        ),
        recipe="videoprediction",
        notes="the tanh comes after the residual sum, as in the authors' program, which keeps "
        "predictions in [-1, 1]",
    ),
    System(
        id="M20",
        name="Multi-scale adversarial training",
        source="Mathieu 2017, §4.2.2",
        implementation="gencore.objectives.multi_scale_discriminator_loss",
        test=f"{_PREDICTION_RECIPE}::TestGame::test_each_step_moves_one_player_alone",
        further_implementations=(
            "gencore.objectives.multi_scale_generator_loss",
            "gencore.models.MultiScaleDiscriminator",
        ),
        further_tests=(
            f"{_MULTI_SCALE}::TestDiscriminator"
            "::test_the_coarsest_generator_learns_through_the_finest_discriminator_alone",
            f"{_MULTI_SCALE_LOSS}::test_the_squared_error_predicts_the_average_of_two_futures",
            f"{_MULTI_SCALE_LOSS}::test_the_adversary_makes_it_one_of_the_two_futures",
        ),
        recipe="videoprediction",
        notes="means over the batch by default, sums on demand; both players see one pass of the "
        "generator",
    ),
    System(
        id="M21",
        name="Gradient difference loss",
        source="Mathieu 2017, §4.2.3",
        implementation="gencore.objectives.gradient_difference_loss",
        test=f"{_DIFFERENCES}::test_a_step_edge_has_the_worked_out_loss",
        further_implementations=("gencore.ops.prediction_losses",),
        further_tests=(
            f"{_DIFFERENCES}::test_the_gradient_difference_does_not_see_constants_and_signs",
            f"{_DIFFERENCES}::test_transposition_changes_nothing",
            f"{_DIFFERENCES}::TestPredictionLosses::test_gradcheck",
        ),
        notes="A sum; with alpha = 1 a ramp of three steps costs more than no edge",
    ),
    System(
        id="M22",
        name="Combined loss of multi-scale prediction",
        source="Mathieu 2017, §4.2.4",
        implementation="gencore.objectives.multi_scale_prediction_loss",
        test=f"{_MULTI_SCALE_LOSS}::TestCombined::test_it_is_linear_in_the_three_weights",
        further_implementations=("gencore.objectives.WeightSchedule",),
        further_tests=(
            f"{_MULTI_SCALE_LOSS}::TestSchedule::test_a_weight_changes_at_its_steps",
            f"{_PREDICTION_RECIPE}::TestGame::test_weights_change_at_their_steps",
        ),
        recipe="videoprediction",
    ),
    System(
        id="M23",
        name="Models 1 and 2, and their baselines",
        source="Mathieu 2017, §4.3.1",
        implementation="gencore.models.MultiScaleGenerator",
        test=f"{_MULTI_SCALE}::TestDiscriminator::test_flattened_sizes_are_those_of_the_table",
        further_implementations=("gencore.models.MultiScaleDiscriminator",),
        further_tests=(
            f"{_MULTI_SCALE}::TestGenerator::test_inputs_are_twelve_channels_and_then_fifteen",
            f"{_PREDICTION_RECIPE}::TestPresets::test_rows_of_the_table",
            f"{_PREDICTION_RECIPE}::TestPresets::test_model_2_is_the_game_alone",
        ),
        recipe="videoprediction",
        notes="Model 2's table is not legible: its layers are those of Model 1, with what the text "
        "says of them",
    ),
    System(
        id="M24",
        name="Recursive prediction of frames",
        source="Mathieu 2017, §4.3.3",
        implementation="gencore.models.MultiScaleGenerator",
        test=f"{_MULTI_SCALE}::TestPredict"
        "::test_n_frames_are_n_single_frames_with_the_window_shifted",
        further_tests=(f"{_MULTI_SCALE}::TestPredict::test_the_noise_of_every_frame_is_new",),
        recipe="videoprediction",
    ),
    System(
        id="M27",
        name="Flow-warp baseline",
        source="Mathieu 2017, §4.3.2",
        implementation="gencore.models.constant_flow",
        test=f"{_BASELINES}::test_m27_whole_flows_are_exact_shifts",
        further_implementations=("gencore.models.copy_last", "gencore.data.optical_flow"),
        further_tests=(
            f"{_BASELINES}::test_m27_no_flow_is_the_identity_bit_for_bit",
            f"{_BASELINES}::test_m27_is_grid_sample_again_and_again",
        ),
        notes="the thesis states no formula",
    ),
    System(
        id="L39",
        name="Spatial-transformer regions",
        source="Lucas 2020, §B.3.3",
        implementation="gencore.nn.SpatialTransformerRegions",
        test=f"{_ANCHORS}::test_a_filter_of_the_patches_is_a_convolution",
        further_implementations=("gencore.ops.anchor_warp",),
        further_tests=(
            f"{_ANCHORS}::test_multiples_of_the_identity_are_convolutions",
            f"{_ANCHORS}::test_translations_by_whole_pixels_are_shifts",
            f"{_ANCHORS}::test_a_constant_map_does_not_see_the_transform",
            f"{_ANCHORS}::test_a_linear_ramp_and_its_slope_are_exact",
            f"{_ANCHORS}::test_derivatives",
            "nn/test_spatial_transformer.py::test_at_first_it_is_a_dilated_convolution",
        ),
    ),
    System(
        id="B27",
        name="Adversarial video prediction with the gradient difference loss",
        source="Bruna, Lecture 11",
        implementation="gencore.models.MultiScaleGenerator",
        test=f"{_PREDICTION_RECIPE}::TestGame::test_the_loss_is_the_weighted_sum",
        further_implementations=("gencore.objectives.multi_scale_prediction_loss",),
        further_tests=(f"{_PREDICTION_RECIPE}::TestGame::test_each_step_moves_one_player_alone",),
        recipe="videoprediction",
    ),
)
