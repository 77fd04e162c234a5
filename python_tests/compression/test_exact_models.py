"""Networks without rounding, and models that code by them."""

import math

import pytest
import torch
from testing.coding import information, walk
from torch import nn
from torch.nn import functional

from gencore.compression import TOTAL_FREQUENCY, ExactModel, compress, decompress
from gencore.compression.exact_arithmetic import (
    exact_arithmetic,
    exact_copy,
    frequencies_of_logits,
)
from gencore.models import DARN, NADE, DiscreteMADE, EoNADE, PixelCNN
from gencore.nn import DiscretizedLogistic

pytest.importorskip("constriction")

GRID = 2.0**-16


def on_grid(x):
    return (x / GRID).round() * GRID


@pytest.mark.parametrize(
    "function",
    [torch.sigmoid, torch.tanh, functional.silu, functional.softplus, functional.elu, torch.relu],
)
def test_activations_are_those_of_torch_to_a_grid_step(function):
    x = on_grid(torch.linspace(-40, 40, 100_001, dtype=torch.float64))
    with exact_arithmetic("test"):
        y = function(x)
        z = function(x.clone(), inplace=True) if function is functional.silu else y
    torch.testing.assert_close(y, function(x), rtol=0, atol=GRID)
    assert y.equal(on_grid(y))
    assert y.equal(z)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(300, 500), nn.Tanh(), nn.Linear(500, 400), nn.ReLU(), nn.Linear(400, 3)
    )


def test_sums_have_no_order():
    """Hidden units in another order, and images in parts, give the same bits; those of plain
    float64 differ."""
    exact, x = exact_copy(network()), on_grid(torch.randn(64, 300).double())
    mixed = exact_copy(network())
    with torch.no_grad():
        order = torch.randperm(500)
        mixed[0].weight.copy_(exact[0].weight[order])
        mixed[0].bias.copy_(exact[0].bias[order])
        mixed[2].weight.copy_(exact[2].weight[:, order])
    with exact_arithmetic("test"):
        y, z = exact(x), mixed(x)
        parts = torch.cat([exact(part) for part in x.split(5)])
    assert y.equal(z)
    assert y.equal(parts)
    with torch.no_grad():
        assert not exact(x).equal(mixed(x))
        torch.testing.assert_close(exact(x), y, rtol=0, atol=20 * GRID)


def test_convolutions_are_products_of_their_patches():
    torch.manual_seed(0)
    conv, x = exact_copy(nn.Conv2d(8, 5, 3, padding=1)), on_grid(torch.randn(2, 8, 6, 7).double())
    with exact_arithmetic("test"):
        y = conv(x)
        patches = functional.unfold(x.flip(1), 3, padding=1)
        z = conv.weight.flip(1).flatten(1) @ patches + conv.bias[:, None]
    assert y.flatten(2).equal(z)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (torch.erf, "test: the operation erf cannot be computed with the same bits everywhere"),
        (nn.LayerNorm(4).double(), "the operation native_layer_norm cannot"),
        (lambda x: functional.softplus(x, beta=2), "the operation softplus cannot"),
        (lambda x: x.float() @ x.float().T, r"mm of torch\.float32"),
        (lambda x: 1e4 * x @ x.T, "the numbers in mm are too large to be added exactly"),
        (lambda x: (2.0**28 * x).sum(), "the numbers in sum are too large to be added exactly"),
        (lambda x: (2.0**29 * x).sum(0), "the numbers in sum are too large to be added exactly"),
        (lambda x: x.float().sum(), r"sum of torch\.float32 as torch\.float32 cannot"),
        (
            lambda x: x.sum(1, dtype=torch.float32),
            r"sum of torch\.float64 as torch\.float32 cannot",
        ),
        (lambda x: x.long().sum(dtype=torch.float64), r"sum of torch\.int64 as torch\.float64"),
        (lambda x: x.mean(0), "the operation mean cannot"),
        (lambda x: x.cumsum(0), "the operation cumsum cannot"),
        (lambda x: x.prod(0), "the operation prod cannot"),
        (lambda x: x.logsumexp(0), "the operation logsumexp cannot"),
        (lambda x: x.softmax(0), "the operation _softmax cannot"),
        (lambda x: x.var(), "the operation var cannot"),
        (lambda x: x.norm(), "the operation linalg_vector_norm cannot"),
        (lambda x: x.index_add(0, torch.zeros(3).long(), x), "the operation index_add cannot"),
        (lambda x: x.scatter_add(0, torch.zeros(3, 4).long(), x), "the operation scatter_add cann"),
        (
            lambda x: x.scatter(0, torch.zeros(3, 4).long(), 1.5, reduce="multiply"),
            "the operation scatter cannot",
        ),
        (lambda x: torch.add(x, x, alpha=0.3), "the operation add cannot"),
        (lambda x: torch.rsub(x, 1, alpha=0.3), "the operation rsub cannot"),
    ],
)
def test_what_is_not_exact_is_refused(compute, message):
    x = torch.full((3, 4), 100.0, dtype=torch.float64)
    with pytest.raises(ValueError, match=message), exact_arithmetic("test"):
        compute(x)


def test_sums_are_exact_to_the_last_bit():
    """Just below 2^37, where whole numbers of grid steps are still distinct."""
    x = torch.full((4,), 2.0**35 - 1, dtype=torch.float64)
    x[3] += 1 - GRID
    with exact_arithmetic("test"):
        assert x.sum().item() == 2**37 - 3 - GRID
        assert x.view(2, 2).sum(1).tolist() == [2**36 - 2, 2**36 - 1 - GRID]
        assert (x > 0).sum().item() == 4
        assert x[:0].sum().item() == 0


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x + 0.1,
        lambda x: 0.1 - x,
        lambda x: x.clone().sub_(0.1),
        lambda x: x.clamp(min=0.1),
        lambda x: x.masked_fill(x < 0, 0.1),
        lambda x: torch.full_like(x, 0.1),
        lambda x: x + torch.tensor(0.1),
        lambda x: x + torch.tensor([0.1]).double(),
        lambda x: functional.pad(x, (1, 1), value=0.1),
    ],
)
def test_constants_come_to_the_grid(compute):
    x = torch.zeros(3, 4, dtype=torch.float64) - torch.eye(3, 4, dtype=torch.float64)
    with exact_arithmetic("test"):
        y = compute(x)
    assert y.equal(on_grid(y))
    torch.testing.assert_close(y, compute(x), rtol=0, atol=GRID)


@pytest.mark.parametrize("levels", [2, 16, 256, 5000])
@pytest.mark.parametrize("scale", [0, 1, 30])
def test_frequencies_are_a_softmax(levels, scale):
    torch.manual_seed(0)
    logits = on_grid(scale * torch.randn(50, levels, dtype=torch.float64))
    frequencies = frequencies_of_logits(logits).double()
    assert (frequencies.sum(1) == TOTAL_FREQUENCY).all()
    assert frequencies.min() >= 1
    p = logits.softmax(1)
    divergence = (p * (p.log() - (frequencies / TOTAL_FREQUENCY).log())).sum(1)
    # A frequency of 1 for each level, and the table.
    assert divergence.max() <= 2 * levels / TOTAL_FREQUENCY + 1e-5


# Models


@pytest.mark.parametrize("channel_groups", [1, 3])
def test_a_model_of_images_codes(channel_groups):
    torch.manual_seed(0)
    shape = (3, 4, 3)
    model = PixelCNN(shape, channels=6, num_layers=2, levels=16, channel_groups=channel_groups)
    x = walk(20, shape, 16)
    exact = ExactModel(model)
    data = compress(exact, x, images_per_stream=15)
    assert decompress(exact, data).equal(x)
    bits = -model.log_prob(x).sum().item() / math.log(2)
    found = sum(information(exact.coding_session(len(p)), p) for p in x.split(15))
    assert found == pytest.approx(bits, rel=1e-4)
    assert 8 * len(data) <= 1.01 * bits + 2 * (64 + 64) + 8 * 30


def test_a_context_comes_to_the_grid():
    torch.manual_seed(0)
    shape = (1, 3, 3)
    exact = ExactModel(PixelCNN(shape, channels=6, num_layers=1, levels=16, context_channels=2))
    x, context = walk(20, shape, 16), 50 * torch.randn(20, 2, dtype=torch.float64)
    on = exact.coding_session(20, on_grid(context)).frequencies(x, 0, 9)
    assert exact.coding_session(20, context).frequencies(x, 0, 9).equal(on)


@pytest.mark.parametrize("levels", [2, 7])
@pytest.mark.parametrize("make", [NADE, EoNADE, DiscreteMADE])
def test_a_model_of_vectors_codes(make, levels):
    torch.manual_seed(0)
    model = make(24, 12 if make is NADE else (12, 10), levels=levels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    x = walk(60, (1, 6, 4), levels)
    exact = ExactModel(model, (1, 6, 4))
    assert decompress(exact, compress(exact, x)).equal(x)
    bits = -model.log_prob(x.flatten(1)).sum().item() / math.log(2)
    assert information(exact.coding_session(60), x) == pytest.approx(bits, rel=1e-4)


def test_wrong_models():
    with pytest.raises(ValueError, match=r"image_shape is None; expected \[1, H, W\] of the 6 co"):
        ExactModel(NADE(6, 2))
    for shape in ((1, 2, 2), (3, 1, 2)):
        with pytest.raises(ValueError, match=r"image_shape is .*; expected \[1, H, W\]"):
            ExactModel(NADE(6, 2), shape)
    with pytest.raises(ValueError, match="MADE is a mean over several sets"):
        ExactModel(DiscreteMADE(6, (8,), num_masks=2), (1, 2, 3))
    with pytest.raises(ValueError, match="DARN is no product of distributions in raster order"):
        ExactModel(DARN(6, (3,)), (1, 2, 3))
    with pytest.raises(ValueError, match="NADE has another order than that of coding"):
        ExactModel(NADE(6, 2, order=torch.arange(6).flip(0)), (1, 2, 3))
    model = PixelCNN((1, 2, 2), channels=4, num_layers=1, likelihood=DiscretizedLogistic(16))
    with pytest.raises(ValueError, match="DiscretizedLogistic; expected Categorical"):
        ExactModel(model)
    with pytest.raises(ValueError, match="Linear is no product of distributions in raster order"):
        ExactModel(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="a model of vectors takes no context"):
        ExactModel(NADE(6, 2), (1, 2, 3)).coding_session(1, torch.zeros(1, 1))
