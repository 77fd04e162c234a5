"""splat: the shared operator tests, the adjoint of warp, closed forms, importance, errors."""

import math

import pytest
import torch
from testing.host_executor import DTYPES
from testing.op_tester import OpTester, expanded

from gencore.ops import backend, splat, warp


class TestSplat(OpTester):
    function = staticmethod(splat)
    overload = torch.ops.gencore.splat.default
    differentiable = ("x", "flow", "importance")
    variants = {mode: {"mode": mode} for mode in ("sum", "softmax")}  # noqa: RUF012
    traced = ("sum",)
    needs_chains = True

    def tensors(self, variant, shape, dtype, device):
        n, c, h, w = (*shape[:1], *(1,) * (4 - len(shape)), *shape[1:])
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(n, c, h, w, generator=generator, dtype=torch.float64)
        # Off the grid by a tenth, where finite differences see one of the kink's sides.
        whole = torch.randint(-3, 4, (n, 2, h, w), generator=generator)
        part = 0.1 + 0.8 * torch.rand(n, 2, h, w, generator=generator, dtype=torch.float64)
        found = {"x": x.to(device, dtype), "flow": (whole + part).to(device, dtype)}
        if variant == "softmax":
            importance = torch.randn(n, 1, h, w, generator=generator, dtype=torch.float64)
            found["importance"] = importance.to(device, dtype)
        return found

    def overload_arguments(self, variant, device):
        leaves = self.tensors("sum", (2, 3, 4, 5), torch.float64, device).values()
        return tuple(t.requires_grad_() for t in leaves)

    def test_derivatives_of_images(self, variant, device):
        function, leaves = self.leaves(variant, (2, 2, 4, 3), device)
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)

    # The tester expands matrices, and images have four dimensions.
    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 2, 3, 5), torch.float32, device)
        views = {name: expanded(t) for name, t in tensors.items()}
        copies = {name: t.clone() for name, t in views.items()}
        assert torch.equal(self.call(variant, views), self.call(variant, copies))


def images(*shape, dtype=torch.float64, device="cpu", seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def shift(x, right, down):
    flow = x.new_empty(x.shape[0], 2, *x.shape[2:])
    flow[:, 0], flow[:, 1] = right, down
    return flow


def softmax(x, flow, importance):
    return splat(x, flow, mode="softmax", importance=importance)


def test_is_the_adjoint_of_warp(device):
    x, g = (images(2, 3, 13, 9, device=device, seed=seed) for seed in (1, 2))
    flow = 3 * images(2, 2, 13, 9, device=device)
    torch.testing.assert_close((splat(x, flow) * g).sum(), (warp(g, flow) * x).sum())


@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, 0), (-1, 3), (9, 0)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_whole_displacements_are_shifts(right, down, dtype, device):
    x = images(2, 3, 7, 8, dtype=dtype, device=device)
    flow = shift(x, right, down)
    # A pixel goes where a backward warp by the opposite comes from.
    expected = warp(x, -flow)
    assert torch.equal(splat(x, flow), expected)
    assert torch.equal(softmax(x, flow, torch.zeros_like(x[:, :1])), expected)


def test_mass_stays_where_nothing_leaves(device):
    x = torch.zeros(2, 3, 14, 15, dtype=torch.float64, device=device)
    x[..., 4:-4, 4:-4] = images(2, 3, 6, 7, device=device)
    flow = (3 * images(2, 2, 14, 15, device=device)).clamp(-4, 4)
    total = splat(x, flow).sum((2, 3))
    torch.testing.assert_close(total, x.sum((2, 3)), rtol=1e-12, atol=1e-12)


def test_a_fraction_is_shared_out(device):
    x = torch.zeros(1, 1, 3, 4, device=device)
    x[..., 1, 1] = 16.0
    y = splat(x, shift(x, 0.25, -0.5))
    expected = torch.tensor([[0, 6, 2, 0], [0, 6, 2, 0], [0, 0, 0, 0.0]], device=device)
    assert torch.equal(y[0, 0], expected)


class TestSoftmax:
    def test_a_place_has_the_weighted_mean_of_what_lands_there(self, device):
        """Pixels of values 8 and 4, with weights 3 and 1, land on the third; nothing elsewhere."""
        x = torch.tensor([[[[8.0, 4.0, 5.0]]]], dtype=torch.float64, device=device)
        flow = torch.zeros(1, 2, 1, 3, dtype=torch.float64, device=device)
        flow[0, 0, 0] = torch.tensor([2.0, 1.0, 9.0])
        importance = torch.tensor([3.0, 1.0, 7.0]).double().log().to(device).view(1, 1, 1, 3)
        expected = torch.tensor([0.0, 0.0, 7.0], dtype=torch.float64, device=device)
        torch.testing.assert_close(softmax(x, flow, importance).flatten(), expected)

    def test_is_the_ratio_of_two_sums(self, device):
        x, flow = images(2, 3, 6, 7, device=device), 2 * images(2, 2, 6, 7, device=device)
        importance = images(2, 1, 6, 7, device=device, seed=3)
        above, below = (splat(t * importance.exp(), flow) for t in (x, torch.ones_like(x)))
        expected = torch.where(below > 0, above / below, 0.0)
        torch.testing.assert_close(softmax(x, flow, importance), expected)

    def test_equal_colours_stay(self, device):
        x = torch.full((1, 2, 6, 7), 3.0, dtype=torch.float64, device=device)
        flow = 2 * images(1, 2, 6, 7, device=device)
        y = softmax(x, flow, images(1, 1, 6, 7, device=device))
        lands = splat(torch.ones_like(x), flow) > 0
        torch.testing.assert_close(y, torch.where(lands, x, 0.0))
        assert not lands.all()

    def test_the_most_important_covers_the_others(self, device):
        x = torch.tensor([[[[8.0, 4.0, 5.0]]]], device=device)
        flow = shift(x, 0, 0)
        flow[0, 0, 0, 0] = 1.0
        importance = torch.tensor([1e4, -1e4, 0.0], device=device).view(1, 1, 1, 3)
        assert softmax(x, flow, importance).flatten().tolist() == [0.0, 8.0, 5.0]

    @pytest.mark.parametrize("offset", [-1e4, 1e4])
    def test_a_place_does_not_see_importances_elsewhere(self, offset, device):
        """Not the image's largest importance is taken off, but that of what lands on a place."""
        x, flow = images(1, 2, 4, 12, device=device), images(1, 2, 4, 12, device=device)
        flow[:, 0].clamp_(-1.5, 1.5)
        importance = images(1, 1, 4, 12, device=device, seed=3)
        moved = importance.clone()
        moved[..., :6] += offset
        far = (..., slice(0, 4))  # lands together with none of the others
        ours, expected = softmax(x, flow, moved), softmax(x, flow, importance)
        torch.testing.assert_close(ours[far], expected[far], rtol=1e-9, atol=1e-9)
        assert ours.isfinite().all()

    def test_pixels_of_no_importance_give_nothing(self, device):
        x = images(1, 1, 3, 4, device=device)
        importance = torch.zeros_like(x)
        importance[..., 1, 1] = -torch.inf
        leaf = x.clone().requires_grad_()
        y = softmax(leaf, torch.zeros(1, 2, 3, 4, dtype=x.dtype, device=device), importance)
        assert y[..., 1, 1] == 0
        (grad,) = torch.autograd.grad(y.sum(), leaf)
        assert torch.equal(grad, (importance == 0).to(x))


def test_displacements_that_are_infinite_lead_outside(device):
    x, flow = torch.ones(1, 1, 3, 4, device=device), torch.zeros(1, 2, 3, 4, device=device)
    flow[0, 0, 1, 1], flow[0, 1, 2, 2] = torch.inf, -torch.inf
    expected = torch.ones(3, 4, device=device)
    expected[1, 1] = expected[2, 2] = 0
    for name in ("native", "reference"):
        with backend(name):
            assert torch.equal(splat(x, flow)[0, 0], expected)
            assert torch.equal(softmax(x, flow, torch.zeros_like(x))[0, 0], expected)


X, FLOW = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"x has shape \[3, 4, 5\], expected \[N, C, H, W\]"),
        ({"flow": X}, ValueError, r"flow has shape \[2, 3, 4, 5\], expected \[2, 2, 4, 5\]"),
        ({"flow": FLOW.double()}, TypeError, "flow is torch.float64, expected torch.float32"),
        ({"flow": FLOW.to("meta")}, ValueError, "flow is on meta, x on cpu"),
        ({"mode": "mean"}, ValueError, "mode is 'mean'"),
        ({"importance": FLOW[:, :1]}, ValueError, "importance was given, which mode='sum'"),
        ({"mode": "softmax"}, ValueError, "mode='softmax' needs importance"),
        ({"mode": "softmax", "importance": FLOW}, ValueError, r"importance has shape \[2, 2,"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=f"^splat: {message}"):
        splat(**{"x": X, "flow": FLOW, **arguments})


@pytest.mark.parametrize("reference", [False, True])
def test_what_is_not_finite_stays_where_it_lands(reference):
    x = torch.ones(1, 1, 4, 4)
    flow = torch.zeros(1, 2, 4, 4)
    x[0, 0, 1, 1] = math.inf
    with backend("reference" if reference else "native"):
        for mode, importance in (("sum", None), ("softmax", torch.zeros(1, 1, 4, 4))):
            y = splat(x, flow, mode=mode, importance=importance)
            assert torch.equal(y, x)
        x[0, 0, 1, 1] = 1.0
        flow[0, 0, 2, 2] = math.nan
        assert torch.equal(splat(x, flow).isnan().nonzero(), torch.tensor([[0, 0, 2, 2]]))
