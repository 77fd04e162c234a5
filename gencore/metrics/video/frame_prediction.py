"""How well frames are predicted, over all of the picture and where it moves."""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gencore.data.images.pixels import to_float
from gencore.data.video.optical_flow import optical_flow
from gencore.metrics.images.masks import Masked
from gencore.metrics.images.psnr import psnr
from gencore.metrics.images.sharpness import sharpness_difference
from gencore.metrics.images.ssim import ssim
from gencore.metrics.video.moving_area import moving_area

__all__ = ["AreaScores", "FramePredictionScores", "clip_moving_areas", "evaluate_frame_prediction"]

_SSIM_RADIUS = 5


class AreaScores(NamedTuple):
    """Means over clips, of each of K predicted frames; NaN where no clip counts."""

    psnr: Tensor
    """In decibels, float64 [K]; infinite where a prediction is perfect."""

    ssim: Tensor
    """float64 [K]."""

    sharpness: Tensor
    """Sharpness difference in decibels, grey levels 0 … 1, float64 [K]."""

    num_clips: Tensor
    """Clips that count, int64 [K]."""


class FramePredictionScores(NamedTuple):
    """The columns of the thesis's Table 4.4."""

    full: AreaScores
    """Of whole frames, (a)."""

    moving: AreaScores
    """Of the moving areas, (b)."""

    moving_fraction: Tensor
    """Mean share of the pixels that move, over all clips, float64 [K]."""

    def columns(self) -> dict[str, float]:
        """The scores by name: `psnr_1`, `ssim_1`, `sharpness_1`, `moving_psnr_1`, …, of the first
        predicted frame, and so on."""
        return {
            f"{prefix}{name}_{index + 1}": float(value)
            for index in range(len(self.full.psnr))
            for prefix, area in (("", self.full), ("moving_", self.moving))
            for name, values in zip(area._fields[:3], area[:3], strict=True)
            for value in (values[index],)
        }


def clip_moving_areas(clips: Tensor, *, max_flow: float | None = None) -> Tensor:
    """Find the pixels of each frame that move to the next, by `optical_flow` and `moving_area`.

    Args:
        clips: [N, T, C, H, W], uint8 or floating point in [0, 1].
        max_flow: As of `moving_area`.

    Returns:
        bool [N, T, H, W]; the last frame, which has no next, has nothing that moves. It is what
        `evaluate_frame_prediction` finds by itself, and takes beside the clips: found once, it
        serves several predictors.

    Raises:
        As `optical_flow` does.

    Example:
        >>> clip = torch.zeros(1, 3, 1, 16, 16)
        >>> clip_moving_areas(clip).any()
        tensor(False)
    """
    before, after = clips[:, :-1], clips[:, 1:]
    flow = optical_flow(before.flatten(0, 1), after.flatten(0, 1))
    moving = moving_area(flow, max_flow=max_flow).unflatten(0, before.shape[:2])
    return torch.cat([moving, torch.zeros_like(moving[:, :1])], 1)


def evaluate_frame_prediction(
    predictor: Callable[[Tensor, int], Tensor],
    clips: Iterable[Tensor | tuple[Tensor, Tensor]],
    *,
    num_given: int = 4,
    num_frames: int = 2,
    low: float = 0.0,
    high: float = 1.0,
    masked: Masked = "blank",
    max_moving_psnr: float | None = 50.0,
    max_flow: float | None = None,
    sharpness: Literal["thesis", "released"] = "thesis",
) -> FramePredictionScores:
    """Predict frames of clips, and measure them as the thesis does: PSNR, SSIM and sharpness
    difference, of each predicted frame, over the whole picture and over its moving area.

    The moving area of a predicted frame is that of the flow from the true frame before it to the
    true frame (`optical_flow`, TV-L1 in place of EpicFlow; `moving_area`). By default what does not
    move is black in both images, and clips whose PSNR is then 50 dB or more are left out, as in the
    authors' program; so the columns of moving areas do not compare with those of whole frames:
    blanking adds −10 log₁₀(fraction) dB to each PSNR. With `masked="restrict"` they do.

    Args:
        predictor: Maps frames [N, num_given, C, H, W] in [low, high], and a number K, to the next
            K frames, [N, K, C, H, W]: `copy_last`, `constant_flow`, a model's `predict`.
        clips: Batches of clips [N, T, C, H, W], T ≥ num_given + num_frames, uint8 or floating point
            in [0, 1]. Instead of a batch, a pair of it and of what is known to move, bool
            [N, T, H, W]: the pixels of each frame that move to the next.
        num_given: Frames that the predictor sees.
        num_frames: Frames that it predicts, K.
        low: What the predictor takes for black.
        high: What it takes for white.
        masked: "blank", or "restrict" for means over the moving area alone.
        max_moving_psnr: From which PSNR of the moving area on a clip is left out; None for none.
            A better predictor has more clips left out: compare `num_clips`, or give None.
        max_flow: As of `moving_area`: pixels that move by more than 0.8 · max_flow, in place of
            those that move by more than 0.8 of the longest displacement of their frame.
        sharpness: The definition, as in `sharpness_difference`.

    Returns:
        The means. A clip in which nothing moves, or with "restrict" nothing 5 pixels away from the
        border, which SSIM's window needs, is left out of the moving areas.

    Raises:
        TypeError: clips are neither uint8 nor floating point, or predictions no floating point.
        ValueError: there are no clips; they are too short, or smaller than SSIM's window of 11; or
            a prediction or a mask has another shape than it should.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §4.3.2, Table 4.4.

    Example:
        >>> from gencore.data import load_video
        >>> from gencore.models import copy_last
        >>> clips = load_video("moving-shapes", clip_length=6, split="test")
        >>> batch = torch.stack([clips[index] for index in range(3)])
        >>> scores = evaluate_frame_prediction(copy_last, [batch])
        >>> scores.full.num_clips, bool(scores.full.psnr[0] > scores.full.psnr[1])
        (tensor([3, 3]), True)
    """
    owner = "evaluate_frame_prediction"
    if num_given < 1 or num_frames < 1 or not low < high:
        raise ValueError(
            f"{owner}: num_given = {num_given}, num_frames = {num_frames}, low = {low} and high = "
            f"{high}, expected at least 1 and 1, and low < high"
        )
    full, moving = _Means(num_frames), _Means(num_frames)
    fraction, num_clips = torch.zeros(num_frames, dtype=torch.float64), 0
    for item in clips:
        batch, known = (item, None) if isinstance(item, Tensor) else item
        batch = to_float(batch) if batch.dtype == torch.uint8 else batch
        _check_clips(owner, batch, known, num_given + num_frames)
        given = low + (high - low) * batch[:, :num_given]
        with torch.no_grad():
            predicted = predictor(given, num_frames)
        target = batch[:, num_given : num_given + num_frames]
        if predicted.shape != target.shape:
            raise ValueError(
                f"{owner}: the predictor gave shape {tuple(predicted.shape)}, expected "
                f"{tuple(target.shape)}"
            )
        if not predicted.is_floating_point():
            raise TypeError(
                f"{owner}: the predictor gave {predicted.dtype}, expected floating point in [low, "
                "high]"
            )
        predicted = (predicted.to(target) - low) / (high - low)
        if known is None:
            seen = batch[:, num_given - 1 : num_given + num_frames]
            mask = clip_moving_areas(seen, max_flow=max_flow)[:, :num_frames]
        else:
            mask = known[:, num_given - 1 : num_given + num_frames - 1]
        num_clips += len(batch)
        fraction += mask.double().mean((2, 3)).sum(0).cpu()
        for frame in range(num_frames):
            x, y, area = predicted[:, frame], target[:, frame], mask[:, frame]
            full.add(frame, _measure(x, y, None, masked, sharpness))
            inside = area
            if masked == "restrict":
                inside = area[:, _SSIM_RADIUS:-_SSIM_RADIUS, _SSIM_RADIUS:-_SSIM_RADIUS]
            counts = inside.flatten(1).any(1)
            if counts.any():
                values = _measure(x[counts], y[counts], area[counts], masked, sharpness)
                if max_moving_psnr is not None:
                    values = values[:, ~(values[0] >= max_moving_psnr)]  # NaN counts
                moving.add(frame, values)
    if num_clips == 0:
        raise ValueError(f"{owner}: there are no clips")
    return FramePredictionScores(full.scores(), moving.scores(), fraction / num_clips)


class _Means:
    """Sums of the three measures over clips, of each predicted frame."""

    def __init__(self, num_frames: int) -> None:
        self.sums = torch.zeros(3, num_frames, dtype=torch.float64)
        self.counts = torch.zeros(num_frames, dtype=torch.int64)

    def add(self, frame: int, values: Tensor) -> None:
        """Measures [3, N] of a frame."""
        self.sums[:, frame] += values.sum(1).cpu()
        self.counts[frame] += values.shape[1]

    def scores(self) -> AreaScores:
        psnrs, ssims, sharpnesses = self.sums / self.counts
        return AreaScores(psnrs, ssims, sharpnesses, self.counts)


def _measure(
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    masked: Masked,
    sharpness: Literal["thesis", "released"],
) -> Tensor:
    """PSNR, SSIM and sharpness difference of images [N, C, H, W], [3, N]."""
    return torch.stack(
        [
            psnr(x, y, mask=mask, masked=masked),
            ssim(x, y, mask=mask, masked=masked),
            sharpness_difference(x, y, mask=mask, masked=masked, variant=sharpness),
        ]
    )


def _check_clips(owner: str, batch: Tensor, known: Tensor | None, length: int) -> None:
    if not batch.is_floating_point():
        raise TypeError(f"{owner}: clips are {batch.dtype}, expected uint8 or floating point")
    if batch.ndim != 5 or 0 in batch.shape or batch.shape[1] < length:
        raise ValueError(
            f"{owner}: clips have shape {tuple(batch.shape)}, expected [N, T, C, H, W], not empty, "
            f"with T >= {length}"
        )
    shape = (*batch.shape[:2], *batch.shape[3:])
    if known is not None and (known.shape != shape or known.dtype != torch.bool):
        raise ValueError(
            f"{owner}: what moves is {known.dtype} of shape {tuple(known.shape)}, expected bool of "
            f"shape {shape}"
        )
