"""Motion in images and films."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_WARP = "ops/test_warp.py"
_ANCHORS = "ops/test_anchor_warp.py"
_DIFFERENCES = "ops/test_prediction_losses.py"
_LOSSES = "objectives/test_prediction.py"
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
        id="M02",
        name="MSE and L1 losses",
        source="Mathieu 2017, §2.1.1",
        implementation="gencore.objectives.lp_loss",
        test=f"{_LOSSES}::test_the_best_constant_for_two_values",
        further_tests=(f"{_LOSSES}::test_lp_losses_are_negative_log_likelihoods",),
        notes="With p = 1 a Laplace density of unit variance has the scale 1/√2",
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
)
