"""Linear dynamics: the closed form, the smoother, and what they are for."""

import math

import pytest
import torch

from gencore.models import LinearDynamics


def _system(generator: torch.Generator, noise_std: float = 0.1, size: int = 8) -> LinearDynamics:
    """Two damped rotations of state, at an angle of 0.5 and of 1.3 a frame."""
    a = torch.zeros(4, 4, dtype=torch.float64)
    for place, (radius, angle) in enumerate(((0.98, 0.5), (0.9, 1.3))):
        c, s = radius * math.cos(angle), radius * math.sin(angle)
        part = slice(2 * place, 2 * place + 2)
        a[part, part] = torch.tensor([[c, -s], [s, c]])
    b = 0.3 * torch.randn(4, 4, dtype=torch.float64, generator=generator)
    emission = torch.linalg.qr(torch.randn(size, 4, dtype=torch.float64, generator=generator)).Q
    mean = torch.arange(size, dtype=torch.float64)
    return LinearDynamics(a, b, emission, mean, noise_std, torch.eye(4, dtype=torch.float64))


def _dense(system: LinearDynamics, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The map from (s_1, ξ_2 … ξ_T) to all states, and the covariance of its argument's parts."""
    a, b = system.transition, system.noise_map
    power = torch.linalg.matrix_power
    rows = []
    for t in range(length):
        noise = [power(a, t - k) @ b if k <= t else torch.zeros_like(b) for k in range(1, length)]
        rows.append(torch.cat([power(a, t), *noise], 1))
    prior = torch.eye((length - 1) * b.shape[1], dtype=torch.float64)
    return torch.cat(rows), torch.block_diag(system.start_covariance, prior)


@pytest.mark.parametrize("hidden", ["nothing", "frames", "pixels"])
def test_the_smoother_conditions_the_joint_gaussian(hidden):
    generator = torch.Generator().manual_seed(0)
    system = _system(generator, noise_std=0.4)
    film = torch.randn(2, 7, 8, dtype=torch.float64, generator=generator)
    mask = torch.ones(2, 7, 8, dtype=torch.bool)
    if hidden != "nothing":
        shape = (2, 7, 1 if hidden == "frames" else 8)
        mask = (torch.rand(shape, generator=generator) < 0.5).expand(2, 7, 8)
    smoothed = system.smooth(torch.where(mask, film, math.nan), mask)
    to_states, prior = _dense(system, 7)
    states = to_states @ prior @ to_states.T
    emission = torch.block_diag(*[system.emission] * 7)
    for row in range(2):
        seen = mask[row].flatten()
        c = emission[seen]
        noise = 0.4**2 * torch.eye(len(c), dtype=torch.float64)
        gain = states @ c.T @ torch.linalg.inv(c @ states @ c.T + noise)
        mean = gain @ (film[row] - system.mean).flatten()[seen]
        covariance = states - gain @ c @ states
        torch.testing.assert_close(smoothed.mean[row].flatten(), mean)
        blocks = covariance.unflatten(0, (7, 4)).unflatten(2, (7, 4)).diagonal(dim1=0, dim2=2)
        torch.testing.assert_close(smoothed.covariance[row], blocks.permute(2, 0, 1))
    recovered = system.recover(film, mask)
    assert torch.equal(recovered[mask], film[mask])


def test_the_fit_recovers_the_spectrum_and_the_space_of_frames():
    generator = torch.Generator().manual_seed(1)
    system = _system(generator, noise_std=0.02)
    films = system.sample(4, 3000, burn_in=200, generator=generator)
    films = films + 0.02 * torch.randn(films.shape, dtype=torch.float64, generator=generator)
    found = LinearDynamics.fit(films, 4)
    values = [torch.linalg.eigvals(s.transition) for s in (system, found)]
    for value in values[0]:  # the error of an eigenvalue is about √((1 − |λ|²) / NT) < 0.004
        assert (values[1] - value).abs().min() < 0.015
    onto = found.emission @ found.emission.T
    assert (onto @ system.emission - system.emission).abs().max() < 0.01
    identity = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(found.emission.T @ found.emission, identity)
    rotation = found.emission.T @ system.emission  # of the true states onto the found
    noise = rotation @ system.noise_map @ system.noise_map.T @ rotation.T
    assert (found.noise_map @ found.noise_map.T - noise).abs().max() < 0.03
    # Of the 8 numbers of a frame 4 have noise that no state explains.
    assert found.noise_std == pytest.approx(0.02 * 0.5**0.5, rel=0.02)


def test_a_film_without_noise_is_continued_exactly():
    time = torch.arange(40, dtype=torch.float64)
    film = torch.stack([(0.4 * time + phase).sin() for phase in (0.0, 1.0, 2.0)], 1).unsqueeze(0)
    system = LinearDynamics.fit(film[:, :31], 2)  # nearly two periods; their mean is not 0
    assert torch.linalg.eigvals(system.transition).abs().max() < 1.01


def test_hidden_frames_of_a_smooth_film_are_recovered():
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(60, dtype=torch.float64)
    film = torch.stack([(0.3 * time + 0.7 * k).sin() for k in range(9)], 1).unsqueeze(0)
    film = film + 0.02 * torch.randn(film.shape, dtype=torch.float64, generator=generator)
    mask = (torch.rand(1, 60, 1, generator=generator) < 0.6).expand_as(film)
    system = LinearDynamics.fit(torch.where(mask, film, math.nan), 2, mask=mask)
    error = (system.recover(film, mask) - film)[~mask].abs().mean()
    assert error < 0.1 * film.abs().mean()


def test_samples_are_stationary_and_parts_are_parts():
    system, key = _system(torch.Generator().manual_seed(0)), torch.tensor([4, 2])
    films = system.sample(4000, 2, burn_in=150, key=key)
    a, process = system.transition, system.noise_map @ system.noise_map.T
    covariance = torch.zeros_like(a)
    for _ in range(2000):
        covariance = a @ covariance @ a.T + process
    spread = system.emission @ covariance @ system.emission.T
    for frame in range(2):
        found = films[:, frame].T.cov()
        size = spread.diagonal()
        error = ((size[:, None] * size + spread.square()) / 4000).sqrt()
        assert ((found - spread).abs() < 5 * error).all()
    part, whole = (system.sample(3 - n, 2, burn_in=3, key=key, first=n) for n in (2, 0))
    torch.testing.assert_close(part, whole[2:])
    assert system.sample(2, 1).shape == (2, 1, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: LinearDynamics.fit(torch.zeros(5, 8), 2), r"expected floating point \[N, T"),
        (lambda s: LinearDynamics.fit(torch.zeros(1, 5, 8), 6), "state_size is 6"),
        (lambda s: LinearDynamics.fit(torch.zeros(1, 5, 8), 2, 3), "noise_size 3"),
        (lambda s: s.smooth(torch.zeros(1, 5, 7).double()), "frames have shape"),
        (lambda s: s.sample(2, 0), "num_frames is 0"),
        (lambda s: s.sample(2, 3, burn_in=-1), "burn_in is -1"),
    ],
)
def test_what_does_not_fit_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call(_system(torch.Generator().manual_seed(0)))
