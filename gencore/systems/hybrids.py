"""Energies that correct a flow or a decoder, and flows behind a decoder."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_TILTING = "models/hybrids/test_exponential_tilting.py"
_V_ADE = "models/hybrids/test_v_ade.py"
_AV_ADE = "models/hybrids/test_av_ade.py"
_IMAGE_FEATURES = "models/hybrids/test_image_features.py"
_ADVERSARIAL = "objectives/test_adversarial.py"
_RECIPE = "recipes/test_avade_recipe.py"

_FCE = "models/hybrids/test_flow_contrastive.py"
_NCE = "objectives/test_noise_contrastive.py"
_FCE_ORDERINGS = "recipes/test_fce_orderings.py"

SYSTEMS = (
    System(
        id="G25",
        name="Noise-contrastive estimation",
        source="Gao 2021, §4.2.1",
        implementation="gencore.objectives.noise_contrastive_loss",
        further_implementations=("gencore.models.EnergyDensity",),
        recipe="fce",
        test=f"{_NCE}::test_a_gaussian_and_its_normaliser_are_recovered",
        further_tests=(
            f"{_NCE}::test_the_value_of_a_density_that_is_its_noise",
            f"{_NCE}::test_the_gradient_by_hand",
            f"{_NCE}::test_at_the_data_it_is_the_jensen_shannon_divergence",
        ),
    ),
    System(
        id="G26",
        name="Flow contrastive estimation",
        source="Gao 2021, §4.2.2",
        implementation="gencore.models.FlowContrastiveEBM",
        further_implementations=("gencore.objectives.AdaptiveAlternation",),
        recipe="fce",
        test=f"{_FCE}::test_the_flows_gradient_is_that_of_the_jensen_shannon_divergence",
        further_tests=(
            f"{_FCE}::test_each_side_trains_itself_alone",
            f"{_FCE}::test_both_sides_see_one_value_and_the_gradients_of_its_formula",
            f"{_FCE}::TestAdaptiveAlternation::test_a_pinned_accuracy_does_not_run_away",
            f"{_FCE_ORDERINGS}::test_the_energy_is_nearer_than_that_of_gaussian_noise",
        ),
        notes="with a warm-up and a cap on updates in a row, without which it can run away; on the "
        "plane, not on images",
    ),
    System(
        id="G27",
        name="Semi-supervised flow contrastive estimation",
        source="Gao 2021, §4.2.3",
        implementation="gencore.models.FlowContrastiveEBM",
        further_implementations=(
            "gencore.models.EnergyClassifier",
            "gencore.objectives.virtual_adversarial_loss",
        ),
        recipe="semifce",
        test="recipes/test_semifce_labels.py::test_unlabelled_points_help_on_spirals",
        further_tests=(
            "objectives/test_virtual_adversarial.py"
            "::test_the_gradient_goes_through_the_moved_point_alone",
        ),
        notes="its test trains for minutes: marked long, with its result in "
        "docs/flow-contrastive.md",
    ),
    System(
        id="G28",
        name="Energy-based model with a flow backbone",
        source="Gao 2021, §4.3",
        implementation="gencore.models.FlowBackboneEBM",
        test=f"{_TILTING}::TestFlowBackboneEBM::test_without_a_correction_latents_are_normal",
        further_tests=(
            f"{_TILTING}::TestFlowBackboneEBM::test_a_gaussian_corrected_by_a_quadratic",
            f"{_TILTING}::TestFlowBackboneEBM"
            "::test_chains_of_latents_hop_between_modes_where_those_of_data_do_not",
        ),
    ),
    System(
        id="Y21",
        name="Exponentially tilted EBM in data space",
        source="Yan 2022, §3.3.2",
        implementation="gencore.models.TiltedEBM",
        test=f"{_TILTING}::TestTiltedEBM::test_the_product_of_two_gaussians",
        further_tests=(f"{_TILTING}::TestTiltedEBM::test_the_gradient_is_that_of_the_likelihood",),
    ),
    System(
        id="Y22",
        name="Latent EBM",
        source="Yan 2022, §3.3.3",
        implementation="gencore.models.LatentEBM",
        recipe="latentebm",
        further_implementations=("gencore.models.FlowBackboneEBM",),
        test=f"{_TILTING}::TestLatentEBM::test_latents_of_a_linear_generator_are_gaussian",
        further_tests=(
            f"{_TILTING}::TestLatentEBM::test_its_normaliser_is_the_determinant",
            f"{_TILTING}::TestLatentEBM::test_without_an_energy_latents_keep_their_prior",
            f"{_TILTING}::TestLatentEBM::test_the_base_is_frozen",
            f"{_TILTING}::TestLatentEBM::test_the_gradient_is_that_of_the_likelihood",
        ),
        notes="the penalty of the energy is its mean square; the thesis leaves the form open",
    ),
    System(
        id="L27",
        name="V-ADE",
        source="Lucas 2020, §5.4",
        implementation="gencore.models.VADE",
        test=f"{_V_ADE}::test_the_flow_lets_the_vae_fit_two_moons",
        further_tests=(
            f"{_V_ADE}::test_without_a_flow_it_is_the_elbo_of_a_vae",
            f"{_V_ADE}::test_with_the_exact_posterior_every_draw_is_the_likelihood",
            f"{_AV_ADE}::TestEncoderInput::test_both_bounds_are_of_the_same_likelihood",
            f"{_RECIPE}::TestLikelihood::test_a_uniform_density_takes_eight_bits",
            f"{_RECIPE}::TestLikelihood::test_a_gaussian_takes_what_its_equation_says",
        ),
        recipe="avade",
        notes="the latents of an image are one vector: hierarchies of them, and posteriors with "
        "inverse autoregressive steps, are left out",
    ),
    System(
        id="L28",
        name="AV-ADE, AV-GDE",
        source="Lucas 2020, §5.4, A.3",
        implementation="gencore.models.AVADE",
        further_implementations=(
            "gencore.models.ScoreAdversary",
            "gencore.objectives.adversarial_generator_loss",
            "gencore.objectives.gradient_penalty",
        ),
        test=f"{_AV_ADE}::TestGradients"
        "::test_the_adversary_moves_the_decoder_and_the_flow_only_if_told",
        further_tests=(
            f"{_AV_ADE}::TestCriteria"
            "::test_quality_is_minus_the_mean_logit_of_the_means_of_samples",
            f"{_AV_ADE}::TestCriteria::test_of_the_best_linear_critic_it_is_the_divergence",
            f"{_AV_ADE}::TestCriteria::test_the_identity_makes_it_av_gde",
            f"{_AV_ADE}::TestGradients::test_it_passes_through_the_inverse_to_the_decoder",
            f"{_ADVERSARIAL}::test_the_generator_s_losses_are_divergences",
            f"{_ADVERSARIAL}::test_the_sum_of_both_criteria_bounds_both_divergences",
            "objectives/test_lipschitz.py::test_of_a_linear_critic_it_is_closed",
            f"{_IMAGE_FEATURES}::test_images_come_back",
            f"{_RECIPE}::TestGame::test_each_player_moves_alone",
            f"{_RECIPE}::TestLikelihood::test_measuring_a_gan_leaves_it_as_it_is",
            f"{_RECIPE}::TestPresets::test_each_trains_two_hundred_steps",
        ),
        recipe="avade",
        notes="the penalty is on interpolates, which the thesis leaves open; the discriminator "
        "sees images without dequantisation noise, and samples without the decoder's unless "
        "asked; latents as of L27",
    ),
    System(
        id="L33",
        name="Flexibility of the feature space",
        source="Lucas 2020, §5.7",
        implementation="gencore.models.VADE",
        further_implementations=(
            "gencore.models.AVADE",
            "gencore.models.ImageFeatures",
            "gencore.models.RealNVP",
        ),
        test=f"{_V_ADE}::test_features_at_several_scales",
        further_tests=(
            f"{_IMAGE_FEATURES}::test_it_inverts_with_the_exact_log_determinant",
            f"{_IMAGE_FEATURES}::test_it_is_real_nvp_with_its_latents_in_another_order",
            f"{_IMAGE_FEATURES}::test_features_lie_where_their_pixels_are",
            f"{_RECIPE}::TestGame::test_the_likelihood_alone_comes_first",
        ),
        recipe="avade",
    ),
)
