"""Films from one image."""

import math

import pytest
import torch
from testing.bump_films import circling_film
from torch import nn

from gencore.inference import LatentChains, LatentLangevin
from gencore.models import DynamicGenerator, ImageToVideo, ImageToVideoEncoder
from gencore.nn import StateTransition


def _model() -> ImageToVideo:
    torch.manual_seed(0)
    emission = nn.Sequential(
        nn.Linear(3 + 2, 6), nn.Tanh(), nn.Linear(6, 16), nn.Unflatten(1, (1, 4, 4))
    )
    generator = DynamicGenerator(
        StateTransition(3, 2, (5,)), emission, appearance_size=2, noise_std=0.5
    )
    return ImageToVideo(ImageToVideoEncoder((1, 4, 4), 5, width=2), generator).double()


def test_g20_the_encoder_has_the_layers_of_the_thesis():
    encoder = ImageToVideoEncoder((3, 64, 64), 100 + 80)
    shapes, x = [], torch.zeros(1, 3, 64, 64)
    for layer in encoder:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            shapes.append((layer.kernel_size, *x.shape[1:]))
    assert shapes == [((5, 5), 64, 32, 32), ((3, 3), 128, 16, 16), ((3, 3), 256, 16, 16)]
    assert x.shape == (1, 180)


def test_odd_sides_fit():
    assert ImageToVideoEncoder((1, 9, 6), 4, width=2)(torch.zeros(2, 1, 9, 6)).shape == (2, 4)


def test_g20_noise_is_the_only_latent():
    model, films = _model(), torch.randn(3, 6, 1, 4, 4).double()
    assert model.latent_shapes(5).items() == [("noise", (5, 2))]
    latents = model.infer(films, LatentLangevin(num_steps=2))
    assert {name: latent.shape for name, latent in latents.items()} == {"noise": (3, 5, 2)}
    chains = LatentChains(model.prior_latents(3, 5))
    moved = chains.advance(model.posterior_energy(films), torch.arange(3), LatentLangevin())
    assert set(moved) == {"noise"}


def test_g20_state_and_appearance_are_what_the_encoder_gives():
    model, films = _model(), torch.randn(3, 6, 1, 4, 4).double()
    latents = model.prior_latents(3, 5)
    code = model.encoder(films[:, 0])
    whole = {**latents, "start": code[:, :3], "appearance": code[:, 3:]}
    found = model.log_likelihood(films, latents)
    torch.testing.assert_close(found, model.generator.log_likelihood(films[:, 1:], whole))
    torch.testing.assert_close(model.decode(latents, films[:, 0]), model.generator.decode(whole))
    torch.testing.assert_close(model.posterior_energy(films)(latents), -found)
    prior = 0.5 * latents["noise"].square().sum((1, 2))
    torch.testing.assert_close(model.log_joint(films, latents), found - prior)


def test_g20_all_three_networks_learn_and_inference_changes_none():
    model, films = _model(), torch.randn(2, 4, 1, 4, 4).double()
    latents = model.infer(films)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(latent.requires_grad for latent in latents.values())
    (-model.log_likelihood(films, latents).mean()).backward()
    for part in (model.encoder, model.generator.transition, model.generator.emission):
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())


def test_hidden_pixels_have_no_effect():
    model, films = _model(), torch.randn(2, 4, 1, 4, 4).double()
    mask = torch.rand(2, 3, 1, 4, 4) < 0.5
    latents, other = model.prior_latents(2, 3), films.clone()
    other[:, 1:][~mask] = torch.nan
    found = [model.log_likelihood(film, latents, mask) for film in (films, other)]
    assert torch.equal(*found)


def test_one_noise_gives_one_film_and_one_image_many():
    model, images = _model(), torch.randn(2, 1, 4, 4).double()
    noise = torch.randn(2, 5, 2)
    film = model.animate(images, 5, noise=noise)
    assert torch.equal(film, model.animate(images, 5, noise=noise))
    assert film.shape == (2, 5, 1, 4, 4)
    assert not torch.equal(model.animate(images, 5), model.animate(images, 5))
    key = torch.tensor([1, 2])
    torch.testing.assert_close(
        model.animate(images[1:], 5, key=key, first=1), model.animate(images, 5, key=key)[1:]
    )


def test_what_does_not_fit_is_told():
    model, images = _model(), torch.randn(2, 1, 4, 4).double()
    with pytest.raises(ValueError, match="num_frames is 0"):
        model.animate(images, 0)
    with pytest.raises(ValueError, match=r"LatentShapes\.pack"):
        model.animate(images, 5, noise=torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="motion code"):
        ImageToVideo(
            model.encoder, DynamicGenerator(StateTransition(3, 2, code_size=1), nn.Linear(3, 4))
        )
    with pytest.raises(ValueError, match=r"the encoder gives \[2, 4\]"):
        ImageToVideo(ImageToVideoEncoder((1, 4, 4), 4, width=2).double(), model.generator).encode(
            images
        )
    with pytest.raises(ValueError, match=r"expected \[C, H, W\]"):
        ImageToVideoEncoder((4, 4), 4)


def test_g20_a_held_out_image_moves_as_what_was_learned():
    """Bumps that circle in one way: the first frame tells where each goes. The means over the
    training films and the first frame itself are farther from what happens."""
    torch.manual_seed(0)
    phases = 2 * math.pi * torch.rand(48)
    films = 2 * torch.stack([circling_film(phase, 8, 8, 3.0) for phase in phases])[:, :, None] - 1
    films, held_out = films[:32], films[32:]
    emission = nn.Sequential(
        nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8))
    )
    generator = DynamicGenerator(StateTransition(4, 2, (20,)), emission, noise_std=0.3)
    model = ImageToVideo(ImageToVideoEncoder((1, 8, 8), 4, width=4), generator)
    chains = LatentChains(model.prior_latents(32, 7))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(300):
        latents = chains.advance(
            model.posterior_energy(films), torch.arange(32), LatentLangevin(0.05, 2)
        )
        optimizer.zero_grad()
        (-model.log_likelihood(films, latents).mean()).backward()
        optimizer.step()
    image, later = held_out[:, 0], held_out[:, 1:]
    found = model.animate(image, 7, noise=torch.zeros(16, 7, 2))
    error = (found - later).abs().mean()
    print(error, (films[:, 1:].mean(0) - later).abs().mean(), (image[:, None] - later).abs().mean())
    assert error < 0.5 * (films[:, 1:].mean(0) - later).abs().mean()
    assert error < 0.5 * (image[:, None] - later).abs().mean()
