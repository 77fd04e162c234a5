"""How much of a word's attention is where the word's object is."""

import torch
from torch import Tensor

__all__ = ["attention_correctness"]


def attention_correctness(attention: Tensor, regions: Tensor, boxes: Tensor) -> Tensor:
    r"""The attention that falls into a box, [...].

    .. math:: \sum_r p_r\, \frac{|\,\mathrm{region}_r \cap \mathrm{box}\,|}
              {|\,\mathrm{region}_r\,|}

    A region's attention is spread evenly over its area. Uniform attention over the cells of a grid
    that covers the image has the box's part of the image's area, which is what to compare with.

    Args:
        attention: p_r, sums to 1 over regions, [..., R].
        regions: left, top, right and bottom edges of the regions, of positive area, [R, 4], or
            [..., R, 4] where they differ.
        boxes: of the objects, in the same units, [..., 4].

    Raises:
        ValueError: the shapes do not fit, a region has no area, or a box has its edges the wrong
            way round.

    Source:
        Liu, Mao, Sha and Yuille, "Attention correctness in neural image captioning", 2017; Lucas,
        "Deep generative models: over-generalisation and mode-dropping", 2020, §B.4.2.

    Example:
        >>> halves = torch.tensor([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])
        >>> attention_correctness(torch.tensor([0.25, 0.75]), halves, torch.tensor([0, 0, 0.5, 1]))
        tensor(0.2500)
    """
    fits = attention.ndim > 0 and regions.shape[-2:] == (attention.shape[-1], 4)
    if not fits or boxes.shape[-1:] != (4,):
        raise ValueError(
            f"attention_correctness: attention {list(attention.shape)}, regions "
            f"{list(regions.shape)}, boxes {list(boxes.shape)}; expected [..., R], [..., R, 4] and "
            "[..., 4]"
        )
    area = (regions[..., 2:] - regions[..., :2]).prod(-1)
    if (regions[..., 2:] <= regions[..., :2]).any() or (boxes[..., 2:] < boxes[..., :2]).any():
        raise ValueError(
            "attention_correctness: expected left < right and top < bottom of regions, and of "
            "boxes at least not the wrong way round"
        )
    box = boxes[..., None, :]
    low = torch.maximum(regions[..., :2], box[..., :2])
    high = torch.minimum(regions[..., 2:], box[..., 2:])
    inside = (high - low).clamp(min=0).prod(-1) / area
    return (attention * inside).sum(-1)
