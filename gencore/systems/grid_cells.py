"""Grid cells: vectors of places, what steps do to them, and what place cells read of them."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_HEXAGONS = "models/grid_cells/test_hexagon_code.py"
_CELLS = "models/grid_cells/test_grid_cells.py"
_PATHS = "models/grid_cells/test_path_integration.py"
_SCORES = "metrics/test_gridness.py"
_ARENA = "data/test_arena.py"
_RECIPE = "recipes/test_gridcells_recipe.py"

SYSTEMS = (
    System(
        id="G29",
        name="General transformation of place vectors, and conformality",
        source="Gao 2021, §5.2",
        implementation="gencore.models.NetworkTransform",
        test=f"{_HEXAGONS}::TestConformality::test_g29_hexagons_are_conformal",
        recipe="gridcells",
        further_implementations=(
            "gencore.models.conformality",
            "gencore.models.composition_error",
        ),
        further_tests=(
            f"{_HEXAGONS}::TestConformality::test_theorem_1_directions_mix_two_orthogonal_vectors",
            f"{_HEXAGONS}::TestConformality::test_a_stretched_embedding",
            f"{_HEXAGONS}::TestConformality::test_condition_1",
            f"{_HEXAGONS}::TestConformality::test_a_networks_derivative",
            f"{_CELLS}::test_a_network_learns_steps_too",
        ),
        notes="The thesis leaves the network open: here one hidden layer of tanh a module.",
    ),
    System(
        id="G30",
        name="Lie-group transformation of place vectors",
        source="Gao 2021, §5.3.1",
        implementation="gencore.models.LieTransform",
        test=f"{_HEXAGONS}::TestSeries::test_g30_errors_are_of_third_order",
        recipe="gridcells",
        further_implementations=("gencore.models.lie_step",),
        further_tests=(
            f"{_HEXAGONS}::TestSeries::test_the_drift_of_the_second_order",
            f"{_HEXAGONS}::TestSeries::test_exponentials_of_one_direction_are_a_group",
            f"{_HEXAGONS}::TestSeries::test_gradients",
            f"{_CELLS}::TestTransform::test_steps_are_rotations",
            f"{_CELLS}::TestTransform::test_matrices_between_two_directions_lie_on_a_line",
        ),
    ),
    System(
        id="G31",
        name="Error correction of noisy place vectors",
        source="Gao 2021, §5.3.2, theorem 3",
        implementation="gencore.models.expected_position_error",
        test=f"{_HEXAGONS}::TestTheorem3::test_g31_what_is_left_of_noise",
        further_implementations=(
            "gencore.models.project_position",
            "gencore.models.perturb_units",
            "gencore.models.drop_units",
        ),
        further_tests=(
            f"{_HEXAGONS}::TestTheorem3::test_noise_has_the_size_it_says",
            f"{_HEXAGONS}::TestTheorem3::test_the_projection_is_not_rounded",
            f"{_PATHS}::test_noise_is_taken_off_by_re_encoding",
        ),
        notes="A law for noise that is small beside the code's curvature.",
    ),
    System(
        id="G32",
        name="Hexagons of three plane waves",
        source="Gao 2021, §5.3.3, theorem 4",
        implementation="gencore.models.HexagonCode",
        test=f"{_HEXAGONS}::TestTheorem4::test_the_scale_and_the_metric",
        further_tests=(
            f"{_HEXAGONS}::TestTheorem4::test_the_spacing_of_fields",
            f"{_HEXAGONS}::TestTheorem4::test_the_units_are_shifted_copies",
            f"{_HEXAGONS}::TestTheorem4::test_the_generator_is_the_derivative",
        ),
        notes="Theorem 4 prints B = U*DU; its proof has UDU*, which is right.",
    ),
    System(
        id="G33",
        name="Place cells: readout, decoding and re-encoding",
        source="Gao 2021, §5.4",
        implementation="gencore.models.decode_place",
        test=f"{_CELLS}::TestReadout::test_g33_every_place_is_decoded",
        further_implementations=(
            "gencore.models.least_squares_readout",
            "gencore.data.PlaceLattice",
        ),
        further_tests=(
            f"{_CELLS}::TestReadout::test_a_learned_code_decodes_its_places_too",
            f"{_CELLS}::TestReadout::test_the_best_readout_fits_as_well_as_singular_values_allow",
            f"{_CELLS}::TestReadout::test_a_readout_finds_the_place_whose_cell_answers_most",
            f"{_ARENA}::TestLattice::test_fields_are_gaussian",
        ),
    ),
    System(
        id="G34",
        name="Learning of grid cells",
        source="Gao 2021, §5.5, §5.B.1",
        implementation="gencore.models.GridCells",
        test=f"{_CELLS}::test_g34_losses_fall_and_metrics_rise",
        recipe="gridcells",
        further_tests=(
            f"{_CELLS}::test_g34_paths_are_followed_without_re_encoding",
            f"{_CELLS}::TestConstraints::test_modules_have_length_one_over_root_k",
            f"{_CELLS}::TestLoss::test_basis_error_by_loops",
            f"{_CELLS}::TestLoss::test_places_are_drawn_as_often_as_they_meet_others",
            f"{_CELLS}::TestLoss::test_steps_of_hexagons_cost_nothing_but_interpolation",
            f"{_CELLS}::TestLoss::test_isotropy_by_hand",
            f"{_RECIPE}::test_g34_the_defaults_follow_paths_to_two_centimetres",
        ),
        notes="The thesis does not give the weights of the losses. Between places vectors are "
        "scaled to their length. L₀ is summed over x' in place of drawing it.",
    ),
    System(
        id="G35",
        name="Gridness, spacing and orientation of response maps",
        source="Gao 2021, §5.6.1",
        implementation="gencore.metrics.grid_scores",
        test=f"{_SCORES}::TestScores::test_g35_hexagons",
        recipe="gridcells",
        further_implementations=(
            "gencore.metrics.autocorrelogram",
            "gencore.metrics.null_grid_rate",
        ),
        further_tests=(
            f"{_SCORES}::TestScores::test_g35_squares",
            f"{_SCORES}::TestScores::test_g35_stripes",
            f"{_SCORES}::TestScores::test_maps_without_rings_have_no_score",
            f"{_SCORES}::TestNull::test_g35_noise_passes_at_times",
            f"{_SCORES}::TestAutocorrelogram::test_it_is_pearsons_correlation_of_what_overlaps",
        ),
        notes="The thesis cites the score without its formula; here it is the usual one, the best "
        "of several annuli.",
    ),
    System(
        id="G36",
        name="Path integration",
        source="Gao 2021, §5.6.2, §5.B.3",
        implementation="gencore.models.integrate_path",
        test=f"{_PATHS}::test_g36_lattice_paths_have_no_error",
        recipe="gridcells",
        further_implementations=(
            "gencore.data.lattice_walks",
            "gencore.data.free_walks",
            "gencore.data.rat_paths",
        ),
        further_tests=(
            f"{_PATHS}::test_g36_rounding_is_a_random_walk",
            f"{_PATHS}::test_g36_the_series_drifts_by_its_law",
            f"{_ARENA}::TestWalks::test_steps_of_lattice_walks_are_even",
            f"{_ARENA}::TestRats::test_a_rat_runs_in_its_box",
        ),
        notes="With re-encoding, steps that are no lattice steps are rounded: h √(T/6) after T.",
    ),
)
