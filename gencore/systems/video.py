"""Motion in images and films."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_POOL = "ops/test_phase_pool.py"
_UNPOOL = "ops/test_phase_unpool.py"
_WARP = "ops/test_warp.py"
_MOTIONS = "data/test_motions.py::TestMotions"

SYSTEMS = (
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
        id="M18",
        name="Affine triplets",
        source="Mathieu 2017, §3.3.1",
        implementation="gencore.data.make_triplets",
        test=f"{_MOTIONS}::test_nothing_moves_at_time_zero",
        further_implementations=("gencore.data.draw_motions", "gencore.data.move_images"),
        further_tests=(
            f"{_MOTIONS}::test_motions_are_a_group",
            f"{_MOTIONS}::test_translations_by_whole_pixels_are_exact",
        ),
    ),
)
