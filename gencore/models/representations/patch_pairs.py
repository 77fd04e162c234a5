"""Pairs of patches of an image, and where one is as seen from the other."""

from typing import NamedTuple, get_args

import torch
from torch import Generator, Tensor

from gencore.choices import check_choice
from gencore.data import to_float
from gencore.models.representations.names import PatchColour
from gencore.ops import philox_normal, random_key
from gencore.ops.random import philox_uniform
from gencore.sizes import check_positive, check_whole

__all__ = ["POSITIONS", "PatchPairs", "draw_patch_pairs", "project_colours"]

POSITIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""Down and right from the first patch to the second, of each of the eight classes."""

# The direction from magenta to green, in which lenses spread light and so tell where they look.
_GREEN_MAGENTA = (-1.0, 2.0, -1.0)
# What a step draws for a pair: position, two places, two times two jitters, two channels.
_NUM_UNIFORM = 9


class PatchPairs(NamedTuple):
    """Two patches of each image, and their class."""

    first: Tensor
    """From -1 to 1, but for the noise of dropped colours, [N, C, P, P]."""

    second: Tensor
    """Likewise."""

    position: Tensor
    """Where the second is, a number of `POSITIONS`, int64 [N]."""


def draw_patch_pairs(
    images: Tensor,
    *,
    patch_size: int,
    gap: int,
    jitter: int = 0,
    colour: PatchColour = "keep",
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> PatchPairs:
    """Draw a pair of neighbouring patches of each image.

    Around a patch there are eight others, with `gap` pixels between; one of them is the second
    patch. Each is then moved by up to `jitter` pixels along both axes. The gap and the jitter keep
    lines that go on from one patch to the next from telling where it is. Lenses do too, as they
    focus colours differently towards the edges, and against that is `colour`:

    - "keep": colours are as they are;
    - "project": without the component from magenta to green, `project_colours`;
    - "drop": each patch has one of its channels, and noise with a hundredth of that channel's
      standard deviation in the others.

    Args:
        images: uint8, or floating point in [0, 1], [N, C, H, W]. Both sides are at least twice the
            patch's, and the gap, and twice the jitter.
        patch_size: P.
        gap: pixels between the patches.
        jitter: pixels.
        colour: what is done to colours; other than "keep" needs three channels.
        generator: source of the key, if there is none.
        key: int64 [seed, offset].
        first: number of the first image in a larger batch, whose draws are a part of the whole's.

    Raises:
        ValueError: the images have another shape or are too small, or a number is out of range.

    References:
        Doersch, Gupta and Efros, "Unsupervised visual representation learning by context
        prediction", 2015, sections 3 and 3.1.

    Example:
        >>> pairs = draw_patch_pairs(torch.rand(5, 3, 64, 64), patch_size=20, gap=10, jitter=3)
        >>> pairs.first.shape, pairs.second.shape, pairs.position.shape
        (torch.Size([5, 3, 20, 20]), torch.Size([5, 3, 20, 20]), torch.Size([5]))
    """
    name = "draw_patch_pairs"
    check_positive(name, patch_size=patch_size)
    check_whole(name, gap=gap, jitter=jitter)
    check_choice(name, "colour", colour, get_args(PatchColour))
    if min(gap, jitter) < 0:
        raise ValueError(f"{name}: gap is {gap} and jitter {jitter}; expected 0 or more")
    least = 2 * patch_size + gap + 2 * jitter
    if images.ndim != 4 or min(images.shape[2:]) < least:
        raise ValueError(
            f"{name}: images have shape {list(images.shape)}; expected [N, C, H, W] with sides of "
            f"at least {least} pixels, 2 * patch_size + gap + 2 * jitter"
        )
    if colour != "keep" and images.shape[1] != 3:
        raise ValueError(
            f'{name}: images have {images.shape[1]} channels; expected 3, or colour="keep"'
        )
    device, num = images.device, len(images)
    key = random_key(generator, device) if key is None else key
    uniform = philox_uniform([num, _NUM_UNIFORM], key, first_element=first * _NUM_UNIFORM)
    position = (uniform[:, 0] * len(POSITIONS)).long()
    offset = torch.tensor(POSITIONS, device=device)[position] * (patch_size + gap)
    sides = torch.tensor(images.shape[2:], device=device) - patch_size
    # Places of the first patch from which both, and their jitter, stay inside.
    low = (-offset).clamp(min=0) + jitter
    high = torch.minimum(sides - offset, sides) - jitter
    place = low + (uniform[:, 1:3] * (high - low + 1)).long()
    moved = (uniform[:, 3:7] * (2 * jitter + 1)).long() - jitter
    x = to_float(images, -1, 1) if images.dtype == torch.uint8 else 2 * images - 1
    starts = place + moved[:, :2], place + offset + moved[:, 2:]
    patches = [_cut(x, start, patch_size) for start in starts]
    if colour == "project":
        patches = [project_colours(patch) for patch in patches]
    elif colour == "drop":
        noise_key = key + key.new_tensor([0, 1])
        size = [num, 2, *patches[0].shape[1:]]
        noise = philox_normal(size, noise_key, first_element=first * patches[0][0].numel() * 2)
        kept = (uniform[:, 7:9] * 3).long()
        patches = [
            _drop(patch, kept[:, side], noise[:, side]) for side, patch in enumerate(patches)
        ]
    return PatchPairs(patches[0], patches[1], position)


def project_colours(x: Tensor) -> Tensor:
    """Colours [N, 3, ...] without their component along (−1, 2, −1), from magenta to green: x − (x
    · a)a / ‖a‖².

    Example:
        >>> project_colours(torch.tensor([[0.0, 1.0, 0.0]]))
        tensor([[0.3333, 0.3333, 0.3333]])
    """
    if x.ndim < 2 or x.shape[1] != 3:
        raise ValueError(f"project_colours: x has shape {list(x.shape)}; expected [N, 3, ...]")
    axis = x.new_tensor(_GREEN_MAGENTA)
    projection = torch.eye(3).to(axis) - torch.outer(axis, axis) / axis.square().sum()
    return torch.einsum("ij,nj...->ni...", projection, x)


def _cut(x: Tensor, start: Tensor, size: int) -> Tensor:
    """The patches [N, C, size, size] of images [N, C, H, W] from rows and columns [N, 2] on."""
    steps = torch.arange(size, device=x.device)
    rows, columns = (start[:, axis, None] + steps for axis in (0, 1))
    image = torch.arange(len(x), device=x.device)[:, None, None]
    # Advanced indices on both sides of a slice put the slice last.
    return x[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _drop(patch: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
    """One channel of each patch, [N], and noise in the others."""
    is_kept = torch.nn.functional.one_hot(kept, 3)[..., None, None].bool()
    deviation = patch.flatten(2).std(2, correction=0).gather(1, kept[:, None])
    return torch.where(is_kept, patch, 0.01 * deviation[..., None, None] * noise.to(patch))
