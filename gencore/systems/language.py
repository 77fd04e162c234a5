"""Captions of images, and vectors of words."""

from gencore.systems.system import System

__all__ = ["SYSTEMS"]

_BEAMS = "models/language/test_beam_search.py"
_CAPTIONERS = "models/language/test_captioner.py"
_MEASURES = "metrics/test_captions.py"
_SKIP_GRAM = "models/language/test_skip_gram.py"
_RECIPE = "recipes/test_captions_recipe.py"

SYSTEMS = (
    System(
        id="L37",
        name="GRU captioner with beam search",
        source="Lucas 2020, §B.3.1",
        implementation="gencore.models.Captioner",
        test=f"{_BEAMS}::test_l37_a_wide_beam_is_the_exhaustive_search",
        recipe="captions",
        further_implementations=("gencore.models.beam_search",),
        further_tests=(
            f"{_BEAMS}::test_l37_width_1_is_greedy",
            f"{_BEAMS}::test_scores_of_lengths",
            f"{_CAPTIONERS}::TestCaptioner::test_the_likelihood_is_that_of_the_steps",
            f"{_CAPTIONERS}::TestCaptioner::test_draws_have_the_probabilities",
        ),
        notes="Trained on synthetic scenes with a small encoder, in place of MSCOCO and VGG16.",
    ),
    System(
        id="L38",
        name="Word-region attention",
        source="Lucas 2020, §B.3.2",
        implementation="gencore.models.RegionCaptioner",
        test=f"{_CAPTIONERS}::TestAttention::test_l38_it_is_the_dense_reference",
        recipe="captions",
        further_implementations=(
            "gencore.models.word_region_marginals",
            "gencore.models.ImageCaptioner",
            "gencore.models.grid_regions",
            "gencore.models.box_regions",
        ),
        further_tests=(
            f"{_CAPTIONERS}::TestAttention::test_l38_the_joint_distribution_and_its_marginals",
            f"{_CAPTIONERS}::TestAttention::test_l38_the_order_of_regions_has_no_effect",
            f"{_CAPTIONERS}::TestAttention::test_l38_without_descriptions_it_is_the_baseline",
            f"{_CAPTIONERS}::TestAttention::test_l38_gradients",
            "models/language/test_regions.py::"
            "test_boxes_have_the_greatest_of_the_cells_that_they_overlap",
        ),
        notes="Windows in place of a detector's proposals.",
    ),
    System(
        id="L40",
        name="Caption metrics and attention correctness",
        source="Lucas 2020, §B.4",
        implementation="gencore.metrics.attention_correctness",
        test=f"{_MEASURES}::TestAttentionCorrectness::"
        "test_l40_uniform_attention_has_the_part_of_the_area",
        recipe="captions",
        further_implementations=(
            "gencore.metrics.bleu",
            "gencore.metrics.cider_d",
            "gencore.metrics.rouge_l",
        ),
        further_tests=(
            f"{_MEASURES}::TestBLEU::test_l40_identical_captions_have_1",
            f"{_MEASURES}::TestCIDEr::test_one_order_by_hand",
            f"{_MEASURES}::TestROUGE::test_the_sentences_of_the_paper",
        ),
        notes="METEOR, which needs stemmers and synonyms, is left to other packages.",
    ),
    System(
        id="B24",
        name="word2vec: skip-gram with negative sampling",
        source="Bruna, lecture 11",
        implementation="gencore.models.SkipGram",
        test=f"{_SKIP_GRAM}::test_b24_the_optimum_is_the_shifted_pmi",
        further_implementations=("gencore.models.shifted_pmi", "gencore.models.skip_gram_pairs"),
        further_tests=(
            f"{_SKIP_GRAM}::test_the_expected_loss_is_the_mean_of_the_losses",
            f"{_SKIP_GRAM}::test_words_in_the_same_places_have_near_vectors",
        ),
    ),
)
