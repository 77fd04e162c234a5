"""Energies of auto-encoders: principal components, noise, penalties."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gencore.models import AutoencoderEBM, AutoencoderEnergy
from gencore.nn import KSparse

_VARIANCES = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25, 0.1], dtype=torch.float64)


def _linear(size: int, code: int) -> AutoencoderEnergy:
    torch.manual_seed(0)
    layers = nn.Linear(size, code, bias=False), nn.Linear(code, size, bias=False)
    return AutoencoderEnergy(*(layer.double() for layer in layers))


def _minimise(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[arg-type]


def test_a_linear_one_leaves_the_variance_of_the_last_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))[0]
    # Rows whose second moments are exactly those.
    x = torch.linalg.qr(torch.randn(40, 6, dtype=torch.float64, generator=generator))[0] * 40**0.5
    x = x * _VARIANCES.sqrt() @ axes.T
    energy = _linear(6, 2)
    _minimise(energy, lambda: energy(x).mean())
    assert energy(x).mean().item() == pytest.approx(_VARIANCES[2:].sum().item(), rel=1e-6)
    product = energy.decoder.weight @ energy.encoder.weight
    torch.testing.assert_close(product, axes[:, :2] @ axes[:, :2].T, atol=1e-4, rtol=0)


def test_a_denoising_one_learns_the_mean_of_the_posterior() -> None:
    """Of x ~ N(0, S) and noise of variance σ² it is the Wiener filter S(S + σ²)⁻¹."""
    num, noise_std = 60_000, 0.7
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num, 3, dtype=torch.float64, generator=generator)
    x = x * _VARIANCES[:3].sqrt()
    energy = _linear(3, 3)
    model = AutoencoderEBM(energy, noise_std=noise_std)
    key = torch.tensor([1, 2])
    _minimise(energy, lambda: model(x, key=key).loss.mean())
    expected = torch.diag(_VARIANCES[:3] / (_VARIANCES[:3] + noise_std**2))
    found = energy.decoder.weight.detach() @ energy.encoder.weight.detach()
    # Least squares: the standard error of a coefficient is that of the residual over the input.
    residual = (_VARIANCES[:3] * noise_std**2 / (_VARIANCES[:3] + noise_std**2)).sqrt()
    error = residual[:, None] / ((_VARIANCES[:3] + noise_std**2) * num).sqrt()
    assert ((found - expected).abs() < 4.5 * error).all()


def test_the_loss_by_hand() -> None:
    encoder, decoder = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    nn.init.eye_(decoder.weight)
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, -3.0]]))
    model = AutoencoderEBM(
        AutoencoderEnergy(encoder, decoder), sparsity_weight=0.5, contraction_weight=0.1
    )
    terms = model(torch.tensor([[1.0, 1.0]]))
    # Codes (2, −3): distances (1, −4), magnitudes 5, Jacobian of squares 4 + 9.
    assert terms.energy.item() == 17.0
    assert terms.penalty.item() == pytest.approx(0.5 * 5 + 0.1 * 13)
    assert terms.loss.item() == pytest.approx(17 + 2.5 + 1.3)


def test_sparse_codes_and_a_bounded_decoder() -> None:
    torch.manual_seed(0)
    energy = AutoencoderEnergy(nn.Linear(6, 8), nn.Linear(8, 6), activation=KSparse(2))
    assert ((energy.encode(torch.randn(5, 6)) != 0).sum(1) == 2).all()
    model = AutoencoderEBM(energy)
    with torch.no_grad():
        energy.decoder.weight.mul_(100.0)
        energy.decoder.weight[:, 0] = 0.01
    before = energy.decoder.weight.clone()
    model.normalise_decoder()
    lengths = energy.decoder.weight.norm(dim=0)
    torch.testing.assert_close(lengths[1:], torch.ones(7))
    assert torch.equal(energy.decoder.weight[:, 0], before[:, 0])
    image_energy = AutoencoderEnergy(nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 6)))
    with pytest.raises(TypeError, match="the decoder is a Sequential"):
        AutoencoderEBM(image_energy).normalise_decoder()


def test_noise_is_that_of_the_whole_batch() -> None:
    model = AutoencoderEBM(_linear(3, 2), noise_std=0.5, contraction_weight=1, num_probes=1)
    x, key = torch.randn(5, 3, dtype=torch.float64), torch.tensor([1, 2])
    whole, part = model(x, key=key), model(x[3:], key=key, first=3)
    torch.testing.assert_close(whole.loss[3:], part.loss)


def test_bad_input() -> None:
    energy = AutoencoderEnergy(nn.Linear(6, 4), nn.Linear(4, 5))
    with pytest.raises(ValueError, match=r"the decoder gives \[2, 5\]; expected \[2, 6\]"):
        energy(torch.zeros(2, 6))
    for name in ("sparsity_weight", "contraction_weight", "noise_std"):
        with pytest.raises(ValueError, match=f"AutoencoderEBM: {name}"):
            AutoencoderEBM(energy, **{name: -1.0})
    with pytest.raises(ValueError, match="num_probes is 0"):
        AutoencoderEBM(energy, num_probes=0)
