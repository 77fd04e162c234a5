"""Samplers of energies: chains, flows along the gradient, and estimates of log Z."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_AIS = "samplers/test_annealed_importance.py"
_EULER = "samplers/test_euler_flow.py::TestEulerFlow"
_FLOW = "samplers/test_gradient_flow.py::TestGradientFlow"
_LEAPFROG = "samplers/test_leapfrog_dynamics.py"
_RECIPE = "samplers/test_complete_recipe.py"
_MANY = "samplers/test_log_z_in_many_dimensions.py"
_RECOVERY = "models/diffusion/test_recovery_likelihood.py"

SYSTEMS = (
    System(
        id="G03",
        name="Langevin dynamics",
        source="Gao 2021, §2.1.1",
        implementation="gencore.samplers.Langevin",
        test="samplers/test_langevin_moments.py::test_moments_after_l_steps_on_a_gaussian",
        further_implementations=("gencore.ops.langevin_step",),
        further_tests=(
            "samplers/test_langevin_moments.py::test_without_noise_it_climbs_to_the_mode",
        ),
        notes="the source's units are Langevin.from_noise_std",
    ),
    System(
        id="G14",
        name="Hamiltonian Monte Carlo whose step size adapts",
        source="Gao 2021, §2.3.5.2",
        implementation="gencore.samplers.HMC",
        test="samplers/test_two_step_hmc.py::test_the_step_size_adapts_and_the_moments_are_exact",
        further_implementations=("gencore.samplers.warm_up", "gencore.models.LongRunChains"),
        further_tests=(
            f"{_RECOVERY}::TestLongRun::"
            "test_every_level_accepts_as_it_should_and_has_its_exact_law",
            f"{_LEAPFROG}::test_a_flipped_momentum_returns",
            f"{_LEAPFROG}::test_the_energy_error_is_of_second_order",
            f"{_LEAPFROG}::test_volume_is_preserved",
            "samplers/test_hmc.py::TestMoments::test_acceptance_on_a_gaussian",
        ),
    ),
    System(
        id="G15",
        name="Log-partition functions and bits per dimension by annealed importance sampling",
        source="Gao 2021, §2.3.5.2",
        implementation="gencore.samplers.AnnealedImportance",
        test=f"{_MANY}::test_log_z_of_a_gaussian_within_a_twentieth_of_a_nat",
        further_implementations=(
            "gencore.models.EnergyDensity",
            "gencore.models.RecoveryLikelihood",
            "gencore.metrics.bits_per_dim",
        ),
        further_tests=(
            f"{_MANY}::test_bits_of_scaled_data_have_the_jacobian_of_every_dimension",
            f"{_RECOVERY}::TestLogZ::test_32_dimensions_within_a_twentieth_of_a_nat",
            f"{_RECOVERY}::TestLogZ::test_the_density_has_the_jacobian_of_every_dimension",
            f"{_RECOVERY}::TestLogZ::test_the_density_of_the_plane_integrates_to_one",
            f"{_RECOVERY}::TestLogZ::test_few_chains_flatter_the_model",
        ),
        notes="along the levels of a diffusion (RecoveryLikelihood) the estimate takes samples of "
        "each level as those of its density, as the source does",
    ),
    System(
        id="Y09",
        name="Langevin dynamics",
        source="Yan 2022, §2.4.2",
        implementation="gencore.samplers.Langevin",
        test="samplers/test_langevin.py::TestLangevin::test_stationary_variance",
        recipe="ebm",
        further_implementations=("gencore.ops.langevin_step",),
        further_tests=("samplers/test_langevin.py::TestLangevin::test_variance_after_a_few_steps",),
        notes="the source's units are Langevin.from_time_step",
    ),
    System(
        id="Y10",
        name="Gradient flow of an energy as a normalising flow",
        source="Yan 2022, §2.4.4",
        implementation="gencore.samplers.GradientFlow",
        test=f"{_FLOW}::test_closed_form_of_a_quadratic",
        recipe="densities",
        further_implementations=("gencore.samplers.EulerFlow", "gencore.models.FlowEBM"),
        further_tests=(
            f"{_FLOW}::test_round_trip_at_the_default_tolerances",
            f"{_EULER}::test_closed_form_of_a_quadratic",
            f"{_EULER}::test_it_approaches_the_ode_linearly",
        ),
    ),
    System(
        id="B06",
        name="Annealed importance sampling",
        source="Bruna, Lecture 11",
        implementation="gencore.samplers.AnnealedImportance",
        test=f"{_AIS}::test_log_z_of_a_gaussian",
        further_tests=(
            f"{_AIS}::test_forward_weights_are_unbiased",
            f"{_AIS}::test_reverse_weights_are_unbiased",
        ),
    ),
    System(
        id="B28",
        name="Metropolis-Hastings GAN, and the complete recipe of SG-MCMC",
        source="Bruna, Lecture 11",
        implementation="gencore.samplers.MetropolisHastingsGAN",
        test="samplers/test_metropolis_hastings_gan.py::test_the_transition_keeps_p_exactly",
        further_implementations=(
            "gencore.models.PlattScaling",
            "gencore.metrics.calibration_statistic",
            "gencore.samplers.CompleteRecipe",
        ),
        further_tests=(
            "samplers/test_metropolis_hastings_gan.py::test_samples_of_q_become_samples_of_p",
            "samplers/test_metropolis_hastings_gan.py"
            "::test_moments_and_acceptance_between_normal_densities",
            "models/adversarial/test_platt_scaling.py::test_an_affine_distortion_is_undone",
            "models/adversarial/test_platt_scaling.py::test_calibration_brings_the_statistic_down",
            f"{_RECIPE}::test_the_process_keeps_the_density",
            f"{_RECIPE}::test_sgld_is_a_case",
            f"{_RECIPE}::test_sgrld_is_a_case",
            f"{_RECIPE}::test_sghmc_is_a_case_up_to_second_order",
            f"{_RECIPE}::test_stationary_covariance_of_a_gaussian",
        ),
        notes="SGHMC moves by the new momentum, the recipe's Euler step by the old one",
    ),
)
