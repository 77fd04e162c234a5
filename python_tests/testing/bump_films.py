"""Films of a bump that moves along a line of pixels or in a circle, and models trained on them."""

import torch
from torch import Tensor

from gencore.models import linearizing_architecture

SIZE, STD, MAX_SPEED = 32, 1.5, 3.5


def bump_films(num, generator, times=(0.0, 1.0, 2.0)):
    """[num, T, 32]: Gaussian bumps at these times, at 0.5 to 3.5 pixels a frame in either way;
    at time 1 they are in the middle half."""
    uniform = torch.rand(3, num, 1, 1, generator=generator)
    middle = SIZE * (0.25 + 0.5 * uniform[0])
    speed = torch.where(uniform[2] < 0.5, -1, 1) * (0.5 + (MAX_SPEED - 0.5) * uniform[1])
    place = middle + speed * (torch.tensor(times)[:, None] - 1)
    return torch.exp(-(torch.arange(SIZE) - place).square() / (2 * STD**2))


def circling_film(phase: float, num_frames: int, side: int, size: float) -> Tensor:
    """Images [T, side, side] of a bump that runs in a circle."""
    angle, pixels = phase + 0.6 * torch.arange(num_frames), torch.arange(side)
    centre = (side - 1) / 2
    rows = (pixels - (centre + 0.25 * side * angle.sin())[:, None]).square()
    columns = (pixels - (centre + 0.25 * side * angle.cos())[:, None]).square()
    return (-(rows[:, :, None] + columns[:, None]) / size).exp()


def trained_on_bumps(steps, *, seed, curvature_weight, phase_pooling):
    """The fully connected model of 32-128-64 units after this many steps of 128 films."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = linearizing_architecture("mlp", (SIZE,), phase_pooling=phase_pooling)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        films = bump_films(128, generator)
        loss = model.loss(*films.unbind(1), curvature_weight=curvature_weight).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def bump_measures(model, num=2000):
    """Of new films, squared errors a frame: of the prediction, of the frame half-way between the
    two, and of what needs no model; and the mean cosine."""
    films = bump_films(num, torch.Generator().manual_seed(1234), (0.0, 0.5, 1.0, 2.0))
    x1, half, x2, y = films.unbind(1)

    def error(frames, truth):
        return (frames - truth).square().sum(1).mean().item()

    return {
        "prediction": error(model(x1, x2), y),
        "copy_last": error(x2, y),
        "interpolation": error(model.interpolate(x1, x2, 0.5), half),
        "pixel_average": error((x1 + x2) / 2, half),
        "cosine": model.curvature(films[:, [0, 2, 3]]).mean().item(),
    }
