"""Prediction with latents inferred from the target: what they touch, and what they find."""

import pytest
import torch
from torch import nn

from gencore.inference import infer_latents
from gencore.models import (
    LatentLinearizingAutoencoder,
    LinearizingAutoencoder,
    PhaseCode,
    linearizing_architecture,
)
from gencore.nn import DeltaCode, NotatedNetwork


def small_model(**options):
    torch.manual_seed(0)
    autoencoder = LinearizingAutoencoder(
        NotatedNetwork("12 -FC,ReLU-> 16 -FC-> 8"), NotatedNetwork("8 -FC,ReLU-> 16 -FC-> 12")
    )
    return LatentLinearizingAutoencoder(autoencoder, DeltaCode(8, 3), **options).double()


def convolutional_model():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    decoder = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.Conv2d(4, 6, 3), nn.ReLU(),
        nn.ConvTranspose2d(6, 1, 3),
    )  # fmt: skip
    autoencoder = LinearizingAutoencoder(encoder, decoder)
    return LatentLinearizingAutoencoder(autoencoder, DeltaCode(4 * 6 * 5, 2)).double()


def frames(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 7, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("model", "shape"), [(small_model(), (12,)), (convolutional_model(), (1, 6, 5))]
)
def test_the_latents_are_those_of_algorithm_3_1(model, shape):
    """As the thesis writes it: through the whole decoder, which is applied layer by layer."""
    x1, x2, y = frames(*shape)
    delta = torch.zeros(7, model.delta_code.weight.shape[1], dtype=torch.float64)
    for _ in range(10):
        delta.requires_grad_()
        error = (model(x1, x2, delta) - y).square().sum()
        delta = (delta - model.step_size * torch.autograd.grad(error, delta)[0]).detach()
    assert delta.abs().max() > 1e-3
    terms = model.loss(x1, x2, y, curvature_weight=0.3)
    torch.testing.assert_close(terms.delta, delta)
    torch.testing.assert_close(model.infer(x1, x2, y), delta)
    error = (model(x1, x2, delta) - y).square().flatten(1).sum(1)
    torch.testing.assert_close(terms.prediction_error, error)
    torch.testing.assert_close(terms.loss, error - 0.3 * terms.cosine)


def test_a_decoder_with_a_hook_is_called_whole():
    model, calls = small_model(), []
    expected = model.infer(*frames(12))
    model.autoencoder.decoder[0].register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(model.infer(*frames(12)), expected)
    assert len(calls) == model.num_steps


def test_the_cosine_has_no_gradient_by_the_latents():
    """Its descent in δ alone stays where it is, and δ does not depend on λ."""
    model, (x1, x2, y) = small_model(), frames(12)
    codes = model.autoencoder.encode_all(x1, x2, y)
    start = torch.ones(7, 3, dtype=torch.float64)

    def cosine(delta):
        return model.autoencoder.cosine(*codes) + 0 * delta.sum(1)

    assert torch.equal(infer_latents(cosine, start, num_steps=3, step_size=1.0), start)
    plain, curved = (model.loss(x1, x2, y, weight) for weight in (0.0, 5.0))
    assert torch.equal(plain.delta, curved.delta)


def test_no_gradient_goes_through_the_loop():
    """The parameters' gradient is that of the error at δ as it is."""
    model, (x1, x2, y) = small_model(), frames(12)
    parameters = list(model.parameters())
    terms = model.loss(x1, x2, y)
    grads = torch.autograd.grad(terms.loss.sum(), parameters)
    error = (model(x1, x2, terms.delta) - y).square().sum()
    torch.testing.assert_close(grads, torch.autograd.grad(error, parameters))
    assert all(parameter.grad is None for parameter in parameters)


def test_with_phase_pooling_latents_change_phases_only():
    torch.manual_seed(0)
    autoencoder = linearizing_architecture("mlp", (32,)).double()
    model = LatentLinearizingAutoencoder(autoencoder, DeltaCode(8, 3, form="velocity")).double()
    x1, x2, y = frames(32)
    z1, z2 = autoencoder.encode_all(x1, x2)
    without = autoencoder.predict_code(z1, z2)
    zero = model.predict_code(z1, z2, torch.zeros(7, 3, dtype=torch.float64))
    torch.testing.assert_close(tuple(zero), tuple(without))
    delta = model.infer(x1, x2, y)
    assert isinstance(zero, PhaseCode)
    code = model.predict_code(z1, z2, delta)
    assert torch.equal(code.magnitude, zero.magnitude)
    assert (code.phase != zero.phase).any()
    before, after = ((autoencoder.decode(c) - y).square().sum(1).mean() for c in (zero, code))
    assert after < before


def test_a_step_that_is_too_large_is_told():
    with pytest.raises(ValueError, match="remedy is a smaller step_size"):
        small_model(step_size=1e9, num_steps=400).infer(*frames(12))


def test_a_predictor_that_the_latents_would_replace_is_told():
    with pytest.raises(ValueError, match="LinearizingAutoencoder with a learned predictor"):
        LatentLinearizingAutoencoder(
            linearizing_architecture("mlp", (8,), learned_predictor=True), DeltaCode(8, 1)
        )
    with pytest.raises(ValueError, match="got a SiameseAutoencoder with no predictor"):
        LatentLinearizingAutoencoder(
            linearizing_architecture("deep1", (1, 20, 20), width=0.01), DeltaCode(8, 1)
        )


def test_under_autocast_latents_stay_in_single_precision():
    model = small_model(step_size=0.1).float()
    x1, x2, y = frames(12).float()
    with torch.autocast("cpu", torch.bfloat16):
        delta = model.infer(x1, x2, y)
    assert delta.dtype == torch.float32
    torch.testing.assert_close(delta, model.infer(x1, x2, y), rtol=0.1, atol=0.02)
