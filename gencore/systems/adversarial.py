"""Generators that learn from a discriminator or from a fixed distance of batches."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_BATCHES = "objectives/test_mixed_batches.py"
_BEST = "objectives/test_optimal_batch_discriminator.py"
_LOSSES = "objectives/test_batch_gan_losses.py"
_SETS = "nn/test_sets.py"
_GMMN = "models/latent/test_gmmn.py"

SYSTEMS = (
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
        test=f"{_LOSSES}::test_jensen_s_inequality",
        further_implementations=("gencore.objectives.MBGANLoss",),
        further_tests=(
            f"{_LOSSES}::test_they_are_the_divergence_of_bernoulli_laws",
            f"{_LOSSES}::test_the_order_of_the_scores_changes_nothing",
            f"{_LOSSES}::test_of_one_point_they_are_those_of_a_gan",
        ),
        notes="scores are averaged before the sigmoid, or after it",
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
)
