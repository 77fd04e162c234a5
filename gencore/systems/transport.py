"""Distances between laws by optimal transport and by kernels."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_TRANSPORT = "objectives/test_transport.py"
_MMD = "objectives/test_mmd.py"

SYSTEMS = (
    System(
        id="B09",
        name="Wasserstein distance, Kantorovich duality, Sinkhorn",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.sinkhorn_divergence",
        further_implementations=(
            "gencore.objectives.sinkhorn_potentials",
            "gencore.objectives.exact_transport_cost",
            "gencore.objectives.wasserstein_1d",
            "gencore.objectives.sliced_wasserstein",
        ),
        test=f"{_TRANSPORT}::TestSinkhornAgainstOthers::test_it_goes_to_the_exact_assignment",
        further_tests=(
            f"{_TRANSPORT}::TestLine::test_normal_laws",
            f"{_TRANSPORT}::TestExact::test_every_assignment_of_eight_points",
            f"{_TRANSPORT}::TestSinkhornAgainstOthers::test_the_closed_form_of_normal_laws",
            f"{_TRANSPORT}::TestSinkhornDivergence::test_equal_clouds_cost_nothing_and_stay",
            f"{_TRANSPORT}::TestSinkhornDivergence::test_it_is_never_negative",
            f"{_TRANSPORT}::TestSinkhornPotentials::test_the_marginals_of_the_plan",
        ),
        notes="every function returns W_p^p, without the root",
    ),
    System(
        id="B10",
        name="Energy distance and maximum mean discrepancy",
        source="Bruna, Lecture 11",
        implementation="gencore.objectives.maximum_mean_discrepancy",
        further_implementations=(
            "gencore.metrics.energy_distance",
            "gencore.metrics.kernel_distance",
        ),
        test=f"{_MMD}::test_the_energy_distance_is_a_discrepancy",
        further_tests=(
            f"{_MMD}::test_it_is_the_sum_over_all_pairs",
            f"{_MMD}::test_it_has_no_bias_between_samples_of_one_law",
            f"{_TRANSPORT}::test_errors_fall_with_the_number_of_points",
        ),
    ),
)
