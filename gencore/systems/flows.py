"""Densities by invertible maps, and the noise that makes grey levels continuous."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_FLOWS = "models/flows/test_flows.py"
_AUTOREGRESSIVE = "models/flows/test_autoregressive_flows.py"
_PLANAR = "models/flows/test_planar_radial_flow.py"
_DEQUANTIZATION = "nn/test_dequantization.py"

SYSTEMS = (
    System(
        id="G24",
        name="Normalizing flow of affine couplings",
        source="Gao 2021, §4.1.2",
        implementation="gencore.models.CouplingFlow",
        recipe="toyflow",
        test=f"{_FLOWS}::test_ten_couplings_on_the_plane_are_exact",
    ),
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
    System(
        id="Y23",
        name="Glow",
        source="Yan 2022, §3.3.6",
        implementation="gencore.models.Glow",
        recipe="glow",
        test=f"{_FLOWS}::test_image_flows_invert_with_exact_jacobians",
        further_tests=(
            "nn/test_transforms.py::TestActNorm::test_the_first_batch_gets_mean_0_and_variance_1",
        ),
    ),
    System(
        id="L05",
        name="Affine coupling and Real NVP",
        source="Lucas 2020, §2.6",
        implementation="gencore.models.RealNVP",
        further_implementations=("gencore.nn.AffineCoupling", "gencore.models.CouplingFlow"),
        recipe="glow",
        test=f"{_FLOWS}::test_image_flows_invert_with_exact_jacobians",
        further_tests=(
            "nn/test_transforms.py::test_images",
            f"{_FLOWS}::test_densities_on_the_plane_integrate_to_one",
        ),
        notes="activation normalisation in the place of batch normalisation of the data",
    ),
    System(
        id="L09",
        name="Normalizing flow posterior and IAF",
        source="Lucas 2020, §2.10.3",
        implementation="gencore.models.FlowPosterior",
        further_implementations=("gencore.models.IAF", "gencore.nn.InverseAutoregressive"),
        test=f"{_AUTOREGRESSIVE}::test_one_step_fits_a_correlated_gaussian",
        further_tests=(
            f"{_AUTOREGRESSIVE}::test_without_steps_the_posterior_is_the_mean_field_optimum",
            "nn/test_autoregressive.py::test_log_det_is_that_of_the_jacobian_both_ways",
        ),
    ),
    System(
        id="L13",
        name="Uniform and variational dequantization",
        source="Lucas 2020, §2.12.1",
        implementation="gencore.nn.VariationalDequantization",
        further_implementations=(
            "gencore.nn.UniformDequantization",
            "gencore.metrics.bits_per_dim",
        ),
        recipe="glow",
        test=f"{_DEQUANTIZATION}::test_learned_noise_is_between_uniform_noise_and_the_probability",
        further_tests=(
            f"{_DEQUANTIZATION}::test_uniform_noise_gives_its_bound",
            f"{_DEQUANTIZATION}::test_the_right_noise_gives_the_probability_itself",
            f"{_DEQUANTIZATION}::test_a_constant_density_takes_the_bits_of_a_grey_level",
            "metrics/test_bits_per_dim.py::test_rescaling_the_data_does_not_change_the_value",
        ),
    ),
    System(
        id="B02",
        name="Normalizing flow",
        source="Bruna, Lecture 11",
        implementation="gencore.models.Flow",
        recipe="toyflow",
        test=f"{_FLOWS}::test_vector_flows_invert_with_exact_jacobians",
        further_tests=(f"{_FLOWS}::test_densities_on_the_plane_integrate_to_one",),
    ),
    System(
        id="B03",
        name="Planar and radial flow",
        source="Bruna, Lecture 11",
        implementation="gencore.models.PlanarFlow",
        further_implementations=("gencore.models.RadialFlow",),
        recipe="toyflow",
        test=f"{_PLANAR}::test_inverse_and_log_det_are_those_of_the_jacobian",
        further_tests=(f"{_PLANAR}::test_random_parameters_give_maps_that_never_fold",),
    ),
    System(
        id="B04",
        name="NICE, Real NVP, Glow and IAF",
        source="Bruna, Lecture 11",
        implementation="gencore.models.NICE",
        further_implementations=(
            "gencore.models.RealNVP",
            "gencore.models.Glow",
            "gencore.models.IAF",
        ),
        recipe="toyflow",
        test=f"{_FLOWS}::test_vector_flows_invert_with_exact_jacobians",
        further_tests=(
            f"{_FLOWS}::test_image_flows_invert_with_exact_jacobians",
            f"{_FLOWS}::test_densities_on_the_plane_integrate_to_one",
            f"{_AUTOREGRESSIVE}::test_log_prob_is_that_of_the_sample",
            f"{_AUTOREGRESSIVE}::test_density_integrates_to_one",
        ),
    ),
)
