"""Diffusions: models that undo their steps."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_DIFFUSION = "models/diffusion/test_gaussian_diffusion.py"
_SCHEDULE = "models/diffusion/test_noise_schedule.py"

SYSTEMS = (
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
