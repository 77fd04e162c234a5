"""The representational model of V1 simple cells."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_CELLS = "models/visual_cortex/test_simple_cells.py"
_DESCENT = "models/visual_cortex/test_displacement_inference.py"
_ENERGY = "models/visual_cortex/test_motion_energy.py"
_LEARNING = "models/visual_cortex/test_v1_learning.py"
_PAIRS = "data/test_moving_pairs.py"
_GABOR = "metrics/test_gabor.py"
_RECIPE = "recipes/test_v1_recipe.py"

SYSTEMS = (
    System(
        id="G37",
        name="V1 cells: normalised tight frame",
        source="Gao 2021, §6.2.1",
        implementation="gencore.models.TightFrame",
        test=f"{_CELLS}::TestTightFrame::test_isometry_and_perfect_reconstruction",
        recipe="v1",
        further_implementations=("gencore.models.fourier_cells",),
        further_tests=(
            f"{_CELLS}::TestTightFrame::test_decoding_is_the_adjoint",
            f"{_CELLS}::test_the_closed_form_is_a_tight_frame_of_pairs",
        ),
        notes="The source does not tell what is at the border; here images go on as zeros or in a "
        "circle. Fewer units than numbers a stride, as in its stride of 16, are refused.",
    ),
    System(
        id="G38",
        name="V1 cells: matrices of motion",
        source="Gao 2021, §6.2.2",
        implementation="gencore.models.TableMotion",
        test=f"{_CELLS}::TestMotionMatrices::"
        "test_a_pair_of_waves_rotates_by_its_frequency_times_the_shift",
        recipe="v1",
        further_implementations=(
            "gencore.models.TaylorMotion",
            "gencore.models.RotationMotion",
            "gencore.models.SimpleCells",
        ),
        further_tests=(
            f"{_CELLS}::TestMotionMatrices::test_the_taylor_matrix_is_of_second_order",
            f"{_CELLS}::TestLosses::test_mixing_is_the_sum_over_offsets",
            f"{_CELLS}::TestAnimation::test_a_translation_is_animated_exactly",
        ),
    ),
    System(
        id="G39",
        name="V1 cells: inference of motion",
        source="Gao 2021, §6.3.2",
        implementation="gencore.models.SimpleCells",
        test=f"{_CELLS}::TestInference::test_every_shift_of_the_lattice_is_found",
        recipe="v1",
        further_implementations=(
            "gencore.models.motion_costs",
            "gencore.models.descend_displacements",
        ),
        further_tests=(
            f"{_CELLS}::TestInference::test_a_displacement_planted_in_each_patch",
            f"{_CELLS}::TestInference::test_costs_are_those_of_each_candidate",
            f"{_DESCENT}::test_descent_finds_small_displacements",
        ),
        notes="(6.10) prints arg max for arg min. The CNN that refines displacements is not here.",
    ),
    System(
        id="G40",
        name="V1 cells: unsupervised learning",
        source="Gao 2021, §6.3.3",
        implementation="gencore.models.DisplacementObjective",
        test=f"{_DESCENT}::test_the_truth_costs_less_than_nothing_and_than_its_opposite",
        recipe="v1",
        further_tests=(
            f"{_DESCENT}::test_the_truth_has_no_error_of_warping",
            f"{_DESCENT}::test_terms_in_closed_form",
            f"{_RECIPE}::TestSteps::test_unsupervised_steps_keep_what_they_infer",
        ),
        notes="The source gives no weights of the terms of (6.11).",
    ),
    System(
        id="G41",
        name="Complex cells and motion energy",
        source="Gao 2021, §6.3.5",
        implementation="gencore.models.motion_energy",
        test=f"{_ENERGY}::test_the_recurrence_is_the_sum_of_powers",
        further_implementations=("gencore.models.align_step", "gencore.models.complex_energy"),
        further_tests=(
            f"{_ENERGY}::test_a_complex_cell_does_not_see_the_phase",
            f"{_ENERGY}::test_three_criteria_agree_for_rotations",
            f"{_ENERGY}::test_a_velocity_has_the_largest_energy",
        ),
    ),
    System(
        id="G42",
        name="Deformed images and flying objects",
        source="Gao 2021, §6.4",
        implementation="gencore.data.deformed_pairs",
        test=f"{_PAIRS}::TestPairs::test_displacements_are_within_six",
        further_implementations=("gencore.data.flying_pairs", "gencore.data.affine_fields"),
        further_tests=(
            f"{_PAIRS}::TestPairs::test_warping_the_first_image_makes_the_second",
            f"{_PAIRS}::TestAffineFields::test_corners_in_closed_form",
        ),
        notes="B-splines, which stay within their control points, in the place of splines through "
        "them; objects are blobs cut out of images, for COIL-100 is not here. Neither are "
        "Places365, MPI-Sintel and MUG.",
    ),
    System(
        id="G43",
        name="Gabor analysis of receptive fields",
        source="Gao 2021, §6.4",
        implementation="gencore.metrics.fit_gabor",
        test=f"{_GABOR}::test_planted_parameters_are_recovered",
        further_implementations=(
            "gencore.metrics.GaborFit",
            "gencore.metrics.pair_phase",
            "gencore.metrics.pair_coherence",
        ),
        further_tests=(
            f"{_GABOR}::test_the_bandwidth_is_between_half_amplitudes",
            f"{_GABOR}::test_phases_fold_onto_even_and_odd",
            f"{_GABOR}::TestPairs::test_planted_differences_of_phase",
        ),
        notes="Differences of phase within pairs come from spectra, without a fit.",
    ),
    System(
        id="G44",
        name="V1 cells: learning",
        source="Gao 2021, §6.4",
        implementation="gencore.models.SimpleCells",
        test=f"{_LEARNING}::test_v1_cells_learn_quadrature_and_displacements",
        recipe="v1",
        notes="The weights of the two losses are not in the source; here both are 1.",
    ),
)
