from gencore.models.language.beams import Beams, beam_search
from gencore.models.language.captioner import Captioner
from gencore.models.language.image_captioner import ImageCaptioner
from gencore.models.language.region_attention import WordRegionMarginals, word_region_marginals
from gencore.models.language.region_captioner import RegionCaptioner
from gencore.models.language.regions import box_regions, cell_boxes, grid_regions, window_boxes
from gencore.models.language.skip_gram import (
    SkipGram,
    context_counts,
    shifted_pmi,
    skip_gram_pairs,
)

__all__ = [
    "Beams",
    "Captioner",
    "ImageCaptioner",
    "RegionCaptioner",
    "SkipGram",
    "WordRegionMarginals",
    "beam_search",
    "box_regions",
    "cell_boxes",
    "context_counts",
    "grid_regions",
    "shifted_pmi",
    "skip_gram_pairs",
    "window_boxes",
    "word_region_marginals",
]
