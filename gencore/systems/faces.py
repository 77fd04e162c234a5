"""Models of faces, and pictures that key points set in motion."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_POINTS = "models/faces/test_key_points.py"
_MODELS = "models/faces/test_reenactment_models.py"
_MORPHABLE = "models/faces/test_morphable_model.py"
_CONTROL = "models/faces/test_face_control.py"

SYSTEMS = (
    System(
        id="Y30",
        name="First-order motion model",
        source="Yan 2022, §4.3.3",
        implementation="gencore.models.FirstOrderMotion",
        test=f"{_POINTS}::TestFlows::test_y30_they_are_the_equation",
        recipe="reenactment",
        further_implementations=(
            "gencore.models.KeyPoints",
            "gencore.models.KeyPointDetector",
            "gencore.models.DenseMotionNetwork",
            "gencore.models.KeyPointAnimator",
            "gencore.models.blended_flow",
            "gencore.models.key_point_flows",
            "gencore.models.key_point_heatmaps",
            "gencore.models.relative_key_points",
            "gencore.ops.warp",
        ),
        further_tests=(
            f"{_POINTS}::TestFlows::test_y30_equal_points_do_not_move_anything",
            f"{_POINTS}::TestFlows::test_y30_there_and_back_is_the_identity",
            f"{_POINTS}::TestFlows::test_y30_a_point_comes_from_its_source",
            f"{_POINTS}::TestFlows::test_y30_a_linear_ramp_is_warped_exactly",
            f"{_POINTS}::TestBlend::test_y30_it_is_the_mean_of_the_flows",
            f"{_POINTS}::TestBlend::test_y30_equal_motions_need_no_mask",
            f"{_POINTS}::TestBlend::test_gradients",
            f"{_POINTS}::TestHeatmaps::test_y30_they_are_the_equation",
            f"{_MODELS}::TestFirstOrder::test_y30_a_blob_that_moves_is_followed",
            "ops/test_warp.py::test_the_gradient_is_the_adjoint",
        ),
        notes="the exponents of the heatmaps have the signs that the thesis lost; there is a mask "
        "of what stands still, as its table 4.10 has; equivariance under affine maps",
    ),
    System(
        id="Y31",
        name="Landmarks with learned corrections (delta net)",
        source="Yan 2022, §4.3.5",
        implementation="gencore.models.DeltaMotion",
        test=f"{_MODELS}::TestDelta::test_y31_without_corrections_it_is_the_supervised_model",
        further_implementations=(
            "gencore.nn.BottleneckRegressor",
            "gencore.nn.VolumeEncoder",
            "gencore.nn.VolumeDecoder",
        ),
        further_tests=(
            f"{_MODELS}::TestDelta"
            "::test_y31_a_planted_bias_is_found_and_a_penalty_shrinks_the_corrections",
            f"{_MODELS}::TestDelta::test_the_objective_is_equation_4_9",
            f"{_MODELS}::TestNetworks::test_the_blocks_are_those_of_the_table",
            f"{_MODELS}::TestNetworks::test_the_volumes_are_those_of_the_table",
        ),
        notes="landmarks come from a detector or a morphable model of one's own: no such detector "
        "is a part of gencore, and so no recipe trains it",
    ),
    System(
        id="Y32",
        name="Landmarks fitted by a 3-D morphable model",
        source="Yan 2022, §4.3.4",
        implementation="gencore.models.MorphableModel",
        test=f"{_MORPHABLE}::TestFit::test_y32_landmarks_without_noise_are_met",
        further_implementations=(
            "gencore.models.fit_landmarks",
            "gencore.models.best_pose",
            "gencore.models.Pose",
        ),
        further_tests=(
            f"{_MORPHABLE}::TestPose::test_y32_the_best_one_is_found_exactly",
            f"{_MORPHABLE}::TestPose::test_y32_no_other_pose_is_nearer",
            f"{_MORPHABLE}::TestMorphableModel::test_y32_a_mesh_is_its_equation",
            f"{_MORPHABLE}::TestMorphableModel::test_y32_landmarks_are_rows_of_the_mesh",
            f"{_MORPHABLE}::TestFit"
            "::test_y32_at_the_pose_found_the_coefficients_solve_the_normal_equations",
            f"{_MORPHABLE}::TestFit::test_y32_a_pose_alone_is_that_of_umeyama",
            f"{_MORPHABLE}::TestFit::test_y32_it_goes_with_the_landmarks",
        ),
        notes="Levenberg and Marquardt's method in place of gradient descent; the bases of the "
        "source are licensed, and so MorphableModel.from_scans makes them of one's own scans",
    ),
    System(
        id="Y33",
        name="Reenactment, frontalisation, expressions and eyes by a morphable model",
        source="Yan 2022, §4.3.5, §4.3.6",
        implementation="gencore.models.reenacted_landmarks",
        test=f"{_CONTROL}::test_y33_who_drives_makes_no_difference",
        further_implementations=(
            "gencore.models.frontal_landmarks",
            "gencore.models.random_expression_landmarks",
            "gencore.models.eye_shift",
        ),
        further_tests=(
            f"{_CONTROL}::test_y33_a_face_that_drives_itself_does_not_change",
            f"{_CONTROL}::test_y33_expression_and_pose_are_the_driving_persons",
            f"{_CONTROL}::test_y33_scales",
            f"{_CONTROL}::test_y33_a_frontal_face_is_symmetric_if_the_mean_is",
            f"{_CONTROL}::test_y33_a_frontal_face_keeps_all_but_its_rotation",
            f"{_CONTROL}::test_y33_random_expressions_are_normal_around_the_face_without_one",
            f"{_CONTROL}::test_y33_eyes_move_by_scale_and_rotation_only",
        ),
        notes="the scale is the driving person's, as in the thesis, the source's, or relative",
    ),
)
