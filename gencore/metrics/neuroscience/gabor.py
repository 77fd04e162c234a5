"""Gabor functions fitted to receptive fields, and what the fits say of them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.checks import check_state

__all__ = ["GaborFit", "fit_gabor", "gabor_images"]

_NUM_STEPS = 60
# Starts: widths of the envelope in parts of the side, by the frequency's place in the spectrum.
_WIDTHS = (0.12, 0.25)
_PEAKS = 2


class GaborFit(NamedTuple):
    """The parameters of Gabor functions, float64 [U] each.

    h = A exp(−x'²/2σ_x² − y'²/2σ_y²) cos(2π f x' + φ), with x' = (x − x₀) cos θ + (y − y₀) sin θ
    and y' = −(x − x₀) sin θ + (y − y₀) cos θ, x to the right and y down.
    """

    amplitude: Tensor
    """A ≥ 0."""
    x: Tensor
    """x₀ in pixels from the left pixel."""
    y: Tensor
    """y₀ in pixels from the upper pixel."""
    sigma_x: Tensor
    """Width of the envelope in pixels, along the wave: a standard deviation."""
    sigma_y: Tensor
    """The same along the stripes."""
    frequency: Tensor
    """f ≥ 0 in cycles a pixel."""
    orientation: Tensor
    """θ in [0, π), of the wave; the stripes are across it."""
    phase: Tensor
    """φ, of absolute value at most π."""
    r_squared: Tensor
    """R², the share of the pixels' variance that the fit explains; NaN of a constant field."""

    @property
    def bandwidth(self) -> Tensor:
        """Octaves between the frequencies at half of the largest amplitude,
        log₂ (π f σ_x + √(½ ln 2)) / (π f σ_x − √(½ ln 2)); infinite of low-pass fields."""
        half = math.sqrt(math.log(2) / 2)
        centre = math.pi * self.frequency * self.sigma_x
        octaves = torch.log2((centre + half) / (centre - half).clamp(min=1e-12))
        return octaves.where(centre > half, math.inf)

    @property
    def folded_phase(self) -> Tensor:
        """φ by symmetry alone, in [0, π/2]: 0 of an even field, π/2 of an odd one."""
        phase = self.phase.remainder(math.pi)
        return torch.minimum(phase, math.pi - phase)

    @property
    def shape(self) -> Tensor:
        """(n_x, n_y) = (σ_x f, σ_y f), width and length of the envelope in periods, [U, 2]."""
        return torch.stack([self.sigma_x, self.sigma_y], 1) * self.frequency.unsqueeze(1)


def fit_gabor(fields: Tensor, *, num_steps: int = _NUM_STEPS) -> GaborFit:
    """Fit a Gabor function to each receptive field, by least squares.

    All fields are fitted at once, from several starts each: at the middle of a field's energy, with
    the two strongest frequencies of its spectrum and two sizes, of which the best fit stays. A step
    is Levenberg's and Marquardt's; it is kept where it lowers the error.

    Args:
        fields: Filters [U, H, W], floating point, at least 4 × 4; computed in float64.
        num_steps: Of each start.

    Returns:
        The parameters, without a graph, on the fields' device.

    Raises:
        TypeError, ValueError: no such fields, or they are not finite.

    Source:
        Jones and Palmer, "An evaluation of the two-dimensional Gabor filter model of simple
        receptive fields in cat striate cortex", 1987; Ringach, "Spatial structure and symmetry of
        simple-cell receptive fields in macaque primary visual cortex", 2002; as used in Gao,
        "Effective Learning of Descriptive and Generator Models and Learning Representations for
        Grid Cells and V1 Cells", 2021, §6.4. The formula of the bandwidth is not in the latter.

    Example:
        >>> planted = GaborFit(*(torch.tensor([p]) for p in (1, 7.5, 7, 2.5, 3, 0.2, 0.5, 1, 1.0)))
        >>> fit = fit_gabor(gabor_images(planted, 16, 16))
        >>> round(fit.frequency.item(), 3), round(fit.r_squared.item(), 3)
        (0.2, 1.0)
    """
    check_state("fit_gabor", fields, "fields")
    if fields.dim() != 3 or not len(fields) or min(fields.shape[1:]) < 4:
        raise ValueError(
            f"fit_gabor: fields have shape {list(fields.shape)}; expected [U, H, W], at least 4x4"
        )
    fields = fields.detach().double()
    if not bool(fields.isfinite().all()):
        raise ValueError("fit_gabor: a field is not finite")
    scale = fields.abs().amax((1, 2), keepdim=True)
    target = fields / scale.where(scale > 0, 1.0)
    size = target.shape[1:]

    starts = _starts(target)  # [U, R, 8]
    repeats = starts.shape[1]
    wanted = target.flatten(1).repeat_interleave(repeats, 0)
    parameters = starts.flatten(0, 1)
    damping = parameters.new_full((len(parameters), 1, 1), 1e-2)
    error = (_waves(parameters, size)[0] - wanted).square().sum(1)
    eye = torch.eye(8, dtype=torch.float64, device=fields.device)
    lowest = parameters.new_tensor([-math.inf] * 2 + [math.log(0.4)] * 2 + [-math.inf] * 4)
    largest = parameters.new_tensor(
        [math.inf] * 2 + [math.log(2.0 * max(size))] * 2 + [math.inf] * 4
    )
    for _ in range(num_steps):
        values, jacobian = _waves(parameters, size)
        residual = wanted - values
        gram = jacobian.mT @ jacobian
        # Marquardt's scaling by the diagonal, with a floor for parameters that do nothing.
        diagonal = gram.diagonal(dim1=1, dim2=2).clamp(min=1e-6)
        damped = gram + damping * (eye * diagonal.unsqueeze(-1))
        step = torch.linalg.solve(damped, jacobian.mT @ residual.unsqueeze(-1)).squeeze(-1)
        tried = torch.minimum(torch.maximum(parameters + step, lowest), largest)
        tried_error = (_waves(tried, size)[0] - wanted).square().sum(1)
        better = tried_error < error
        parameters = torch.where(better.unsqueeze(1), tried, parameters)
        error = torch.where(better, tried_error, error)
        damping = torch.where(better.view(-1, 1, 1), damping / 3, damping * 4).clamp(1e-9, 1e9)

    best = error.view(-1, repeats).argmin(1)
    rows = torch.arange(len(fields), device=fields.device)
    chosen, left = parameters.view(-1, repeats, 8)[rows, best], error.view(-1, repeats)[rows, best]
    around = (target - target.mean((1, 2), keepdim=True)).square().sum((1, 2))
    return _canonical(chosen, scale.flatten(), 1 - left / around.where(around > 0, math.nan))


def gabor_images(fit: GaborFit, height: int, width: int) -> Tensor:
    """The Gabor functions themselves, float64 [U, height, width].

    Example:
        >>> parameters = (2.0, 1.0, 1.0, 1.0, 1.0, 0.25, 0.0, 0.0, 1.0)
        >>> gabor_images(GaborFit(*(torch.tensor([p]) for p in parameters)), 3, 3)[0, 1].round()
        tensor([0., 2., 0.], dtype=torch.float64)
    """
    amplitude, phase = fit.amplitude.double(), fit.phase.double()
    turn = 2 * math.pi * fit.frequency.double()
    parameters = torch.stack(
        [
            fit.x.double(), fit.y.double(),
            fit.sigma_x.double().log(), fit.sigma_y.double().log(),
            turn * fit.orientation.double().cos(), turn * fit.orientation.double().sin(),
            amplitude * phase.cos(), -amplitude * phase.sin(),
        ],
        1,
    )  # fmt: skip
    return _waves(parameters, (height, width))[0].view(-1, height, width)


def _waves(p: Tensor, size: tuple[int, ...] | torch.Size) -> tuple[Tensor, Tensor]:
    """Values [R, H W] and derivatives [R, H W, 8] by (x₀, y₀, ln σ_x, ln σ_y, ω_x, ω_y, a, b).

    The wave is a cos ⟨ω, p − p₀⟩ + b sin ⟨ω, p − p₀⟩, and x' runs along ω.
    """
    down, right = torch.meshgrid(
        *(torch.arange(side, dtype=p.dtype, device=p.device) for side in size), indexing="ij"
    )
    x0, y0, log_x, log_y, omega_x, omega_y, a, b = (value.unsqueeze(1) for value in p.unbind(1))
    dx, dy = right.flatten() - x0, down.flatten() - y0
    length = torch.hypot(omega_x, omega_y).clamp(min=1e-9)
    cos, sin = omega_x / length, omega_y / length
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    narrow, wide = (-2 * log_x).exp(), (-2 * log_y).exp()
    envelope = torch.exp(-0.5 * (narrow * along**2 + wide * across**2))
    angle = omega_x * dx + omega_y * dy
    even, odd = envelope * angle.cos(), envelope * angle.sin()
    values = a * even + b * odd
    slope = b * even - a * odd  # by the angle ⟨ω, p − p₀⟩
    # By the orientation at fixed σ and ω: x' grows by y', y' falls by x'.
    turned = -values * along * across * (narrow - wide)
    jacobian = torch.stack(
        [
            values * (narrow * along * cos - wide * across * sin) - slope * omega_x,
            values * (narrow * along * sin + wide * across * cos) - slope * omega_y,
            values * narrow * along**2,
            values * wide * across**2,
            slope * dx - turned * sin / length,
            slope * dy + turned * cos / length,
            even,
            odd,
        ],
        2,
    )
    return values, jacobian


def _starts(target: Tensor) -> Tensor:
    """Parameters that fits begin at, [U, R, 8]."""
    height, width = target.shape[1:]
    energy = target.square()
    total = energy.sum((1, 2)).clamp(min=1e-30)
    rows, columns = (
        torch.arange(side, dtype=target.dtype, device=target.device) for side in (height, width)
    )
    x = (energy.sum(1) * columns).sum(1) / total
    y = (energy.sum(2) * rows).sum(1) / total
    # Finer than the field's own frequencies, so that a peak is near.
    fine = 4 * max(height, width)
    power = torch.fft.rfft2(target, s=(fine, fine)).abs()
    starts = []
    for _ in range(_PEAKS):
        peak = power.flatten(1).argmax(1)
        row, column = peak // power.shape[2], peak % power.shape[2]
        omega_y = torch.where(row > fine // 2, row - fine, row) * (2 * math.pi / fine)
        omega_x = column * (2 * math.pi / fine)
        # Beside no wave there is no orientation.
        omega_x = torch.where((row == 0) & (column == 0), 0.1, omega_x.to(target.dtype))
        for share in _WIDTHS:
            log_sigma = torch.full_like(x, math.log(share * max(height, width)))
            nothing = torch.zeros_like(x)
            p = torch.stack(
                [x, y, log_sigma, log_sigma, omega_x, omega_y.to(x), nothing, nothing], 1
            )
            # The best a and b at these.
            basis = _waves(p, (height, width))[1][..., 6:]
            gram = basis.mT @ basis + 1e-9 * torch.eye(2, dtype=p.dtype, device=p.device)
            p[:, 6:] = torch.linalg.solve(gram, basis.mT @ target.flatten(1).unsqueeze(-1))[..., 0]
            starts.append(p)
        power = _without(power, row, column, fine)
    return torch.stack(starts, 1)


def _without(power: Tensor, row: Tensor, column: Tensor, fine: int) -> Tensor:
    """The spectrum without the surroundings of a peak."""
    rows = torch.arange(power.shape[1], device=power.device)
    columns = torch.arange(power.shape[2], device=power.device)
    down = (rows - row.unsqueeze(1)).abs()
    down = torch.minimum(down, fine - down)
    right = (columns - column.unsqueeze(1)).abs()
    near = (down.unsqueeze(2) < fine // 16) & (right.unsqueeze(1) < fine // 16)
    return power.masked_fill(near, 0.0)


def _canonical(p: Tensor, scale: Tensor, r_squared: Tensor) -> GaborFit:
    """With θ in [0, π): a wave along −ω is that along ω with the opposite phase."""
    x, y, log_x, log_y, omega_x, omega_y, a, b = p.unbind(1)
    angle = torch.atan2(omega_y, omega_x)
    opposite = (angle < 0) | (angle >= math.pi)
    phase = torch.atan2(-b, a)
    phase = torch.where(opposite, -phase, phase)
    phase = phase.where(phase > -math.pi, math.pi)
    return GaborFit(
        torch.hypot(a, b) * scale,
        x,
        y,
        log_x.exp(),
        log_y.exp(),
        torch.hypot(omega_x, omega_y) / (2 * math.pi),
        torch.where(opposite, angle.remainder(math.pi), angle),
        phase,
        r_squared,
    )
