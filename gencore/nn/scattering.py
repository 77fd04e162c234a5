"""The scattering transform: wavelets, moduli and averages, which small warps hardly change."""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.sizes import check_positive

__all__ = ["Scattering"]

_CENTRE = 3 * math.pi / 4
_WIDTH = 0.8


class Scattering(nn.Module):
    r"""Averages of the moduli of an image's wavelet coefficients, of orders 0, 1 and 2.

    .. math:: S_0 = x * \phi, \qquad S_1 = |x * \psi_{j \theta}| * \phi, \qquad
              S_2 = \big| |x * \psi_{j \theta}| * \psi_{j' \theta'} \big| * \phi, \quad j < j'

    ψ_{jθ} are Morlet wavelets of the frequency 3π/4·2^{−j} at L angles θ, and φ averages over
    some 2^J pixels; every 2^J-th pixel is kept. Convolutions wrap around the image.

    Φ(x), all coefficients together, changes little where x is shifted by much less than 2^J pixels
    or is warped a little, though the warp may move each wave of x by a period. The Euclidean
    distance of pixels is as large there as between two images that have nothing to do with each
    other.

    The filters are scaled, frequency by frequency, to ``|φ̂|² + ½Σ(|ψ̂(ω)|² + |ψ̂(−ω)|²) = 1``, and
    φ̂, a raised cosine, is 0 beyond π/2^J; the finest wavelets get all that is beyond them. So the
    first layer keeps the energy of real images, no sampling loses any of it, and with norms that
    count a coarse pixel 4^J times

    .. math:: \lVert \Phi(x) - \Phi(y) \rVert \le \lVert x - y \rVert_2, \qquad
              \lVert \Phi(x) \rVert \le \lVert x \rVert_2

    Args:
        height: of the images, a multiple of 2^J.
        width: of the images, a multiple of 2^J.
        num_scales: J.
        num_angles: L, in half a turn; at least 2.
        order: the highest order, 0, 1 or 2.

    Attributes:
        paths: of each of the P coefficients, the pairs (j, number of the angle) of its wavelets.

    Shape:
        real [N, C, H, W] → [N, C, P, H/2^J, W/2^J], with P = 1 + JL + J(J − 1)/2·L² for order 2.

    Raises:
        ValueError: for sizes that do not fit; on a call, for images of other sides.

    References:
        Mallat, "Group invariant scattering", 2012. Bruna and Mallat, "Invariant scattering
        convolution networks", 2013, with the frequencies and widths of its program. Bruna,
        "Inference and Representation", Lecture 11.

    Example:
        >>> import torch
        >>> from gencore.nn import Scattering
        >>> scattering = Scattering(32, 32, num_scales=2, num_angles=4)
        >>> x = torch.rand(5, 1, 32, 32)
        >>> scattering(x).shape, scattering.paths[1], scattering.paths[-1]
        (torch.Size([5, 1, 25, 8, 8]), ((0, 0),), ((0, 3), (1, 3)))
        >>> moved = x.roll(1, 3)
        >>> bool((scattering.distance(x, moved) < (x - moved).flatten(1).norm(dim=1) / 2).all())
        True
    """

    def __init__(
        self, height: int, width: int, *, num_scales: int = 3, num_angles: int = 8, order: int = 2
    ) -> None:
        super().__init__()
        check_positive("Scattering", height=height, width=width, num_scales=num_scales)
        check_choice("Scattering", "order", order, (0, 1, 2))
        if num_angles < 2:
            raise ValueError(f"Scattering: num_angles is {num_angles}; expected at least 2")
        factor = 2**num_scales
        if height % factor or width % factor:
            raise ValueError(
                f"Scattering: images are {height}x{width}; expected multiples of {factor} for "
                f"{num_scales} scales"
            )
        self.sides, self.coarse_sides = (height, width), (height // factor, width // factor)
        self.num_scales, self.num_angles, self.order = num_scales, num_angles, order
        self.rows: Tensor
        self.register_buffer("rows", self._rows(), persistent=False)
        self.low_pass: Tensor
        self.wavelets: Tensor
        for name, filters in self._filters().items():
            self.register_buffer(name, filters.to(torch.get_default_dtype()), persistent=False)
        angles = range(num_angles)
        self.paths: list[tuple[tuple[int, int], ...]] = [()]
        if order > 0:
            self.paths += [(first,) for first in product(range(num_scales), angles)]
        if order > 1:
            for j in range(num_scales):
                finer = product(angles, product(range(j + 1, num_scales), angles))
                self.paths += [((j, angle), second) for angle, second in finer]

    def _rows(self) -> Tensor:
        """The frequencies of the coarse pixels' rows, in the order of `fft`."""
        half, rest = self.coarse_sides[0] // 2, self.coarse_sides[0] % 2
        return torch.arange(-half, half + rest).roll(-half)

    def _filters(self) -> dict[str, Tensor]:
        """What the buffers are rounded from, in float64: φ̂ at the frequencies of the coarse pixels,
        and ψ̂."""
        low, wavelets = _filter_bank(self.sides, self.num_scales, self.num_angles)
        kept = low[self._rows(), : self.coarse_sides[1] // 2 + 1]
        return {"low_pass": kept / 4**self.num_scales, "wavelets": wavelets}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Scattering":
        dtype = self.wavelets.dtype
        super()._apply(fn, recurse)
        if self.wavelets.dtype != dtype:  # a cast of what was rounded would keep its error
            for name, filters in self._filters().items():
                setattr(self, name, filters.to(getattr(self, name)))
        return self

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        spectrum = torch.fft.fft2(x)
        coefficients = [self._average(spectrum).unsqueeze(2)]
        if self.order > 0:
            spectra = torch.fft.fft2(self._moduli(spectrum, 0))
            coefficients.append(self._average(spectra).flatten(2, 3))
            for j in range(self.num_scales - 1 if self.order > 1 else 0):
                moduli = self._moduli(spectra[:, :, j], j + 1)
                averages = self._average(torch.fft.fft2(moduli))
                coefficients.append(averages.flatten(2, 4))
        return torch.cat(coefficients, 2)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """‖Φ(x) − Φ(y)‖ of images, [N]; at most the Euclidean distance of their pixels."""
        difference = (self(x) - self(y)).flatten(1)
        return 2**self.num_scales * torch.linalg.vector_norm(difference, dim=1)

    def wavelet_coefficients(self, x: Tensor) -> Tensor:
        """x * ψ_{jθ}, complex [N, C, J, L, H, W]."""
        self._check(x)
        return torch.fft.ifft2(torch.fft.fft2(x)[:, :, None, None] * self.wavelets)

    def _moduli(self, spectrum: Tensor, first_scale: int) -> Tensor:
        """|u * ψ_{jθ}| of spectra [..., H, W] for all j from the first, [..., scales, L, H, W]."""
        products = spectrum[..., None, None, :, :] * self.wavelets[first_scale:]
        return torch.fft.ifft2(products).abs()

    def _average(self, spectrum: Tensor) -> Tensor:
        """Every 2^J-th pixel of u * φ, from the frequencies below π/2^J of u."""
        kept = spectrum[..., self.rows, : self.coarse_sides[1] // 2 + 1] * self.low_pass
        return torch.fft.irfft2(kept, s=self.coarse_sides)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or tuple(x.shape[2:]) != self.sides:
            raise ValueError(
                f"Scattering: images have shape {list(x.shape)}; expected "
                f"[N, C, {self.sides[0]}, {self.sides[1]}]"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.sides[0]}, {self.sides[1]}, num_scales={self.num_scales}, "
            f"num_angles={self.num_angles}, order={self.order}"
        )


def _filter_bank(sides: tuple[int, int], num_scales: int, num_angles: int) -> tuple[Tensor, Tensor]:
    """φ̂ [H, W] and ψ̂ [J, L, H, W], real and float64, at the frequencies of `fft2`."""
    axes = [2 * math.pi * torch.fft.fftfreq(side, dtype=torch.float64) for side in sides]
    cut_off = math.pi / 2**num_scales
    radius = torch.hypot(*torch.meshgrid(*axes, indexing="ij")) / cut_off
    low = torch.where(radius < 1, (math.pi / 2 * radius).cos().square(), 0.0)
    angles = [math.pi * k / num_angles for k in range(num_angles)]
    wavelets = torch.stack(
        [_morlet(axes, j, angle, num_angles) for j in range(num_scales) for angle in angles]
    ).unflatten(0, (num_scales, num_angles))
    power = wavelets.square().sum((0, 1))
    power = (power + power.flip(0, 1).roll((1, 1), (0, 1))) / 2  # of ω and −ω
    scale = ((1 - low.square()) / power).sqrt()
    scale[0, 0] = 0.0  # 0/0: the wavelets have no mean
    return low, scale * wavelets


def _morlet(axes: list[Tensor], j: int, angle: float, num_angles: int) -> Tensor:
    """ψ̂_{jθ}: a wave under a Gaussian, less a part of the Gaussian, so that its mean is 0.

    The Gaussian is 4/L times as narrow across the waves as along them, in frequency.
    """
    centre, width, slant = _CENTRE / 2**j, _WIDTH * 2**j, 4 / num_angles
    wave, envelope = torch.zeros(()), torch.zeros(())
    # The images are a grid, so that frequencies 2π apart are the same one.
    for period in product((-2, -1, 0, 1, 2), repeat=2):
        shifted = [axis + 2 * math.pi * number for axis, number in zip(axes, period, strict=True)]
        rows, columns = torch.meshgrid(*shifted, indexing="ij")
        along = math.cos(angle) * columns + math.sin(angle) * rows
        across = (math.cos(angle) * rows - math.sin(angle) * columns) / slant
        wave = wave + (-((along - centre).square() + across.square()) * width**2 / 2).exp()
        envelope = envelope + (-(along.square() + across.square()) * width**2 / 2).exp()
    return wave - wave[0, 0] / envelope[0, 0] * envelope
