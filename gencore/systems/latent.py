"""Autoencoders whose latents have a density: VAEs, generative latent flow and its competitors."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_VAE = "models/latent/test_vae.py"
_GLF = "models/latent/test_generative_latent_flow.py"
_BASELINES = "models/latent/test_latent_baselines.py"
_NETWORKS = "nn/test_infogan_autoencoder.py::test_parameters_of_the_thesis"

SYSTEMS = (
    System(
        id="Y16",
        name="VAE with a flow prior",
        source="Yan 2022, §3.2.2",
        implementation="gencore.models.VAE",
        test=f"{_VAE}::TestBounds::test_the_identity_as_a_flow_is_the_standard_prior",
        recipe="glf",
        further_implementations=("gencore.nn.InfoGANEncoder", "gencore.nn.InfoGANDecoder"),
        further_tests=(
            f"{_VAE}::TestBounds::test_with_the_exact_posterior_every_draw_is_the_likelihood",
            f"{_VAE}::TestBounds::test_so_it_is_with_the_prior_of_a_flow",
            f"{_VAE}::TestLoss::test_the_weight_of_the_reconstruction_is_a_precision",
            _NETWORKS,
        ),
        notes="β is the weight of the reconstruction, 1/σ²; the printed decoder of Table 3.6 ends "
        "with 128 channels, ours with those of the images",
    ),
    System(
        id="Y17",
        name="Regularised generative latent flow",
        source="Yan 2022, §3.2.3",
        implementation="gencore.models.GenerativeLatentFlow",
        test=f"{_GLF}::TestDegeneracy::test_smaller_codes_gain_the_logarithm_of_their_scale",
        recipe="glf",
        further_tests=(
            f"{_GLF}::TestGradients::test_the_density_moves_the_encoder_only_where_it_regularises",
            f"{_GLF}::test_the_limit_of_a_narrow_posterior_is_the_regularised_loss",
        ),
    ),
    System(
        id="Y18",
        name="Generative latent flow",
        source="Yan 2022, §3.2.3",
        implementation="gencore.models.GenerativeLatentFlow",
        test=f"{_GLF}::TestGradients::test_the_density_moves_the_encoder_only_where_it_regularises",
        recipe="glf",
        further_tests=(
            f"{_GLF}::TestGradients::test_one_stage_has_the_gradients_of_two",
            f"{_GLF}::TestDegeneracy::test_the_fitted_flow_reaches_the_entropy_of_a_gaussian",
            f"{_GLF}::test_noise_of_data_reconstructs_them",
        ),
    ),
    System(
        id="Y19",
        name="Perceptual generative latent flow",
        source="Yan 2022, §3.2.4",
        implementation="gencore.models.GenerativeLatentFlow",
        test=f"{_GLF}::TestPerceptualDistance::test_the_network_of_the_features_is_frozen",
        recipe="glf",
        further_implementations=("gencore.nn.PerceptualDistance",),
        further_tests=(
            f"{_GLF}::TestPerceptualDistance::test_it_is_the_mean_difference_at_each_depth",
        ),
        notes="the recipe's features are those of a classifier of the data's labels, not of VGG",
    ),
    System(
        id="Y20",
        name="WAE-GAN, two-stage VAE, RAE + GMM",
        source="Yan 2022, §3.2.6",
        implementation="gencore.models.WAEGAN",
        test=f"{_BASELINES}::TestWAEGAN::test_the_adversary_of_the_thesis",
        recipe="glf",
        further_implementations=(
            "gencore.models.TwoStageVAE",
            "gencore.models.RegularisedAutoencoder",
            "gencore.models.GaussianMixture",
        ),
        further_tests=(
            f"{_BASELINES}::TestWAEGAN"
            "::test_the_best_adversary_measures_the_jensen_shannon_divergence",
            f"{_BASELINES}::TestTwoStageVAE::test_samples_are_those_of_the_hierarchy",
            f"{_BASELINES}::TestRegularisedAutoencoder::test_the_gradient_of_the_penalty",
            f"{_BASELINES}::TestGaussianMixture::test_each_step_of_the_fit_gains_likelihood",
        ),
        notes="the mixture is fitted by scikit-learn",
    ),
)
