"""A film: frames in the order of time, of which any few can be read."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Film"]


class Film(ABC):
    """Frames in the order of time, read on demand; the last that were read stay in memory.

    Args:
        path: Where it is, for errors.
        num_frames: Number of frames.
        shape: [C, H, W] of a frame, with C = 1 or 3.
    """

    def __init__(self, path: Path, num_frames: int, shape: tuple[int, int, int]) -> None:
        self.path, self.num_frames, self.shape = path, num_frames, shape
        self._recent: dict[int, Tensor] = {}

    def read(self, frames: range) -> Tensor:
        """Read frames, counted from 0, of which the numbers ascend: uint8 [T, C, H, W].

        Raises:
            IndexError: there are no such frames.
            ValueError: a frame cannot be decoded.
        """
        if not frames or frames.step < 1 or frames[0] < 0 or frames[-1] >= self.num_frames:
            raise IndexError(f"{self.path}: frames {frames} of {self.num_frames}")
        found = {index: self._recent[index] for index in frames if index in self._recent}
        missing = [index for index in frames if index not in found]
        if missing:
            found.update(zip(missing, self._decode(missing), strict=True))
        # Overlapping clips that are read one after another decode each frame once.
        self._recent = found
        return torch.stack([found[index] for index in frames])

    def close(self) -> None:
        """Let go of the frames and the file that reading keeps; the next reading opens it anew."""
        self._recent = {}

    @abstractmethod
    def _decode(self, indices: list[int]) -> Iterable[Tensor]:
        """The frames of ascending numbers, uint8 [C, H, W] each."""
