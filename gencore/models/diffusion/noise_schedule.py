"""How much noise each step of a diffusion adds."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import index

__all__ = ["NoiseSchedule"]


class NoiseSchedule:
    r"""A diffusion of T steps from data x₀ to noise x_T that keeps a variance of 1.

    .. math:: x_{t+1} = a_t x_t + \sigma_t \epsilon, \quad a_t = \sqrt{1 - \sigma_t^2}, \quad
              x_t \mid x_0 \sim N(\bar a_t x_0, (1 - \bar a_t^2) I), \quad
              \bar a_t = \textstyle\prod_{s<t} a_s

    Step t, from 0 to T − 1, goes from level t to level t + 1: σ_t here is the σ_{t+1} of Gao's
    (2.21), and β_{t+1} = σ_t² in the literature of diffusion models.

    Args:
        variances: σ_t² of each step, in (0, 1).

    Raises:
        ValueError: for no variances, or one outside (0, 1).

    Example:
        >>> schedule = NoiseSchedule.linear()
        >>> schedule.num_steps, round(float(schedule.mean_scales[-1]) ** 2 * 1e5, 2)
        (1000, 4.04)
        >>> schedule.merged([0, 500, 1000]).num_steps
        2

    References:
        Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, "Deep unsupervised learning using
        nonequilibrium thermodynamics", 2015; Ho, Jain and Abbeel, "Denoising diffusion
        probabilistic models", 2020; Gao, "Effective Learning of Descriptive and Generator Models
        and Learning Representations for Grid Cells and V1 Cells", 2021, §2.3.4.
    """

    variances: Tensor
    """Of each step, float64 [T] on the CPU."""
    mean_scales: Tensor
    """ā_t of each level, from ā_0 = 1, float64 [T + 1] on the CPU."""

    def __init__(self, variances: Sequence[float] | Tensor) -> None:
        values = torch.as_tensor(variances, dtype=torch.float64, device="cpu").detach().clone()
        if values.dim() != 1 or not len(values):
            raise ValueError(
                f"NoiseSchedule: variances have shape {list(values.shape)}; expected one or more "
                "in a row"
            )
        is_wrong = ~((values > 0) & (values < 1))
        if bool(is_wrong.any()):
            raise ValueError(
                f"NoiseSchedule: a variance is {values[is_wrong][0].item():g}; expected each in "
                "(0, 1)"
            )
        self.variances = values
        scales = torch.log1p(-values).cumsum(0).div(2).exp()
        self.mean_scales = torch.cat([torch.ones_like(scales[:1]), scales])
        # Copies on other devices: a lookup there must not wait for the host.
        self._tables: dict[tuple[str, torch.device], Tensor] = {}

    @classmethod
    def linear(
        cls, num_steps: int = 1000, *, first: float = 1e-4, last: float = 0.02
    ) -> "NoiseSchedule":
        """Variances that grow linearly from the first step to the last (Ho et al. 2020, §4)."""
        if index("NoiseSchedule.linear", "num_steps", num_steps) < 1:
            raise ValueError(f"NoiseSchedule.linear: num_steps is {num_steps}; expected 1 or more")
        return cls(torch.linspace(first, last, num_steps, dtype=torch.float64, device="cpu"))

    def merged(self, levels: Sequence[int]) -> "NoiseSchedule":
        """The schedule whose steps go from each of some levels of this one to the next.

        Args:
            levels: ascending, from 0 to at most T.

        Raises:
            ValueError: for other levels.
        """
        levels = [index("NoiseSchedule.merged", "a level", level) for level in levels]
        ascending = all(a < b for a, b in pairwise(levels))
        if len(levels) < 2 or levels[0] != 0 or levels[-1] > self.num_steps or not ascending:
            raise ValueError(
                f"NoiseSchedule.merged: levels are {levels}; expected two or more, ascending from "
                f"0 to at most {self.num_steps}"
            )
        squares = self.mean_scales[levels] ** 2
        return NoiseSchedule(1 - squares[1:] / squares[:-1])

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.variances)

    def step_std(self, t: Tensor) -> Tensor:
        """σ_t of steps t, int64 [N], in float64."""
        return self._lookup("variances", t).sqrt()

    def mean_scale(self, t: Tensor) -> Tensor:
        """ā_t of levels t, int64 [N], in float64."""
        return self._lookup("mean_scales", t)

    def step_posterior(self, x: Tensor, later: Tensor, t: int) -> tuple[Tensor, float]:
        """Mean and standard deviation of x_t given the data x₀ and the later x_{t+1}:

            q(x_t | x_0, x_{t+1}) = N((ā_t σ_t² x₀ + a_t (1 − ā_t²) x_{t+1}) / (1 − ā_{t+1}²),
                                      σ_t² (1 − ā_t²) / (1 − ā_{t+1}²))

        At level 0 it is the data themselves, without a rounding error.

        Args:
            x: x₀, [N, ...].
            later: x_{t+1}, [N, ...].
            t: level, 0 to T − 1.

        Returns:
            The mean [N, ...] and one standard deviation for all elements.

        Raises:
            ValueError: for a level out of range or shapes that differ.

        Example:
            >>> schedule = NoiseSchedule([0.36, 0.36])
            >>> mean, std = schedule.step_posterior(torch.ones(1), torch.tensor([0.64]), 1)
            >>> mean, round(std, 4)
            (tensor([0.8000]), 0.4685)

        References:
            Ho et al., 2020, (6) and (7).
        """
        if not 0 <= t < self.num_steps:
            raise ValueError(
                f"NoiseSchedule.step_posterior: t is {t}; expected 0 to {self.num_steps - 1}"
            )
        if later.shape != x.shape:
            raise ValueError(
                f"NoiseSchedule.step_posterior: later has shape {list(later.shape)}; expected "
                f"{list(x.shape)}, as x has"
            )
        if t == 0:
            return x, 0.0
        variance = self.variances[t].item()
        scale, next_scale = self.mean_scales[t : t + 2].tolist()
        noise, next_noise = 1 - scale**2, 1 - next_scale**2
        mean = (
            scale * variance / next_noise * x + (1 - variance) ** 0.5 * noise / next_noise * later
        )
        return mean, (variance * noise / next_noise) ** 0.5

    def diffuse(
        self,
        x: Tensor,
        t: Tensor,
        *,
        noise: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> Tensor:
        """x_t at level t of data x₀, row by row: ā_t x₀ + √(1 − ā_t²)·ε.

        Args:
            x: x₀, [N, ...].
            t: levels, int64 [N], 0 to T.
            noise: ε, [N, ...]; drawn where it is missing.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the noise.
            first_element: number of elements in the rows of the processes before this one.

        Raises:
            ValueError: for levels that are not one a row or out of range, or noise of another shape
                than `x`.

        Example:
            >>> schedule = NoiseSchedule([0.36])
            >>> schedule.diffuse(torch.ones(1, 2), torch.tensor([1]), noise=torch.zeros(1, 2))
            tensor([[0.8000, 0.8000]])
        """
        if t.shape != x.shape[:1]:
            raise ValueError(
                f"NoiseSchedule.diffuse: t has shape {list(t.shape)} for x of shape "
                f"{list(x.shape)}; expected one level a row, [{len(x)}]"
            )
        if t.device.type == "cpu" and not bool(((t >= 0) & (t <= self.num_steps)).all()):
            raise ValueError(f"NoiseSchedule.diffuse: t has levels outside 0 to {self.num_steps}")
        if noise is None:
            key = random_key(generator, device=x.device) if key is None else key
            noise = philox_normal(x.shape, key, first_element=first_element, dtype=x.dtype)
        elif noise.shape != x.shape:
            raise ValueError(
                f"NoiseSchedule.diffuse: noise has shape {list(noise.shape)}; expected "
                f"{list(x.shape)}, as x has"
            )
        scale = self.mean_scale(t).reshape(-1, *(1,) * (x.dim() - 1))
        return scale.to(x.dtype) * x + (1 - scale**2).sqrt().to(x.dtype) * noise

    def _lookup(self, name: str, t: Tensor) -> Tensor:
        place = name, t.device
        if place not in self._tables:
            self._tables[place] = getattr(self, name).to(t.device)
        return self._tables[place][t]

    def __repr__(self) -> str:
        ends = f"{self.variances[0].item():g} to {self.variances[-1].item():g}"
        return f"NoiseSchedule(num_steps={self.num_steps}, variances={ends})"
