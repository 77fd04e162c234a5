"""PixelRNN: its LSTMs against loops over pixels, what they see, and its samples."""

import pytest
import torch
from testing.pixel_model_testing import all_images, seen_levels
from torch import Tensor

from gencore.models import MultiScalePixelRNN, PixelCNNPlusPlus, PixelRNN
from gencore.nn import DiagonalBiLSTM, PixelInput, RowLSTM
from gencore.nn.causal.diagonal_bilstm import skew, unskew

CELLS = ("row_lstm", "diagonal_bilstm")


def redrawn(module):
    """In float64, with weights that are large enough for dependences to show, and biases that leave
    no ReLU without work."""
    generator = torch.Generator().manual_seed(1)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 0.2 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(scale * noise)
    return module


def small_rnn(shape=(1, 3, 3), cell="row_lstm", **options):
    options = {"channels": 4, "num_layers": 2, "levels": 2, "first_kernel_size": 3} | options
    return redrawn(PixelRNN(shape, cell=cell, **options))


def draw_levels(model, num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.likelihood.levels, (num, *model.image_shape), generator=generator)


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(3, 5), (5, 3), (1, 4), (4, 1)])
def test_skewed_images_are_diagonals_and_come_back(height, width):
    x = numbers(height, width, 2)
    skewed = skew(x)
    assert torch.equal(unskew(skewed, height, width), x)
    pixels = [(r, q) for r in range(height) for q in range(width)]
    by_diagonal = sorted(pixels, key=lambda pixel: (sum(pixel), pixel[0]))
    assert torch.equal(skewed, torch.stack([x[pixel] for pixel in by_diagonal]))


def plain_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, f, i, g = gates.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def plain_states(gates: Tensor, taps: dict[tuple[int, int], Tensor], cell_from: tuple[int, int]):
    """h [h, H, W] of gates [4h, H, W]: the matrices of the places above and to the left that a
    state sees, and the place whose cell it continues."""
    size, (height, width) = len(gates) // 4, gates.shape[1:]
    nothing = gates.new_zeros(size)
    h: dict[tuple[int, int], Tensor] = {}
    c: dict[tuple[int, int], Tensor] = {}
    for r in range(height):
        for q in range(width):
            total = gates[:, r, q]
            for (down, right), matrix in taps.items():
                total = total + h.get((r + down, q + right), nothing) @ matrix
            last = c.get((r + cell_from[0], q + cell_from[1]), nothing)
            h[r, q], c[r, q] = plain_cell(total, last)
    return torch.stack(
        [torch.stack([h[r, q] for q in range(width)], -1) for r in range(height)], -2
    )


def plain_gates(layer, direction: int, x: Tensor, context: Tensor) -> Tensor:
    """s [4h, H, W] of an image [I, H, W] and its context."""
    part = layer.input_to_state
    size = 4 * layer.channels
    taps = part.matrix()[direction].unflatten(0, (-1, len(x)))
    rows = slice(direction * size, (direction + 1) * size)
    gates = part.context(context[None])[0, rows] + part.bias.flatten()[rows, None, None]
    for q in range(x.shape[2]):
        for back, matrix in enumerate(taps.flip(0)):
            if q >= back:
                gates[:, :, q] += matrix.T @ x[:, :, q - back]
    return gates


@pytest.mark.parametrize(("height", "width"), [(4, 6), (1, 3), (5, 1), (1, 1)])
@pytest.mark.parametrize("kernel_size", [3, 5])
@torch.no_grad()
def test_a_row_lstm_equals_a_loop_over_pixels(height, width, kernel_size):
    layer = redrawn(RowLSTM(4, 6, kernel_size=kernel_size, channel_groups=2, context_channels=3))
    x, context = numbers(2, 4, height, width), numbers(2, 3, height, width)
    y = layer(x, context)
    u = layer.state_to_state[0].unflatten(0, (kernel_size, -1))
    taps = {(-1, j - kernel_size // 2): u[j] for j in range(kernel_size)}
    for image in range(2):
        gates = plain_gates(layer, 0, x[image], context[image])
        torch.testing.assert_close(y[image], plain_states(gates, taps, (-1, 0)))


@pytest.mark.parametrize(("height", "width"), [(4, 6), (6, 3), (1, 3), (5, 1), (1, 1)])
@torch.no_grad()
def test_a_diagonal_bilstm_equals_a_loop_over_pixels(height, width):
    layer = redrawn(DiagonalBiLSTM(4, 6, channel_groups=2, context_channels=3))
    x, context = numbers(2, 4, height, width), numbers(2, 3, height, width)
    y = layer(x, context)
    for image in range(2):
        sides = []
        for direction, u in enumerate(layer.state_to_state):
            above, beside = u.chunk(2)
            gates = plain_gates(layer, direction, x[image], context[image])
            states = plain_states(
                gates.flip(-1) if direction else gates,
                {(-1, 0): above, (0, -1): beside},
                (0, -1),
            )
            sides.append(states.flip(-1) if direction else states)
        expected = sides[0].clone()
        expected[:, 1:] += sides[1][:, :-1]
        torch.testing.assert_close(y[image], expected)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("colours", [1, 3])
def test_a_pixel_sees_no_later_level(cell, colours):
    model = small_rnn((colours, 4, 5), cell, channels=6 * colours, levels=4)
    seen, before = seen_levels(model, draw_levels(model, 8))
    assert not (seen & ~before).any()
    if cell == "diagonal_bilstm":
        assert torch.equal(seen, before)  # no blind spot
    else:
        # The channels of the pixel itself, and the pixel to the left and the one above.
        places = torch.arange(len(seen))
        pixels = places // colours
        for pixels_before in (0, 1, 5):
            near = pixels[:, None] - pixels == pixels_before
            if pixels_before == 1:
                near &= pixels[:, None] % 5 > 0
            assert torch.equal(seen & near, before & near)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_row_lstm_sees_a_triangle(num_layers):
    model = small_rnn((1, 3, 13), num_layers=num_layers, first_kernel_size=5)
    seen, _ = seen_levels(model, draw_levels(model, 4))
    # A row up, the states see a column more on each side, and the first convolution two on each.
    # A layer looks one column to the left.
    row, column = 2, 7
    expected = torch.zeros(3, 13, dtype=torch.bool)
    for up in range(3):
        first = column - up - num_layers - 2
        last = column + up + 1 if up else column - 1
        expected[row - up, max(first, 0) : last + 1] = True
    assert torch.equal(seen[row * 13 + column].view(3, 13), expected)
    assert not expected[1].all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 2, 2)])
def test_probabilities_of_all_images_sum_to_one(cell, shape):
    model = small_rnn(shape, cell)
    total = model.log_prob(all_images(model)).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-10)


def multi_scale(shape=(1, 2, 4), **options):
    options = {"channels": 4, "num_layers": 1, "levels": 2, "first_kernel_size": 3} | options
    return redrawn(MultiScalePixelRNN(shape, **options))


@pytest.mark.parametrize("shape", [(1, 2, 4), (2, 2, 2)])
def test_probabilities_of_all_images_of_two_scales_sum_to_one(shape):
    model = multi_scale(shape)
    total = model.log_prob(all_images(model)).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-10)


@pytest.mark.slow
def test_the_small_model_may_have_two_scales_itself():
    model = multi_scale((1, 4, 4), small=multi_scale((1, 2, 2)), cell="row_lstm")
    with torch.no_grad():
        parts = [model.log_prob(part).exp().sum() for part in all_images(model).split(4096)]
    assert sum(parts).item() == pytest.approx(1, abs=1e-10)
    assert model.sample(2, generator=torch.Generator().manual_seed(0)).shape == (2, 1, 4, 4)


def test_the_large_network_sees_earlier_pixels_and_the_small_image():
    model = multi_scale((1, 4, 4))
    read: list[Tensor] = []

    def real(module, _, y):
        read.append(y.detach().requires_grad_())
        return read[-1]

    for module in (model.large.input, model.upsampling.input):
        assert isinstance(module, PixelInput)
        module.register_forward_hook(real)
    parameters = model(draw_levels(model, 8))
    of_small, of_image = sorted(read, key=Tensor.numel)
    for row in range(4):
        for column in range(4):
            total = (parameters[:, :, row, column] * numbers(8, 2)).sum()
            gradients = torch.autograd.grad(total, (of_image, of_small), retain_graph=True)
            seen = (gradients[0] != 0).any(0)[0].flatten()
            place = 4 * row + column
            assert seen[:place].all()
            assert not seen[place:].any()
            assert (gradients[1][:, 0] != 0).any(0).all()  # convolutions of three pixels reach


def test_of_the_large_network_only_unknown_pixels_count():
    model = multi_scale((1, 4, 4))
    x = draw_levels(model, 3)
    small = x[:, :, ::2, ::2]
    pixels = model.likelihood.log_prob(model(x), x).view(3, 16)
    others = [p for p in range(16) if p not in (0, 2, 8, 10)]
    expected = model.small.log_prob(small) + pixels[:, others].sum(1)
    torch.testing.assert_close(model.log_prob(x), expected)


MODELS = {
    "row_lstm": lambda: small_rnn((1, 2, 4), "row_lstm"),
    "diagonal_bilstm": lambda: small_rnn((2, 2, 2), "diagonal_bilstm"),
    "multi_scale": multi_scale,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["naive", "incremental"])
def test_samples_have_the_probabilities_of_the_images(name, method):
    model, num = MODELS[name](), 8_000
    x = model.sample(num, method=method, generator=torch.Generator().manual_seed(0))
    bits = 2 ** torch.arange(8).flip(0)
    counts = (x.flatten(1) @ bits).bincount(minlength=256)
    with torch.no_grad():
        expected = num * model.log_prob(all_images(model)).exp()
    # Pearson's statistic over the images that are not rare, and its mean; twice that is about its
    # variance.
    likely = expected > 5
    assert likely.sum() > 80
    statistic = ((counts - expected).square() / expected)[likely].sum().item()
    mean = (1 - expected / num)[likely].sum().item()
    assert abs(statistic - mean) < 4 * (2 * mean) ** 0.5


CHOICES = {
    "row_lstm": lambda: small_rnn((1, 5, 6), levels=8),
    "wide row_lstm": lambda: small_rnn((1, 4, 4), kernel_size=5, levels=8, first_kernel_size=7),
    "row_lstm of colours": lambda: small_rnn((3, 4, 5), levels=8, channels=6),
    "diagonal_bilstm": lambda: small_rnn((1, 5, 6), "diagonal_bilstm", levels=8),
    "diagonal_bilstm of colours": lambda: small_rnn((3, 4, 5), "diagonal_bilstm", channels=6),
    "multi_scale": lambda: multi_scale((3, 4, 6), levels=8, channels=6),
    "multi_scale by three": lambda: multi_scale((1, 6, 6), factor=3, levels=8),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("complete", [False, True])
def test_incremental_samples_are_the_naive_ones(name, complete):
    model, num = CHOICES[name](), 7
    known = given = None
    if complete:
        given = draw_levels(model, num)
        known = torch.rand(given.shape, generator=torch.Generator().manual_seed(5)) < 0.4
    naive, incremental = (
        model.sample(
            num,
            method=method,
            given=given,
            known=known,
            generator=torch.Generator().manual_seed(2),
        )
        for method in ("naive", "incremental")
    )
    assert torch.equal(incremental, naive)
    assert len(naive.unique()) == model.likelihood.levels
    if complete:
        assert torch.equal(naive[known], given[known])


@pytest.mark.parametrize("cell", CELLS)
def test_contexts_condition_every_layer(cell):
    model = small_rnn((1, 4, 4), cell, levels=8, context_channels=3)
    x = draw_levels(model, 3)
    maps, vectors = numbers(3, 3, 4, 4), numbers(3, 3)
    spread = vectors[:, :, None, None].expand(-1, -1, 4, 4)
    torch.testing.assert_close(model(x, vectors), model(x, spread))
    assert ((model(x, maps) - model(x, maps.roll(1, 0))).abs().amax((1, 2, 3)) > 1e-3).all()
    for context in (maps, vectors):
        samples = [
            model.sample(3, context, method=method, generator=torch.Generator().manual_seed(2))
            for method in ("naive", "incremental")
        ]
        assert torch.equal(*samples)
    for layer in model.layers:
        with torch.no_grad():
            layer.lstm.input_to_state.context.weight.zero_()
    assert torch.equal(model(x, maps), model(x, maps.roll(1, 0)))


@pytest.mark.parametrize("make", [small_rnn, multi_scale])
def test_there_may_be_no_images(make):
    model = make()
    assert model.sample(0).shape == (0, *model.image_shape)
    assert model.log_prob(draw_levels(model, 0)).shape == (0,)


def test_progress_counts_rows_of_both_scales():
    seen: list[tuple[int, int]] = []
    multi_scale((1, 4, 4)).sample(1, progress=lambda *rows: seen.append(rows))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small_rnn(cell="lstm"), "cell is 'lstm'; expected one of row_lstm"),
        (lambda: small_rnn(cell="diagonal_bilstm", kernel_size=3), "kernel_size is 3, but cell"),
        (lambda: small_rnn(kernel_size=2), "RowLSTM: kernel_size is 2; expected an odd number"),
        (lambda: small_rnn((3, 3, 3), channels=4), "multiple of channel_groups, 3"),
        (lambda: RowLSTM(4, 3, channel_groups=3), "RowLSTM: channel_groups is 3; expected a div"),
        (lambda: RowLSTM(4, 4, context_channels=2)(numbers(1, 4, 3, 3).float()), "context is none"),
        (lambda: multi_scale((1, 3, 4)), "factor is 2; expected at least 2 and a divisor"),
        (lambda: multi_scale(small=small_rnn()), r"expected 2 levels and \[1, 1, 2\]"),
        (
            lambda: multi_scale(
                (1, 4, 4), small=PixelCNNPlusPlus((1, 2, 2), channels=4, levels=2, num_scales=1)
            ),
            "takes .* uniforms a pixel; expected at most 1",
        ),
        (
            lambda: multi_scale().log_prob(torch.zeros(1, 1, 2, 4).long(), first_pixel=2),
            "first_pixel is 2",
        ),
        (lambda: small_rnn().coding_session(1), "PixelRNN.plan: LSTMs are not compiled"),
        (lambda: multi_scale().coding_session(1), "MultiScalePixelRNN.plan: LSTMs are not"),
        (lambda: multi_scale().sample(1, numbers(1, 2)), "got a context; expected none"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
