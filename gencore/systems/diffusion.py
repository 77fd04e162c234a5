"""Models that undo the steps of a diffusion."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_RECOVERY = "models/diffusion/test_diffusion_recovery_ebm.py"
_DIFFUSION = "models/diffusion/test_gaussian_diffusion.py"
_SCHEDULE = "models/diffusion/test_noise_schedule.py"

SYSTEMS = (
    System(
        id="G12",
        name="Diffusion recovery likelihood",
        source="Gao 2021, §2.3.4",
        implementation="gencore.models.DiffusionRecoveryEBM",
        recipe="drl",
        test=f"{_RECOVERY}::TestSamples::test_the_way_down_is_a_recursion_of_variances",
        further_implementations=(
            "gencore.models.LevelEnergy",
            "gencore.models.NoiseSchedule",
            "gencore.nn.TimeMLPEnergy",
            "gencore.nn.ResNetEnergy",
            "gencore.nn.LevelConvEnergy",
        ),
        further_tests=(
            f"{_RECOVERY}::TestSamples::test_one_marginal_level_is_a_short_run_from_noise",
            f"{_RECOVERY}::TestSamples::test_the_normal_approximation_of_many_small_steps",
            f"{_RECOVERY}::TestObjective::"
            "test_its_gradient_is_the_difference_of_the_chains_second_moments",
            f"{_RECOVERY}::TestObjective::test_at_the_truth_no_level_has_a_gradient",
            f"{_RECOVERY}::TestPresets::test_the_released_levels",
            "recipes/test_drl_recipe.py::TestPresets::test_the_noise_of_six_levels_in_closed_form",
            "recipes/test_drl_recipe.py::TestStepSizes::"
            "test_they_are_the_chains_own_deviations_where_data_do_not_vary",
            "nn/test_resnet_energy.py::test_blocks_start_as_the_identity_and_learn",
            "nn/test_level_conv_energy.py::"
            "test_without_weights_at_the_end_it_is_a_normal_density_of_each_levels_scale",
        ),
        notes="sigma of (2.23) is that of (2.22); on the plane: the recipe toydrl",
    ),
    System(
        id="G13",
        name="Interpolation and inpainting by diffusion recovery likelihood",
        source="Gao 2021, §2.3.5.1",
        implementation="gencore.models.DiffusionRecoveryEBM",
        test=f"{_RECOVERY}::TestInterpolation::test_the_ends_are_the_two_samples_bit_for_bit",
        further_implementations=("gencore.models.DiffusionNoise", "gencore.models.slerp"),
        further_tests=(
            f"{_RECOVERY}::TestInterpolation::test_slerp_of_normals_keeps_their_norm",
            f"{_RECOVERY}::TestInpainting::test_repeats_reach_the_conditional_gaussian",
            f"{_RECOVERY}::TestInpainting::test_all_free_is_a_sample_and_nothing_free_the_data",
        ),
        notes="repeats of a level, beyond the source, make inpainting exact",
    ),
    System(
        id="B05",
        name="Diffusion model",
        source="Bruna, Lecture 11",
        implementation="gencore.models.GaussianDiffusion",
        test=f"{_DIFFUSION}::TestGaussianData::test_samples_have_the_law_of_the_data",
        recipe="diffusion",
        further_implementations=(
            "gencore.models.NoiseSchedule",
            "gencore.nn.DenoisingUNet",
            "gencore.nn.DenoisingMLP",
        ),
        further_tests=(
            f"{_SCHEDULE}::test_step_by_step_and_at_once_agree_in_law",
            f"{_DIFFUSION}::TestGaussianData::test_optimal_variances_are_those_of_the_reverse_chain",
            f"{_DIFFUSION}::TestGaussianData::"
            "test_the_bound_of_the_optimal_chain_is_the_likelihood",
            f"{_DIFFUSION}::TestGaussianData::test_what_other_variances_lose",
            f"{_DIFFUSION}::TestTerms::test_they_are_those_of_torchs_distributions",
            f"{_DIFFUSION}::test_training_on_the_plane_reaches_the_modes",
        ),
        notes="Sohl-Dickstein et al. 2015, who predict the means of steps and learn variances, in "
        "the form of Ho et al. 2020; the lecture's 4.20 bits a dimension on CIFAR-10 are theirs "
        "and not reproduced here",
    ),
)
