"""Generative adversarial networks."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_CONDITIONAL = "nn/test_conditional_weight_norm.py"
_DCGAN = "nn/test_dcgan.py"
_PROGRESSIVE = "nn/test_progressive_gan.py"
_PATCHES = "nn/test_patch_networks.py"
_SCATTERING = "nn/test_scattering.py"
_LAPLACIAN = "models/adversarial/test_laplacian_gan.py"
_PAIRS = "models/adversarial/test_pix2pix.py"
_CYCLE = "models/adversarial/test_cycle_gan.py"
_LARGE = "models/adversarial/test_truncated_latents.py"
_ENERGY = "models/adversarial/test_conv_autoencoder_energy.py"

SYSTEMS = (
    System(
        id="M39",
        name="Energy-based GAN of images",
        source="Mathieu 2017, §6.3.3",
        implementation="gencore.models.ConvAutoencoderEnergy",
        test=f"{_ENERGY}::test_m39_a_smoke_run_at_the_sizes_of_the_thesis",
        further_implementations=("gencore.nn.DCGANGenerator",),
        further_tests=(
            f"{_ENERGY}::test_it_is_that_of_bedrooms_and_faces",
            f"{_ENERGY}::test_it_is_the_sum_of_squared_errors",
        ),
        notes="networks alone, in smoke runs at 64x64, 128x128 and 256x256 pixels: no samples and "
        "no scores are claimed",
    ),
    System(
        id="L30",
        name="Conditional weight normalisation",
        source="Lucas 2020, §5.6.1",
        implementation="gencore.nn.ConditionalWeightNorm",
        test=f"{_CONDITIONAL}::test_it_is_the_convolution_of_each_class",
        further_implementations=("gencore.nn.ProjectionDiscriminator",),
        further_tests=(
            f"{_CONDITIONAL}::test_the_norm_of_a_filter_is_its_gain",
            f"{_CONDITIONAL}::test_the_slope_is_orthogonal_to_the_directions",
            f"{_CONDITIONAL}::test_one_class_is_weight_normalisation",
            f"{_CONDITIONAL}::test_gradients",
            f"{_CONDITIONAL}::TestProjection::test_it_is_the_equation",
            f"{_CONDITIONAL}::TestProjection::test_it_learns_the_ratio_of_normal_densities",
            f"{_DCGAN}::test_l30_samples_of_a_class_are_taken_for_it",
        ),
    ),
    System(
        id="B12",
        name="Laplacian pyramid of GANs",
        source="Bruna, Lecture 11",
        implementation="gencore.models.LaplacianGAN",
        test=f"{_LAPLACIAN}::TestPyramid::test_b12_levels_of_grey_come_back_bit_for_bit",
        further_implementations=("gencore.objectives.laplacian_reconstruction",),
        further_tests=(
            f"{_LAPLACIAN}::TestPyramid::test_b12_the_bands_give_the_image",
            f"{_LAPLACIAN}::TestSampling::test_b12_from_coarse_to_fine",
            f"{_LAPLACIAN}::TestSampling::test_samples_in_any_split",
            f"{_LAPLACIAN}::TestTraining::test_each_level_has_its_own_game",
        ),
    ),
    System(
        id="B13",
        name="DCGAN",
        source="Bruna, Lecture 11",
        implementation="gencore.nn.DCGANGenerator",
        test=f"{_DCGAN}::test_b13_it_trains_on_digits_and_interpolates",
        further_implementations=("gencore.nn.DCGANDiscriminator",),
        further_tests=(
            f"{_DCGAN}::test_the_networks_are_those_of_the_source",
            f"{_DCGAN}::test_latents_to_images_to_logits",
            f"{_DCGAN}::test_every_pixel_of_an_odd_side_is_made_and_seen",
        ),
        notes="4x4 filters as in the authors' program, where the paper has 5x5",
    ),
    System(
        id="B15",
        name="Distance of scattering coefficients or of a CNN's features",
        source="Bruna, Lecture 11",
        implementation="gencore.nn.Scattering",
        test=f"{_SCATTERING}::TestWarps::test_b15_it_is_stable_where_pixels_are_not",
        further_implementations=("gencore.nn.PerceptualDistance",),
        further_tests=(
            f"{_SCATTERING}::TestWarps::"
            "test_b15_it_moves_in_proportion_to_the_warp_at_any_frequency",
            f"{_SCATTERING}::TestFilters::test_the_first_layer_keeps_the_energy",
            f"{_SCATTERING}::TestNorms::test_it_does_not_expand",
            f"{_SCATTERING}::TestOrders::test_they_are_sums_by_hand",
        ),
    ),
    System(
        id="B16",
        name="Translation of images: pix2pix and CycleGAN",
        source="Bruna, Lecture 11",
        implementation="gencore.models.CycleGAN",
        test=f"{_CYCLE}::test_b16_it_learns_a_rotation_from_points_without_pairs",
        further_implementations=(
            "gencore.models.Pix2Pix",
            "gencore.nn.UNetGenerator",
            "gencore.nn.ResNetGenerator",
            "gencore.nn.PatchDiscriminator",
            "gencore.models.ImagePool",
            "gencore.objectives.cycle_consistency_loss",
            "gencore.objectives.identity_loss",
        ),
        further_tests=(
            f"{_CYCLE}::TestLosses::test_b16_inverse_maps_have_no_cycle_loss",
            f"{_CYCLE}::TestModel::test_the_losses_are_those_of_both_games",
            f"{_CYCLE}::TestPool::test_half_of_what_it_gives_is_new",
            f"{_PATCHES}::TestPatches::test_a_logit_sees_one_patch",
            f"{_PATCHES}::TestUNet::test_it_is_that_of_the_source",
            f"{_PATCHES}::TestResNet::test_it_is_that_of_the_source",
            f"{_PAIRS}::TestPix2Pix::test_it_learns_a_translation",
        ),
    ),
    System(
        id="B17",
        name="Discriminators at several scales, feature matching and progressive growing",
        source="Bruna, Lecture 11",
        implementation="gencore.nn.ProgressiveGenerator",
        test=f"{_PROGRESSIVE}::test_b17_without_a_share_it_is_the_small_network",
        further_implementations=(
            "gencore.nn.ProgressiveDiscriminator",
            "gencore.nn.GrowthSchedule",
            "gencore.models.MultiScalePatchDiscriminator",
            "gencore.objectives.feature_matching_loss",
            "gencore.objectives.orthogonality_penalty",
            "gencore.models.truncated_normal",
        ),
        further_tests=(
            f"{_PROGRESSIVE}::test_b17_with_the_whole_share_it_is_the_grown_network",
            f"{_PROGRESSIVE}::test_learning_rates_are_equalised",
            f"{_PAIRS}::TestFeatureMatching::test_b17_equal_inputs_have_no_loss",
            f"{_PAIRS}::TestFeatureMatching::test_it_is_the_equation",
            f"{_PAIRS}::TestScales::test_a_coarser_one_sees_the_means_of_four_pixels",
            f"{_LARGE}::test_truncated_latents_have_their_moments",
            "objectives/test_orthogonality.py::test_it_is_the_equation",
        ),
        notes="of the large-scale class-conditional GAN there are truncation and orthogonal "
        "regularisation; the networks are DCGANGenerator with conditional weight norms and "
        "ProjectionDiscriminator (L30), and nothing was trained at a large scale",
    ),
)
