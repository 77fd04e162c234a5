"""Couplings: what moves under each mask, splines on images, and networks of one's own."""

import itertools

import numpy as np
import pytest
import torch
from testing.flow_testing import check_transform, randn, redraw
from torch import Tensor, nn

from gencore.nn import (
    MLP,
    AffineCoupling,
    Compose,
    ConvConditioner,
    ResidualConditioner,
    ResidualMLP,
    Reversible,
    SplineCoupling,
    Transform,
)

K = 3
EACH = {"affine": 2, "additive": 1, "spline": 3 * K - 1}


def coupling(kind: str, network: nn.Module, **options) -> Transform:
    if kind == "spline":
        return SplineCoupling(network, num_bins=K, **options)
    return AffineCoupling(network, additive=kind == "additive", **options)


def built(transform: Transform, scale: float = 0.5) -> Transform:
    transform = transform.double().eval()
    redraw(transform, scale, seed=0)
    return transform


def on_vectors(kind: str, mask: list[bool], context_size: int = 0, **options) -> Transform:
    moved = sum(not m for m in mask) if options.get("swap") else sum(mask)
    sizes = len(mask) - moved, (8,), moved * EACH[kind]
    return built(coupling(kind, MLP(*sizes, context_size=context_size), mask=mask, **options))


def on_images(
    kind: str, channels: int, mask: str, *, swap: bool = False, scale: float = 0.5, **options
) -> Transform:
    kept = channels // 2 if swap else channels - channels // 2
    kept, moved = (channels, channels) if mask == "checkerboard" else (kept, channels - kept)
    network = ConvConditioner(kept, 8, moved * EACH[kind], **options)
    return built(coupling(kind, network, mask=mask, swap=swap), scale)


def dependence(f, x: Tensor) -> Tensor:
    """Which outputs [O] depend on which inputs [I] of one data point: booleans [O, I]."""
    jacobian = torch.autograd.functional.jacobian(lambda t: f(t).flatten(), x)
    return jacobian.reshape(len(jacobian), x.numel()) != 0


MASKS = [
    mask
    for size in (1, 2, 3, 4)
    for mask in itertools.product([False, True], repeat=size)
    if any(mask)
]


class TestOwnMasks:
    @pytest.mark.parametrize("mask", MASKS)
    def test_every_mask_moves_what_it_says_given_the_rest(self, mask):
        x = randn(1, len(mask))
        moves = torch.tensor(mask)
        expected = torch.eye(len(mask), dtype=torch.bool) | (moves[:, None] & ~moves)
        for kind in EACH:
            layer = on_vectors(kind, list(mask))
            z, _ = layer(x)
            assert torch.equal(z[:, ~moves], x[:, ~moves])
            assert (z != x)[:, moves].all()
            assert torch.equal(dependence(lambda t, f=layer: f(t)[0], x), expected)

    @pytest.mark.parametrize("kind", EACH)
    @pytest.mark.parametrize("swap", [False, True])
    def test_inverse_and_log_det_are_exact(self, kind, swap):
        layer = on_vectors(kind, [True, False, False, True, True], context_size=2, swap=swap)
        check_transform(layer, randn(4, 5), randn(4, 2, seed=1))

    @pytest.mark.parametrize("kind", EACH)
    def test_halves_are_the_channel_mask(self, kind):
        ours = on_vectors(kind, [False, False, False, True, True])
        named = built(coupling(kind, MLP(3, (8,), 2 * EACH[kind])))
        for got, expected in zip(ours(randn(4, 5)), named(randn(4, 5)), strict=True):
            torch.testing.assert_close(got, expected)

    def test_channels_of_images(self):
        network = ConvConditioner(2, 8, 3 * EACH["spline"])
        layer = built(coupling("spline", network, mask=[True, False, True, True, False]))
        check_transform(layer, randn(2, 5, 2, 3))

    @pytest.mark.parametrize("kind", EACH)
    def test_a_random_stack_of_them_mixes_everything(self, kind):
        generator = torch.Generator().manual_seed(1)
        masks = [torch.randperm(6, generator=generator) < 3 for _ in range(4)]
        layers = [on_vectors(kind, mask.tolist()) for mask in masks for mask in (mask, ~mask)]
        stack = Compose(*layers)
        x = 0.3 * randn(1, 6)
        check_transform(stack, x)
        assert dependence(lambda t: stack(t)[0], x).all()

    def test_they_are_part_of_the_state(self):
        torch.manual_seed(0)
        a = on_vectors("affine", [True, False, True])
        b = on_vectors("affine", [False, True, True])
        b.load_state_dict(a.state_dict())
        x = randn(4, 3)
        assert torch.equal(a(x)[0], b(x)[0])

    def test_they_survive_the_meta_device(self):
        source = on_vectors("spline", [True, False, True])
        with torch.device("meta"):
            layer = SplineCoupling(MLP(1, (8,), 16), num_bins=K, mask=[True, False, True])
        layer = layer.to_empty(device="cpu").double()
        layer.network.load_state_dict(source.network.state_dict())
        torch.testing.assert_close(layer(randn(4, 3)), source(randn(4, 3)))

    def test_arrays_and_tensors_are_masks(self):
        for mask in (np.array([True, False]), torch.tensor([True, False]), (True, False)):
            assert AffineCoupling(nn.Linear(1, 2), mask=mask).moved_index.tolist() == [0]

    @pytest.mark.parametrize("mask", [[0, 1], [1.0, 0.0], [[True]], torch.tensor([1, 0])])
    def test_what_is_no_mask(self, mask):
        with pytest.raises(ValueError, match=r"mask is .*; expected one of .*, or booleans"):
            AffineCoupling(nn.Linear(1, 2), mask=mask)

    def test_masks_that_do_not_fit(self):
        with pytest.raises(ValueError, match="mask moves none of 2"):
            AffineCoupling(nn.Linear(1, 2), mask=[False, False])
        with pytest.raises(ValueError, match=r"have shape \[4, 3\]; expected \[N, 2, \.\.\.\]"):
            AffineCoupling(nn.Linear(1, 2), mask=[True, False])(torch.zeros(4, 3))


class TestSplinesOnImages:
    @pytest.mark.parametrize("shape", [(2, 3, 2, 3), (1, 4, 1, 2)])
    @pytest.mark.parametrize("swap", [False, True])
    @pytest.mark.parametrize("mask", ["channel", "checkerboard"])
    def test_inverse_and_log_det_are_exact(self, mask, swap, shape):
        layer = on_images("spline", shape[1], mask, swap=swap, context_size=2)
        check_transform(layer, randn(*shape), randn(shape[0], 2, seed=1))

    @pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (3, 3), (1, 4), (4, 1)])
    @pytest.mark.parametrize("swap", [False, True])
    def test_a_checkerboard_moves_the_positions_that_affine_ones_do(self, size, swap):
        x = randn(2, 2, *size)
        h, w = torch.arange(size[0])[:, None], torch.arange(size[1])
        expected = ((h + w) % 2 == (0 if swap else 1)).expand(x.shape)
        for kind in ("affine", "spline"):
            z = on_images(kind, 2, "checkerboard", swap=swap)(x)[0]
            assert torch.equal(z != x, expected)

    @pytest.mark.parametrize("mask", ["channel", "checkerboard"])
    def test_an_entry_has_the_spline_that_its_own_parameters_say(self, mask):
        """Networks of constants: parameters of one entry, at one position, move that one alone."""
        x = torch.zeros(1, 2, 2, 2, dtype=torch.float64)

        class Constants(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                moved = 2 if mask == "checkerboard" else 1
                self.values = torch.zeros(1, moved, 3 * K - 1, 2, 2, dtype=torch.float64)

            def forward(self, kept: Tensor) -> Tensor:
                return self.values.flatten(1, 2)

        network = Constants()
        layer = coupling("spline", network, mask=mask)
        torch.testing.assert_close(layer(x)[0], x)
        channel = 1 if mask == "checkerboard" else 0
        network.values[0, channel, 0, 0, 1] = 1.0  # its first bin is wider: 0 lies further left
        z = layer(x)[0]
        moved = torch.zeros_like(x, dtype=torch.bool)
        moved[0, 1, 0, 1] = True
        assert torch.equal(z.abs() > 1e-12, moved)
        assert z[moved] < 0

    def test_it_starts_as_the_identity(self):
        x = torch.randn(2, 4, 4, 4)
        for network in (ConvConditioner(4, 8, 4 * 8), ResidualConditioner(4, 8, 4 * 8)):
            z, log_det = SplineCoupling(network, num_bins=K, mask="checkerboard").eval()(x)
            torch.testing.assert_close(z, x, rtol=0, atol=1e-6)
            assert log_det.abs().max() < 1e-5

    def test_round_trips_in_float32(self):
        torch.manual_seed(0)
        masks = [("channel", False), ("checkerboard", False), ("channel", True)]
        layers = [on_images("spline", 4, m, swap=s, scale=0.2) for m, s in 3 * masks]
        stack = Compose(*layers).float()
        x = torch.randn(8, 4, 6, 6)
        z, log_det = stack(x)
        back, inverse_log_det = stack.inverse(z)
        assert (z - x).abs().mean() > 0.1
        assert (back - x).abs().max() < 1e-3
        torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-3, atol=1e-2)


def gradients(stack: Transform, x: Tensor, context: Tensor | None) -> list[Tensor]:
    x = x.clone().requires_grad_()
    leaves = [x, *stack.parameters()]
    if context is not None:
        context = context.clone().requires_grad_()
        leaves.append(context)
    z, log_det = stack(x, context)
    weight = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view_as(z)
    loss = (weight * z.square()).sum() - (log_det * torch.arange(1, len(x) + 1)).sum()
    return [z, log_det, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("kind", EACH)
def test_a_reversible_stack_has_the_gradients_of_the_plain_one(kind):
    mask = [True, False, False, True, False]
    vectors = [on_vectors(kind, mask, 2), on_vectors(kind, mask, 2, swap=True)]
    images = [
        on_images(kind, 3, mask, swap=swap, scale=0.2, context_size=2)
        for mask in ("channel", "checkerboard")
        for swap in (False, True)
    ]
    for layers, x in ((vectors, randn(3, 5)), (images, randn(3, 3, 2, 3))):
        context = randn(3, 2, seed=1)
        pair = [gradients(s(*layers), x, context) for s in (Reversible, Compose)]
        torch.testing.assert_close(*pair, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("mask", ["channel", "checkerboard", [False, False, True, True]])
@pytest.mark.parametrize("kind", EACH)
def test_rewinding_writes_to_nothing_that_it_is_given(kind, mask):
    parts = 4 if mask == "checkerboard" else 2  # how many channels stay, and how many move
    network = ConvConditioner(parts, 8, parts * EACH[kind])
    layer = built(coupling(kind, network, mask=mask))
    arguments = randn(2, 4, 2, 2), randn(2, 4, 2, 2, seed=1), randn(2, seed=2)
    z, grad_z, grad_log_det = (t.clone() for t in arguments)
    layer.rewind(z, None, grad_z, grad_log_det)
    assert all(map(torch.equal, (z, grad_z, grad_log_det), arguments))


def test_rewinding_evaluates_the_network_once():
    calls = []
    layer = on_vectors("spline", [True, False, True])
    layer.network.register_forward_hook(lambda *_: calls.append(1))
    z, log_det = Reversible(layer)(randn(3, 3).requires_grad_())
    calls.clear()
    (z.sum() + log_det.sum()).backward()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("kind", "mask"),
    [("affine", [True, False]), ("spline", [True, False]), ("spline", "checkerboard")],
)
def test_couplings_compile_in_one_graph(kind, mask):
    torch.compiler.reset()
    if mask == "checkerboard":
        layer, x = on_images(kind, 2, mask), randn(2, 2, 4, 3)
    else:
        layer, x = on_vectors(kind, mask), randn(4, 2)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize("mask", ["channel", "checkerboard"])
def test_splines_on_images_export_for_any_number_of_rows(mask):
    layer = on_images("spline", 2, mask)
    shapes = ({0: torch.export.Dim("n")},)
    with torch.no_grad():
        program = torch.export.export(layer, (randn(5, 2, 4, 4),), dynamic_shapes=shapes).module()
        x = randn(3, 2, 4, 4)
        torch.testing.assert_close(program(x), layer(x))


@pytest.mark.parametrize("mask", [[True, False, True], "checkerboard"])
@pytest.mark.parametrize("kind", ["affine", "spline"])
def test_couplings_are_batched_by_vmap(kind, mask):
    if mask == "checkerboard":
        layer, x = on_images(kind, 2, mask), randn(5, 2, 2, 4, 3)
    else:
        layer, x = on_vectors(kind, mask), randn(5, 4, 3)
    z, log_det = torch.func.vmap(layer)(x)
    for row, (expected, expected_log_det) in enumerate(map(layer, x)):
        torch.testing.assert_close(z[row], expected)
        torch.testing.assert_close(log_det[row], expected_log_det)


@pytest.mark.parametrize("kind", EACH)
def test_networks_of_ones_own(kind):
    """A residual network with a context, and one of plain torch."""
    each = EACH[kind]
    with_context = built(coupling(kind, ResidualMLP(2, 16, each, context_size=3)))
    check_transform(with_context, randn(4, 3), randn(4, 3, seed=1))
    plain = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, each))
    check_transform(built(coupling(kind, plain)), randn(4, 3))


@pytest.mark.parametrize("kind", EACH)
def test_networks_and_data_that_do_not_fit(kind):
    each = EACH[kind]
    wrong = coupling(kind, nn.Linear(2, each + 1))
    with pytest.raises(ValueError, match=rf"the network gives \[4, {each + 1}\]; expected \[4, "):
        wrong(torch.zeros(4, 3))
    single = coupling(kind, nn.Linear(1, each))
    with pytest.raises(ValueError, match="nothing moves; a single entry needs swap=True"):
        single(torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"have shape \[4\]; expected \[N, C, \.\.\.\]"):
        single(torch.zeros(4))
    board = coupling(kind, nn.Conv2d(1, each, 1), mask="checkerboard")
    with pytest.raises(ValueError, match=r"have shape \[4, 1\]; expected \[N, C, H, W\]"):
        board.inverse(torch.zeros(4, 1))
    with pytest.raises(ValueError, match="mask is 'rows'; expected one of channel, checkerboard"):
        coupling(kind, nn.Linear(1, 2), mask="rows")


def test_a_printed_coupling_says_what_moves():
    assert "moves 2 of 3" in repr(on_vectors("affine", [True, False, True]))
    assert "mask='channel', swap=True" in repr(AffineCoupling(nn.Linear(1, 2), swap=True))
