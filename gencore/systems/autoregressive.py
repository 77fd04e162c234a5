"""Densities by a conditional distribution for each dimension, and what compresses with them."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_VQ = "nn/test_vector_quantizer.py"
_VQVAE = "models/autoregressive/test_vq_vae.py"
_LOSSY = "models/autoregressive/test_lossy_coder.py"

SYSTEMS = (
    System(
        id="L11",
        name="VQ-VAE with an autoregressive prior",
        source="Lucas 2020, §2.10.5",
        implementation="gencore.models.VQVAE",
        further_implementations=("gencore.nn.VectorQuantizer",),
        recipe="vqvae",
        test=f"{_VQ}::TestNearest::test_indices_are_those_of_brute_force",
        further_tests=(
            f"{_VQ}::TestForward::test_gradients_are_those_of_the_formulas",
            f"{_VQ}::TestAverages::test_without_a_memory_they_are_k_means",
            f"{_VQ}::TestAverages::test_the_loss_has_the_fixed_points_of_k_means",
            f"{_VQVAE}::TestBound::test_it_is_the_likelihood_and_the_prior",
            f"{_VQVAE}::TestBound::test_all_images_of_codes_have_probability_one",
            f"{_VQVAE}::TestPrior::test_skewed_codes_take_less_than_their_logarithm",
        ),
        notes="the likelihood in (2.71) has the wrong sign; code books also by averages",
    ),
    System(
        id="L35",
        name="Lossy coder",
        source="Lucas 2020, §6.2.1",
        implementation="gencore.models.LossyCoder",
        further_implementations=("gencore.nn.FactorizedPrior",),
        test=f"{_LOSSY}::test_a_uniform_quantiser_is_a_quarter_bit_above_the_bound",
        further_tests=(
            f"{_LOSSY}::test_trained_coders_follow_the_bound",
            f"{_LOSSY}::test_where_errors_cost_nothing_nothing_is_coded",
            f"{_LOSSY}::test_with_all_weight_on_the_distortion_it_is_that_of_the_best_quantiser",
        ),
        notes="rates are those of ideal entropy coding",
    ),
)
