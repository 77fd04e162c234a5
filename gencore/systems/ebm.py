"""Energy-based models: densities of energies, their objectives, and what is trained with them."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_AUTOENCODER = "models/ebm/test_autoencoder_energy.py"
_CONTRASTIVE = "objectives/test_contrastive.py"
_DENSITY = "models/ebm/test_energy_density.py"
_MULTI_GRID = "models/ebm/test_multi_grid_ebm.py"
_FEATURES = "models/ebm/test_multi_grid_features.py"
_PYRAMID = "nn/test_block_pyramid.py"
_RECOVERY = "objectives/test_recovery.py"
_SHORT_RUN = "models/ebm/test_short_run_ebm.py::TestObjective"
_BUFFER = "samplers/test_replay_buffer.py::TestReplayBuffer"

SYSTEMS = (
    System(
        id="G01",
        name="Energy-based density",
        source="Gao 2021, §2.1",
        implementation="gencore.models.EnergyDensity",
        test=f"{_DENSITY}::test_the_density_integrates_to_one_and_its_score_is_its_gradient",
        further_implementations=("gencore.metrics.SquareGrid",),
        further_tests=(
            f"{_DENSITY}::test_log_z_of_a_gaussian_in_closed_form",
            f"{_DENSITY}::test_a_constant_of_the_energy_changes_neither_score_nor_samples",
        ),
        notes="f = -E in the source",
    ),
    System(
        id="G02",
        name="Maximum likelihood, analysis by synthesis",
        source="Gao 2021, §2.1.1",
        implementation="gencore.objectives.contrastive_loss",
        test=f"{_CONTRASTIVE}::"
        "test_the_gradient_is_a_difference_of_second_moments_with_its_root_at_the_precision",
    ),
    System(
        id="G04",
        name="Contrastive divergence: of data, persistent, from a cold start",
        source="Gao 2021, §2.1.2",
        implementation="gencore.objectives.contrastive_divergence",
        test=f"{_CONTRASTIVE}::TestContrastiveDivergence::test_no_mean_gradient_at_the_truth",
        further_implementations=("gencore.samplers.ReplayBuffer",),
        further_tests=(
            f"{_CONTRASTIVE}::TestContrastiveDivergence::"
            "test_persistent_chains_go_on_and_survive_a_checkpoint",
            f"{_CONTRASTIVE}::TestContrastiveDivergence::test_one_langevin_step_at_the_truth",
            f"{_CONTRASTIVE}::TestContrastiveDivergence::"
            "test_a_cold_start_leaves_the_starts_and_goes_k_steps",
        ),
    ),
    System(
        id="G05",
        name="Classifier of class energies",
        source="Gao 2021, §2.1.3",
        implementation="gencore.models.EnergyClassifier",
        test="models/ebm/test_energy_classifier.py::"
        "test_the_posterior_is_that_of_bayes_for_gaussians",
        further_tests=(
            "models/ebm/test_energy_classifier.py::test_densities_relative_to_a_background",
        ),
        notes="with a background class, densities are relative to it: (2.9) needs that",
    ),
    System(
        id="G06",
        name="Pyramid operators of images",
        source="Gao 2021, §2.2.2",
        implementation="gencore.nn.block_mean",
        test=f"{_PYRAMID}::test_up_is_the_pseudo_inverse_of_down",
        further_implementations=("gencore.nn.block_expand", "gencore.nn.block_any"),
        further_tests=(
            f"{_PYRAMID}::test_down_undoes_up_to_the_last_bit",
            f"{_PYRAMID}::test_the_adjoint_by_autograd_is_up",
            f"{_PYRAMID}::test_the_grids_of_the_source",
        ),
        notes="of whole factors",
    ),
    System(
        id="G07",
        name="Multi-grid learning and sampling",
        source="Gao 2021, §2.2, Algorithm 1",
        implementation="gencore.models.MultiGridEBM",
        test=f"{_MULTI_GRID}::"
        "test_two_kinds_of_images_from_one_start_and_nearer_than_contrastive_divergence",
        recipe="multigrid",
        further_tests=(
            f"{_MULTI_GRID}::TestChains::test_one_grid_has_the_law_of_the_unadjusted_chain",
            f"{_MULTI_GRID}::TestChains::test_each_grid_goes_on_from_the_one_before",
            f"{_MULTI_GRID}::TestObjective::"
            "test_the_gradient_of_each_grid_is_its_difference_of_moments",
            f"{_MULTI_GRID}::test_other_seeds_and_the_best_of_contrastive_divergence",
        ),
        notes="on a toy of two kinds of images, with a learning rate that falls to 0",
    ),
    System(
        id="G08",
        name="Features of a multi-grid model, and a linear support vector machine on them",
        source="Gao 2021, §2.2.3.2",
        implementation="gencore.models.MultiGridEBM",
        test=f"{_FEATURES}::test_trained_features_beat_those_of_random_weights",
        recipe="multigrid",
        further_implementations=(
            "gencore.models.StridedConvEnergy",
            "gencore.metrics.linear_svm_error",
        ),
        further_tests=(
            f"{_MULTI_GRID}::TestFeatures::test_the_sizes_of_the_source",
            f"{_MULTI_GRID}::TestFeatures::test_they_are_maxima_of_blocks_of_the_maps",
            "metrics/test_linear_svm.py::"
            "test_what_a_line_separates_has_no_error_and_noise_has_that_of_chance",
        ),
        notes="on digits; its test trains for minutes: marked long, with its result in "
        "docs/multi-grid.md",
    ),
    System(
        id="G09",
        name="Conditional inpainting",
        source="Gao 2021, §2.2.3.3",
        implementation="gencore.models.MultiGridEBM",
        test=f"{_MULTI_GRID}::TestInpainting::test_the_conditional_of_a_gaussian",
        recipe="multigrid",
        further_implementations=(
            "gencore.samplers.ConditionalEnergy",
            "gencore.data.hidden_pixels",
            "gencore.metrics.inpainting_scores",
        ),
        further_tests=(
            f"{_MULTI_GRID}::TestInpainting::"
            "test_visible_pixels_keep_their_bits_and_hidden_ones_are_not_looked_at",
            f"{_MULTI_GRID}::TestInpainting::test_what_is_visible_of_coarse_pixels",
            f"{_MULTI_GRID}::TestInpainting::test_training_moves_hidden_pixels_alone",
            "recipes/test_multigrid_recipe.py::test_scores_look_at_hidden_pixels_alone",
        ),
        notes="how coarse grids see a mask is not stated: docs/multi-grid.md",
    ),
    System(
        id="G10",
        name="Recovery likelihood",
        source="Gao 2021, §2.3.1",
        implementation="gencore.objectives.recovery_loss",
        test=f"{_RECOVERY}::TestPosterior::test_it_is_the_gaussian_of_bayes",
        further_implementations=("gencore.objectives.RecoveryEnergy",),
        further_tests=(
            f"{_RECOVERY}::TestPosterior::test_langevin_steps_have_their_factor",
            f"{_RECOVERY}::TestPosterior::"
            "test_every_row_has_its_own_noise_and_much_noise_leaves_the_prior",
            f"{_RECOVERY}::TestRecoveryLoss::"
            "test_its_gradient_is_that_of_the_conditional_likelihood",
        ),
    ),
    System(
        id="G11",
        name="Normal approximation of the recovery posterior, denoising score matching",
        source="Gao 2021, §2.3.2.1",
        implementation="gencore.objectives.normal_approximation",
        test=f"{_RECOVERY}::TestNormalApproximation::test_errors_on_a_gaussian",
        further_implementations=(
            "gencore.objectives.recovery_mean",
            "gencore.objectives.denoising_score_matching",
        ),
        further_tests=(
            f"{_RECOVERY}::TestNormalApproximation::"
            "test_errors_of_another_density_are_of_fourth_order",
            f"{_RECOVERY}::TestOptima::test_recovery_with_chains_learns_the_density_of_the_data",
            f"{_RECOVERY}::TestOptima::test_score_matching_learns_the_noisy_density",
            f"{_RECOVERY}::TestOptima::test_recovery_without_chains_lies_between",
        ),
    ),
    System(
        id="M05",
        name="Contrastive gradient",
        source="Mathieu 2017, §2.1.2",
        implementation="gencore.objectives.contrastive_loss",
        test=f"{_CONTRASTIVE}::test_the_gradient_is_that_of_the_exact_likelihood_on_a_grid",
        further_tests=(f"{_CONTRASTIVE}::test_the_negatives_are_detached",),
        notes="(2.10) is a gradient: as an objective its samples are held fixed",
    ),
    System(
        id="M06",
        name="Auto-encoder as an energy: sparse, k-sparse, winner-take-all, contractive, denoising",
        source="Mathieu 2017, §2.1.2.1",
        implementation="gencore.models.AutoencoderEnergy",
        test=f"{_AUTOENCODER}"
        "::test_a_linear_one_leaves_the_variance_of_the_last_principal_components",
        recipe="autoencoder",
        further_implementations=(
            "gencore.models.AutoencoderEBM",
            "gencore.nn.KSparse",
            "gencore.nn.WinnerTakeAll",
            "gencore.objectives.contraction_penalty",
        ),
        further_tests=(
            f"{_AUTOENCODER}::test_a_denoising_one_learns_the_mean_of_the_posterior",
            "nn/test_sparse_codes.py::test_k_numbers_stay_and_the_gradient_goes_through_them_alone",
            "objectives/test_contraction.py::test_of_a_sigmoid_layer_in_closed_form",
        ),
        notes="the document names the variants and gives no figures; of two more it names, the "
        "slow auto-encoder is the linearising one's relative (M09), and predictive sparse "
        "decomposition is not built",
    ),
    System(
        id="Y08",
        name="Maximum likelihood of an energy",
        source="Yan 2022, §2.4.2",
        implementation="gencore.objectives.contrastive_loss",
        test=f"{_CONTRASTIVE}::test_the_gradient_of_a_gaussian_from_chains",
        recipe="ebm",
    ),
    System(
        id="Y11",
        name="Generator loss",
        source="Yan 2022, §2.4.5",
        implementation="gencore.models.ShortRunEBM",
        test=f"{_SHORT_RUN}::test_generator_loss_gradient",
        recipe="ebm",
        further_implementations=("gencore.objectives.contrastive_loss",),
        further_tests=(
            f"{_SHORT_RUN}::test_the_joint_gradient_is_the_sum_of_its_terms",
            f"{_SHORT_RUN}::test_the_joint_losss_sample_terms_cancel_in_value_but_not_in_gradient",
            f"{_SHORT_RUN}::test_joint_fixed_point",
        ),
    ),
    System(
        id="Y12",
        name="Short-run energy-based model, self-adversarial",
        source="Yan 2022, §2.4.6",
        implementation="gencore.models.ShortRunEBM",
        test=f"{_SHORT_RUN}::test_training_matches_the_chains_and_not_the_density",
        recipe="ebm",
        further_tests=(
            "samplers/test_euler_flow.py::test_the_flow_and_not_the_energy_learns_the_data",
        ),
    ),
    System(
        id="Y13",
        name="Energies and their flows on the plane",
        source="Yan 2022, §2.4.6",
        implementation="gencore.models.FlowEBM",
        test="recipes/test_density_orderings.py::"
        "test_the_flow_is_nearer_than_the_energy_and_likelihood_the_better_objective",
        recipe="densities",
        further_implementations=("gencore.data.load_density", "gencore.metrics.SquareGrid"),
        further_tests=("recipes/test_density_recipe.py::test_the_measures_of_a_known_energy",),
        notes="the ordering of the two densities holds in 16 of 18 runs: docs/densities.md",
    ),
    System(
        id="Y24",
        name="Energy-based model with a replay buffer",
        source="Yan 2022, §3.3.6",
        implementation="gencore.samplers.ReplayBuffer",
        test=f"{_BUFFER}::test_the_fraction_restarts",
        recipe="ebm",
        further_implementations=("gencore.models.ShortRunEBM",),
        further_tests=(
            f"{_BUFFER}::test_every_slot_is_drawn_as_often",
            f"{_BUFFER}::test_a_draw_has_different_slots_and_the_size_stays",
            f"{_BUFFER}::test_chains_are_copied_in_and_out",
            f"{_SHORT_RUN}::test_persistent_chains_match_the_density_of_the_steps",
        ),
        notes="the recipe's buffer_size",
    ),
    System(
        id="Y14",
        name="Energy networks for images",
        source="Yan 2022, §2.4.7",
        implementation="gencore.models.ConvEnergy",
        recipe="ebm",
        test="models/ebm/test_energy_networks.py::test_presets_have_the_published_sizes",
        further_tests=(
            "models/ebm/test_noise_free_training.py"
            "::test_noise_free_training_is_stable_where_noisy_training_diverges",
        ),
        notes="that noisy chains diverge is shown in closed form, on data narrower than a step's "
        "noise, and not on images",
    ),
)
