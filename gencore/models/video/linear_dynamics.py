"""Linear dynamic textures: principal components of frames, and an autoregression of them."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gencore.ops import philox_normal, random_key
from gencore.ops.random import stream_key
from gencore.sizes import check_positive

__all__ = ["LinearDynamics", "SmoothedStates"]


class SmoothedStates(NamedTuple):
    """The Gaussian posterior of the states of films."""

    mean: Tensor
    """E[s_t | x_1 … x_T], [N, T, S]."""
    covariance: Tensor
    """cov[s_t | x_1 … x_T], [N, T, S, S]."""


@dataclass(frozen=True)
class LinearDynamics:
    r"""A linear dynamical system, the baseline of models of dynamic textures.

    .. math:: s_t = A s_{t-1} + B \xi_t, \qquad x_t = \mu + C s_t + \epsilon_t, \qquad
              \xi_t \sim N(0, I), \quad \epsilon_t \sim N(0, \sigma^2 I)

    with s_1 ~ N(0, Σ_1). `fit` finds it in closed form; `smooth` is the exact posterior of the
    states, with hidden pixels or frames. It is the dynamic generator whose networks are linear.

    Attributes:
        transition: A, [S, S].
        noise_map: B, [S, Z].
        emission: C, [D, S], of frames of D numbers.
        mean: μ, [...], of the shape of a frame.
        noise_std: σ.
        start_covariance: Σ_1, [S, S].

    References:
        Doretto, Chiuso, Wu and Soatto, "Dynamic textures", 2003, §4; the baseline of Gao 2021,
        §3.3. Rauch, Tung and Striebel, "Maximum likelihood estimates of linear dynamic systems",
        1965, of the smoother.

    Example:
        >>> import torch
        >>> from gencore.models import LinearDynamics
        >>> time = torch.arange(60.0)
        >>> film = torch.sin(0.3 * time[:, None, None] + torch.arange(8.0)).unsqueeze(0)
        >>> system = LinearDynamics.fit(film, 2)  # [N, T, ...]: a wave that runs around
        >>> round(torch.linalg.eigvals(system.transition).angle().abs()[0].item(), 2)
        0.3
    """

    transition: Tensor
    noise_map: Tensor
    emission: Tensor
    mean: Tensor
    noise_std: float
    start_covariance: Tensor

    @classmethod
    def fit(
        cls,
        frames: Tensor,
        state_size: int,
        noise_size: int | None = None,
        *,
        mask: Tensor | None = None,
        rounds: int = 20,
    ) -> "LinearDynamics":
        r"""The closed form: with the singular values of all frames, less their mean, UΣVᵀ,

            C = U,  (s_t) = ΣVᵀ,  A = arg min Σ_t ‖s_{t+1} − A s_t‖²,  B Bᵀ = cov(s_{t+1} − A s_t)

        of the S largest. σ² is the mean square of what C leaves, at least a millionth of the
        variance, and Σ_1 the covariance of all states. With hidden pixels the system is fitted,
        they are recovered by its smoother, and it is fitted again; at first they are the mean of
        what is visible at their place, or 0.

        Args:
            frames: floating point, films [N, T, ...] with T ≥ 2.
            state_size: S, at most the number of frames and of their numbers.
            noise_size: Z ≤ S directions of the noise with the largest variance; S if None.
            mask: where pixels are visible, as of `smooth`.
            rounds: fits after the first, with a mask.

        Raises:
            ValueError: for sizes that do not fit.
        """
        noise_size = state_size if noise_size is None else noise_size
        check_positive("LinearDynamics.fit", state_size=state_size, noise_size=noise_size)
        if frames.dim() < 3 or frames.shape[1] < 2 or not frames.is_floating_point():
            raise ValueError(
                f"LinearDynamics.fit: frames are {frames.dtype} {list(frames.shape)}; expected "
                "floating point [N, T, ...] with T of at least 2"
            )
        if mask is not None:
            seen = torch.where(mask, frames, 0)
            counts = mask.expand_as(frames).sum((0, 1)).clamp(min=1)
            filled = torch.where(mask, seen, seen.sum((0, 1)) / counts)
            for _ in range(rounds):
                filled = cls.fit(filled, state_size, noise_size).recover(seen, mask)
            frames = filled
        num, length = frames.shape[:2]
        rows = frames.flatten(0, 1).flatten(1)
        if state_size > min(rows.shape) or noise_size > state_size:
            raise ValueError(
                f"LinearDynamics.fit: state_size is {state_size} and noise_size {noise_size}; "
                f"expected at most {min(rows.shape)}, of {rows.shape[0]} frames of "
                f"{rows.shape[1]} numbers, and no more noise than states"
            )
        mean = rows.mean(0)
        left, values, right = torch.linalg.svd(rows - mean, full_matrices=False)
        states = left[:, :state_size] * values[:state_size]
        sequences = states.unflatten(0, (num, length))
        before, after = sequences[:, :-1].flatten(0, 1), sequences[:, 1:].flatten(0, 1)
        transition = torch.linalg.lstsq(before, after).solution.T
        residual = after - before @ transition.T
        variances, directions = torch.linalg.eigh(residual.T @ residual / len(residual))
        noise_map = directions * variances.clamp(min=0).sqrt()
        # Films of fewer directions than states leave nothing, and certainty has no smoother.
        left_over = values[state_size:].square().sum().clamp(min=1e-6 * values.square().sum())
        left_over = (left_over / rows.numel()).clamp(min=1e-12)
        return cls(
            transition, noise_map.flip(1)[:, :noise_size], right[:state_size].T,
            mean.unflatten(0, frames.shape[2:]), left_over.sqrt().item(),
            states.T @ states / len(states),
        )  # fmt: skip

    @property
    def state_size(self) -> int:
        return self.transition.shape[0]

    def decode(self, states: Tensor) -> Tensor:
        """μ + C s: frames [..., *frame] of states [..., S]."""
        return (states @ self.emission.T).unflatten(-1, self.mean.shape) + self.mean

    def states(self, start: Tensor, noise: Tensor) -> Tensor:
        """s_2 … s_{T+1}, [N, T, S], after s_1 [N, S], by noise [N, T, Z]."""
        state, states = start, []
        for frame_noise in noise.unbind(1):
            state = state @ self.transition.T + frame_noise @ self.noise_map.T
            states.append(state)
        return torch.stack(states, 1)

    def sample(
        self,
        num: int,
        num_frames: int,
        *,
        burn_in: int = 0,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """New films [num, T, ...], without the noise ε of their pixels.

        Args:
            num: number of films.
            num_frames: T.
            burn_in: frames that are made before these, and thrown away.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of films before these, of other processes.
        """
        check_positive("LinearDynamics.sample", num=num, num_frames=num_frames)
        if burn_in < 0:
            raise ValueError(f"LinearDynamics.sample: burn_in is {burn_in}; expected 0 or more")
        key = random_key(generator, device=self.mean.device) if key is None else key
        steps, size = burn_in + num_frames - 1, self.noise_map.shape[1]
        numbers = self.state_size + steps * size
        rows = philox_normal(
            (num, numbers), stream_key(key, "latents"),
            first_element=first * numbers, dtype=self.mean.dtype,
        )  # fmt: skip
        start, noise = rows.split([self.state_size, steps * size], 1)
        states = start @ _root(self.start_covariance).T
        if steps:
            later = self.states(states, noise.unflatten(1, (steps, size)))
            states = torch.cat([states.unsqueeze(1), later], 1)
        else:
            states = states.unsqueeze(1)
        return self.decode(states[:, burn_in:])

    def smooth(self, frames: Tensor, mask: Tensor | None = None) -> SmoothedStates:
        """The posterior of the states given all visible pixels, by the Kalman filter and smoother.

        Args:
            frames: [N, T, ...].
            mask: bool, where pixels are visible, of a shape that broadcasts to that of the frames.
                What the others hold has no effect.

        Raises:
            ValueError: for other shapes, or σ = 0.
        """
        if frames.dtype != torch.float64:  # with small σ the filter's steps are ill-conditioned
            names = ("transition", "noise_map", "emission", "mean", "start_covariance")
            exact = replace(self, **{name: getattr(self, name).double() for name in names})
            smoothed = exact.smooth(frames.double(), mask)
            return SmoothedStates(*(part.to(frames.dtype) for part in smoothed))
        precision, pull = self._evidence(frames, mask)
        a, identity = self.transition, torch.eye(self.state_size).to(self.transition)
        process = self.noise_map @ self.noise_map.T
        mean = frames.new_zeros(len(frames), self.state_size)
        covariance = self.start_covariance.expand(len(frames), -1, -1)
        filtered: list[tuple[Tensor, Tensor]] = []
        predicted: list[tuple[Tensor, Tensor]] = []
        for t in range(frames.shape[1]):
            if t:
                mean, covariance = mean @ a.T, a @ covariance @ a.T + process
            predicted.append((mean, covariance))
            # (P⁻¹ + M)⁻¹ = (I + P M)⁻¹ P, which needs no inverse of P: noise may lack directions.
            step = identity + covariance @ precision[:, t]
            pulled = pull[:, t] - (precision[:, t] @ mean.unsqueeze(2)).squeeze(2)
            covariance = _symmetric(torch.linalg.solve(step, covariance))
            mean = mean + (covariance @ pulled.unsqueeze(2)).squeeze(2)
            filtered.append((mean, covariance))
        means, covariances = [mean], [covariance]
        for t in range(frames.shape[1] - 2, -1, -1):
            (mean, covariance), (ahead, spread) = filtered[t], predicted[t + 1]
            gain = covariance @ a.T @ torch.linalg.pinv(spread, hermitian=True)
            change = (gain @ (means[-1] - ahead).unsqueeze(2)).squeeze(2)
            means.append(mean + change)
            covariances.append(covariance + gain @ (covariances[-1] - spread) @ gain.mT)
        return SmoothedStates(torch.stack(means[::-1], 1), torch.stack(covariances[::-1], 1))

    def recover(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Films whose hidden pixels are what the smoothed states show, [N, T, ...].

        Args:
            frames: [N, T, ...].
            mask: where they are visible, as of `smooth`.
        """
        return torch.where(mask, frames, self.decode(self.smooth(frames, mask).mean))

    def _evidence(self, frames: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cᵀ R⁻¹ C [N, T, S, S] and Cᵀ R⁻¹ (x_t − μ) [N, T, S] over visible pixels."""
        if frames.shape[2:] != self.mean.shape or self.noise_std <= 0:
            raise ValueError(
                f"LinearDynamics: frames have shape {list(frames.shape)}, and noise_std is "
                f"{self.noise_std}; expected [N, T, *{list(self.mean.shape)}] and a positive number"
            )
        centred = frames - self.mean
        if mask is not None:
            centred = torch.where(mask, centred, 0)
        pull = centred.flatten(2) @ self.emission
        if mask is None:
            precision = (self.emission.T @ self.emission).expand(*frames.shape[:2], -1, -1)
        else:
            weights = mask.expand_as(frames).flatten(2).to(frames.dtype)
            precision = torch.einsum("ntd,ds,dr->ntsr", weights, self.emission, self.emission)
        return precision / self.noise_std**2, pull / self.noise_std**2


def _root(covariance: Tensor) -> Tensor:
    """L with L Lᵀ = Σ, also of a singular Σ."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
