"""The Inception network of the FID, with weights from a file of the user's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu

from gencore.extras import training_extra

__all__ = ["InceptionFeatures"]

Preprocessing = Literal["tensorflow", "pytorch"]
_SIZE = 299


class InceptionFeatures(nn.Module):
    r"""The 2048 pooled features of the Inception-v3 network that FID and KID are defined by.

    The network is the one of TensorFlow's graph "inception-2015-12-05". It differs from other
    Inception-v3 networks: its average pools leave out the padding, the last block pools by the
    maximum, and it has 1008 outputs. Nothing is downloaded: `from_file` reads weights that are
    there, in the file ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid (the same as
    ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity), or those tensors as
    safetensors.

    Images are resized to 299 × 299 and scaled as `preprocessing` says:

    ========== ============================================ =======================
    name       bilinear resize, without antialiasing        scale of grey levels g
    ========== ============================================ =======================
    tensorflow pixel i at i·H/299, as the original graph    (g − 128)/128
    pytorch    pixel i at (i + ½)·H/299 − ½, as pytorch-fid  g/127.5 − 1
    ========== ============================================ =======================

    The two give different FIDs; report which one.

    Source:
        Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for
        Computer Vision", 2016, table 1 and figures 5 to 7; Heusel et al., "GANs Trained by a Two
        Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017.

    Example:
        >>> network = InceptionFeatures()  # random weights; `from_file` loads the real ones
        >>> network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape
        torch.Size([1, 2048])
    """

    def __init__(self, preprocessing: Preprocessing = "tensorflow") -> None:
        if preprocessing not in ("tensorflow", "pytorch"):
            raise ValueError(
                f"InceptionFeatures: preprocessing is {preprocessing!r}, expected 'tensorflow' or "
                "'pytorch'"
            )
        super().__init__()
        self.preprocessing = preprocessing
        # The names are those of the weights' file.
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b = _BlockA(192, 32)
        self.Mixed_5c = _BlockA(256, 64)
        self.Mixed_5d = _BlockA(288, 64)
        self.Mixed_6a = _BlockB(288)
        self.Mixed_6b = _BlockC(128)
        self.Mixed_6c = _BlockC(160)
        self.Mixed_6d = _BlockC(160)
        self.Mixed_6e = _BlockC(192)
        self.Mixed_7a = _BlockD()
        self.Mixed_7b = _BlockE(1280, pool="average")
        self.Mixed_7c = _BlockE(2048, pool="maximum")
        self.fc = nn.Linear(2048, 1008)
        self.requires_grad_(False)
        self.eval()

    def extra_repr(self) -> str:
        return f"preprocessing={self.preprocessing!r}"

    @classmethod
    def from_file(
        cls, path: str | Path, preprocessing: Preprocessing = "tensorflow"
    ) -> "InceptionFeatures":
        """Load the weights of a file, ``.safetensors`` or a state dict of ``torch.save``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the tensors in it are not those of the network.
        """
        path = Path(path)
        if path.suffix == ".safetensors":
            with training_extra("InceptionFeatures.from_file"):
                from safetensors.torch import load_file
            state = load_file(path)
        else:
            # Weights only: no code in the file is run.
            state = torch.load(path, map_location="cpu", weights_only=True)
        network = cls(preprocessing)
        network._check(path, state)
        network.load_state_dict(state, strict=False)
        return network

    def _check(self, path: Path, state: object) -> None:
        if not isinstance(state, dict):
            raise ValueError(
                f"InceptionFeatures.from_file: {path} holds a {type(state).__name__}, expected a "
                "state dict"
            )
        # Batch normalisation's counters have no part in the features, and some files lack them.
        own = {k: v for k, v in self.state_dict().items() if not k.endswith("batches_tracked")}
        given = {k: v for k, v in state.items() if not k.endswith("batches_tracked")}
        missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
        other = [k for k in own.keys() & given.keys() if own[k].shape != given[k].shape]
        if not (missing or unknown or other):
            return
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in (
                ("missing", missing),
                ("unknown", unknown),
                ("of another shape", sorted(other)),
            )
            if names
        ]
        raise ValueError(
            f"InceptionFeatures.from_file: {path} does not hold the FID's Inception network "
            f"(pt_inception-2015-12-05): tensors {'; '.join(parts)}"
        )

    def train(self, mode: bool = True) -> "InceptionFeatures":
        """Stay in evaluation mode: the statistics of batch normalisation belong to the weights."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """The features [N, 2048] of images [N, 3, H, W], uint8 or floating in [0, 1].

        Raises:
            ValueError: images are not [N, 3, H, W].
        """
        x = self._preprocess(images)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))

    def logits(self, images: Tensor, *, bias: bool = False) -> Tensor:
        """The 1008 logits, for the inception score, which leaves the bias of the last layer out."""
        logits = self(images) @ self.fc.weight.T
        return logits + self.fc.bias if bias else logits

    def _preprocess(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"InceptionFeatures: images have shape {tuple(images.shape)}, expected [N, 3, H, W]"
            )
        dtype = self.fc.weight.dtype
        x = images.to(dtype) if images.dtype == torch.uint8 else images.to(dtype) * 255
        if self.preprocessing == "pytorch":
            return interpolate(x, (_SIZE, _SIZE), mode="bilinear", align_corners=False) / 127.5 - 1
        rows, columns = (_resize_matrix(size).to(x) for size in x.shape[2:])
        return (rows @ x @ columns.T - 128) / 128


def _resize_matrix(size: int) -> Tensor:
    """TensorFlow 1's bilinear resize of an axis to 299, [299, size]."""
    position = torch.arange(_SIZE, dtype=torch.float64) * size / _SIZE
    low = position.floor().long()
    high = (low + 1).clamp(max=size - 1)
    weight = position - low
    matrix = torch.zeros(_SIZE, size, dtype=torch.float64)
    each = torch.arange(_SIZE)
    matrix.index_put_((each, low), 1 - weight, accumulate=True)
    matrix.index_put_((each, high), weight, accumulate=True)
    return matrix


class _Convolution(nn.Module):
    """A convolution without a bias, batch normalisation and rectification."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn(self.conv(x)))


def _row(inputs: int, outputs: int, length: int) -> _Convolution:
    return _Convolution(inputs, outputs, (1, length), padding=(0, length // 2))


def _column(inputs: int, outputs: int, length: int) -> _Convolution:
    return _Convolution(inputs, outputs, (length, 1), padding=(length // 2, 0))


def _mean_3x3(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _through(x: Tensor, layers: Sequence[nn.Module]) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class _BlockA(nn.Module):
    """At 35 × 35."""

    def __init__(self, inputs: int, pool_outputs: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(inputs, 64, 1)
        self.branch5x5_1 = _Convolution(inputs, 48, 1)
        self.branch5x5_2 = _Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, padding=1)
        self.branch_pool = _Convolution(inputs, pool_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        deep = (self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            _through(x, deep),
            self.branch_pool(_mean_3x3(x)),
        ]
        return torch.cat(branches, 1)


class _BlockB(nn.Module):
    """From 35 × 35 to 17 × 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Convolution(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        deep = (self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch3x3(x), _through(x, deep), max_pool2d(x, 3, 2)], 1)


class _BlockC(nn.Module):
    """At 17 × 17, with 7 × 7 filters factored into rows and columns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(768, 192, 1)
        self.branch7x7_1 = _Convolution(768, width, 1)
        self.branch7x7_2 = _row(width, width, 7)
        self.branch7x7_3 = _column(width, 192, 7)
        self.branch7x7dbl_1 = _Convolution(768, width, 1)
        self.branch7x7dbl_2 = _column(width, width, 7)
        self.branch7x7dbl_3 = _row(width, width, 7)
        self.branch7x7dbl_4 = _column(width, width, 7)
        self.branch7x7dbl_5 = _row(width, 192, 7)
        self.branch_pool = _Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = (self.branch7x7_1, self.branch7x7_2, self.branch7x7_3)
        twice = (
            self.branch7x7dbl_1,
            self.branch7x7dbl_2,
            self.branch7x7dbl_3,
            self.branch7x7dbl_4,
            self.branch7x7dbl_5,
        )
        branches = [
            self.branch1x1(x),
            _through(x, once),
            _through(x, twice),
            self.branch_pool(_mean_3x3(x)),
        ]
        return torch.cat(branches, 1)


class _BlockD(nn.Module):
    """From 17 × 17 to 8 × 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = _Convolution(768, 192, 1)
        self.branch3x3_2 = _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Convolution(768, 192, 1)
        self.branch7x7x3_2 = _row(192, 192, 7)
        self.branch7x7x3_3 = _column(192, 192, 7)
        self.branch7x7x3_4 = _Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        deep = (self.branch7x7x3_1, self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4)
        branches = [
            self.branch3x3_2(self.branch3x3_1(x)),
            _through(x, deep),
            max_pool2d(x, 3, 2),
        ]
        return torch.cat(branches, 1)


class _BlockE(nn.Module):
    """At 8 × 8, with 3 × 3 filters split into a row beside a column."""

    def __init__(self, inputs: int, pool: Literal["average", "maximum"]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = _Convolution(inputs, 320, 1)
        self.branch3x3_1 = _Convolution(inputs, 384, 1)
        self.branch3x3_2a = _row(384, 384, 3)
        self.branch3x3_2b = _column(384, 384, 3)
        self.branch3x3dbl_1 = _Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _row(384, 384, 3)
        self.branch3x3dbl_3b = _column(384, 384, 3)
        self.branch_pool = _Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = _mean_3x3(x) if self.pool == "average" else max_pool2d(x, 3, 1, 1)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(once),
            self.branch3x3_2b(once),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(pooled),
        ]
        return torch.cat(branches, 1)
