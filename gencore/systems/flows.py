"""Densities by invertible maps, and the noise that makes grey levels continuous."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_FLOWS = "models/flows/test_flows.py"

SYSTEMS = (
    System(
        id="Y06",
        name="Coupling flow",
        source="Yan 2022, §2.2",
        implementation="gencore.models.CouplingFlow",
        recipe="toyflow",
        test=f"{_FLOWS}::test_vector_flows_invert_with_exact_jacobians",
        further_tests=(
            f"{_FLOWS}::test_densities_on_the_plane_integrate_to_one",
            f"{_FLOWS}::test_a_trained_flow_reaches_the_entropy_of_a_gaussian",
        ),
    ),
)
