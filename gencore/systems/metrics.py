"""Measures of samples, of predicted images and of scores."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_PREDICTION = "metrics/test_frame_prediction.py"

SYSTEMS = (
    System(
        id="M25",
        name="PSNR, SSIM and sharpness difference",
        source="Mathieu 2017, §4.3.2",
        implementation="gencore.metrics.sharpness_difference",
        further_implementations=("gencore.metrics.psnr", "gencore.metrics.ssim"),
        test="metrics/test_image_measures.py::test_m25_psnr_ssim_and_sharpness",
        further_tests=(
            "metrics/test_image_measures.py::test_ssim_of_constant_images_is_known",
            "metrics/test_image_measures.py::test_the_two_variants_of_sharpness_cancel_differently",
        ),
        notes="the formula and the authors' program differ; both are there",
    ),
    System(
        id="M26",
        name="Moving-area mask",
        source="Mathieu 2017, §4.3.2",
        implementation="gencore.metrics.moving_area",
        test=f"{_PREDICTION}::TestMovingArea::"
        "test_m26_blank_psnr_is_restricted_psnr_and_the_fraction",
        further_implementations=(
            "gencore.metrics.evaluate_frame_prediction",
            "gencore.data.optical_flow",
            "gencore.data.flow_to_image",
        ),
        further_tests=(
            f"{_PREDICTION}::TestMovingArea::test_m26_pixels_above_four_fifths_of_the_longest",
            f"{_PREDICTION}::TestEvaluation::test_columns_are_the_means_of_the_measures",
            f"{_PREDICTION}::TestEvaluation::test_nearly_perfect_clips_are_left_out",
        ),
        notes="TV-L1 in place of EpicFlow; the footnote's polarity is that of the complement, and "
        "both are there",
    ),
    System(
        id="M36",
        name="Tweaked inception score",
        source="Mathieu 2017, §6.3.1",
        implementation="gencore.metrics.tweaked_inception_score",
        further_implementations=("gencore.metrics.StreamingTweakedInceptionScore",),
        test="metrics/test_predictions.py::test_m36_tweaked_inception_score",
        further_tests=(
            "recipes/test_gan_recipes.py::test_the_command_trains_a_conditional_generator",
        ),
        notes="the recipe gan measures it, and docs/ebgan-grid.md compares runs by it",
    ),
    System(
        id="Y15",
        name="FID, PRD and nearest neighbours",
        source="Yan 2022, §2.4.6 and §3.2.4",
        implementation="gencore.metrics.frechet_distance",
        further_implementations=(
            "gencore.metrics.InceptionFeatures",
            "gencore.metrics.prd",
            "gencore.metrics.nearest_neighbors",
        ),
        test="metrics/test_prd.py::test_y15_frechet_distance_prd_and_nearest_neighbours",
        notes="FID needs a file with the weights of its Inception network",
    ),
    System(
        id="Y28",
        name="AUROC, AUPRC and FPR80",
        source="Yan 2022, §4.2.4",
        implementation="gencore.metrics.detection_scores",
        further_implementations=(
            "gencore.metrics.false_positive_rate",
            "gencore.metrics.StreamingDetection",
        ),
        test="metrics/test_detection.py::test_y28_detection_scores",
        further_tests=("metrics/test_detection.py::test_false_positive_rates_by_hand",),
    ),
    System(
        id="L15",
        name="Inception score and FID",
        source="Lucas 2020, §2.12.3",
        implementation="gencore.metrics.frechet_distance",
        further_implementations=(
            "gencore.metrics.frechet_at_infinity",
            "gencore.metrics.inception_score",
        ),
        test="metrics/test_sample_size.py::test_l15_inception_score_and_frechet_distance",
        notes="the published names are for the weights of one Inception network, read from a file",
    ),
    System(
        id="L31",
        name="GAN-test and GAN-train",
        source="Lucas 2020, §5.6.1",
        implementation="gencore.metrics.gan_test_train",
        test="metrics/test_predictions.py::test_l31_gan_test_and_gan_train",
        notes="by any classifier, a small one by default",
    ),
    System(
        id="L32",
        name="Precision and recall of distributions (PRD)",
        source="Lucas 2020, §5.6.2",
        implementation="gencore.metrics.prd",
        further_implementations=("gencore.metrics.prd_curve", "gencore.metrics.StreamingPRD"),
        test="metrics/test_prd.py::test_l32_precision_and_recall_of_distributions",
    ),
)
