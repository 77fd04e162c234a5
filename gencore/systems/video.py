"""Motion in images and films."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

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
        id="M01",
        name="Notation of networks",
        source="Mathieu 2017, §1.3",
        implementation="gencore.nn.NotatedNetwork",
        test="nn/test_notation.py::test_m01_lenet_5_has_the_sizes_of_the_thesis",
        further_tests=("nn/test_notation.py::test_what_does_not_fit_is_told",),
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
