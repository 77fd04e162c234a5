"""dequantize: its reference, the bins that it must not leave, its distribution, bad input."""

import math

import numpy
import pytest
import torch
from testing.op_tester import LAYOUTS

from gencore.ops import backend, dequantize, philox_words, quantize

FLOATS = (torch.float32, torch.float64)


def grey_levels(shape, bins=256, seed=1, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(bins, shape, generator=generator, dtype=torch.uint8).to(device)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("bins", "first"), [(256, 0), (200, 3), (2, 2**40 + 1), (1, 0)])
@pytest.mark.parametrize("shape", [(0,), (5,), (3, 0), (7, 33), (2, 3, 5, 7), (2, 40001)], ids=str)
def test_matches_the_reference(shape, first, bins, dtype, device):
    x, key = grey_levels(shape, bins, device=device), torch.tensor([11, 22], device=device)
    noise = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(2)).to(device)
    for how in ({"key": key, "first_element": first}, {"noise": noise}):
        y, log_det = dequantize(x, bins=bins, dtype=dtype, **how)
        with backend("reference"):
            expected, expected_log_det = dequantize(x, bins=bins, dtype=dtype, **how)
        assert torch.equal(y, expected)
        assert torch.equal(log_det, expected_log_det)
        assert y.dtype == log_det.dtype == dtype
        assert log_det.tolist() == pytest.approx([-x[:1].numel() * math.log(bins)] * shape[0])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_level_stays_in_its_bin(dtype, device):
    for bins in range(1, 257):
        x = torch.arange(bins, dtype=torch.uint8, device=device).repeat(100)
        y, _ = dequantize(x, bins=bins, key=torch.tensor([bins, 5], device=device), dtype=dtype)
        assert torch.equal(quantize(y, bins), x), bins
        assert 0 < y.min() <= y.max() < 1, bins


class TestExtremeNoise:
    @pytest.mark.parametrize("name", ["native", "reference"])
    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_stays_in_the_bin(self, dtype, name, device):
        largest = 1.0 - torch.finfo(dtype).eps / 2
        for bins in range(1, 257):
            x = torch.arange(bins, dtype=torch.uint8, device=device)
            for u in (0.0, torch.finfo(dtype).tiny, largest):
                noise = torch.full(x.shape, u, dtype=dtype, device=device)
                with backend(name):
                    y, _ = dequantize(x, bins=bins, noise=noise, dtype=dtype)
                assert torch.equal(quantize(y, bins), x), (bins, u)
                assert y.max() < 1

    @pytest.mark.parametrize("word", [0, 2**17 - 1, 2**17, 2**31, 2**32 - 1])
    def test_words_at_the_ends_of_their_range(self, word):
        """The documented map of words, in exact integers, for the last level of 256."""
        u = ((word >> 17) + 0.5) / 2**15
        assert 0 < u < 1
        exact = (255 + u) / 256
        assert torch.tensor(exact, dtype=torch.float32).item() == exact < 1


def test_the_noise_is_the_documented_map_of_the_keys_words(device):
    key = torch.tensor([3, 4], device=device)
    x = torch.zeros(10, 7, dtype=torch.uint8, device=device)
    words = philox_words((10, 7), key)
    y, _ = dequantize(x, bins=1, key=key)
    assert torch.equal(y, ((words >> 17).float() + 0.5) / 2**15)
    y, _ = dequantize(x, bins=1, key=key, dtype=torch.float64)
    assert torch.equal(y, (words.double() + 0.5) / 2**32)


def test_the_noise_is_uniform():
    """Moments and a chi-squared statistic of 64 cells, of 2^20 draws."""
    count = 2**20
    y, _ = dequantize(torch.zeros(count, dtype=torch.uint8), bins=1, key=torch.tensor([1, 2]))
    u = y.double()
    assert abs(u.mean().item() - 0.5) < 4 * math.sqrt(1 / 12 / count)
    assert abs((u**2).mean().item() - 1 / 3) < 4 * math.sqrt(4 / 45 / count)
    cells = torch.histc(y, 64, 0.0, 1.0).double()
    chi_squared = ((cells - count / 64).square() / (count / 64)).sum().item()
    assert abs(chi_squared - 63) < 4 * math.sqrt(2 * 63)
    neighbours = ((u[1:] - 0.5) * (u[:-1] - 0.5)).mean().item()
    assert abs(neighbours) < 4 / 12 / math.sqrt(count)


@pytest.mark.parametrize("size", [1, 3, 64, 129])
def test_a_split_batch_is_the_whole(size, device):
    for cut in (1, 2, 5):
        x, key = grey_levels((7, size), device=device), torch.tensor([5, 6], device=device)
        whole, _ = dequantize(x, key=key)
        parts = [
            dequantize(x[:cut], key=key)[0],
            dequantize(x[cut:], key=key, first_element=cut * size)[0],
        ]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_layout_does_not_change_the_result(layout, device):
    x, key = grey_levels((2, 3, 5, 7), device=device), torch.tensor([5, 6], device=device)
    y, _ = dequantize(layout(x), key=key)
    assert torch.equal(y, dequantize(x, key=key)[0])
    noise = torch.rand(x.shape, device=device)
    y, _ = dequantize(layout(x), noise=layout(noise))
    assert torch.equal(y, dequantize(x, noise=noise)[0])


def test_is_deterministic_for_any_number_of_threads(device):
    x, key = grey_levels((3, 50001), device=device), torch.tensor([5, 6], device=device)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(dequantize(x, key=key)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_opcheck(dtype, device):
    x, key = grey_levels((4, 3), device=device), torch.tensor([5, 6], device=device)
    noise = torch.rand(4, 3, device=device, dtype=dtype)
    overload = torch.ops.gencore.dequantize.default
    torch.library.opcheck(overload, (x, None, key, 256, dtype, 0))
    torch.library.opcheck(overload, (x, noise, None, 256, dtype, 0))


def test_compiles_without_graph_breaks(device):
    x, key = grey_levels((4, 3), 16, device=device), torch.tensor([5, 6], device=device)

    def function(levels):
        return dequantize(levels, bins=16, key=key)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for ours, eager in zip(compiled(x), function(x), strict=True):
        assert torch.equal(ours, eager)
    if device.type == "cpu":  # where Python has no look at the values, the kernel has
        with pytest.raises(RuntimeError, match="x has values that are not below bins"):
            compiled(x + 16)


def test_both_backends_draw_alike_from_the_generator():
    x, results = grey_levels((9, 3)), []
    for name in ("native", "reference"):
        torch.manual_seed(7)
        with backend(name):
            results.append((dequantize(x)[0], torch.get_rng_state()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


LEVELS = (torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64)


class TestManyLevels:
    """Levels of more than 8 bits, and those of other integer dtypes."""

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    @pytest.mark.parametrize("bins", [257, 1000, 4096, 50_000, 65_535, 65_536])
    def test_every_level_stays_in_its_bin(self, bins, dtype, device):
        x = torch.arange(bins, device=device).repeat(8)
        y, log_det = dequantize(
            x, bins=bins, key=torch.tensor([bins, 5], device=device), dtype=dtype
        )
        levels = quantize(y, bins)
        assert levels.dtype == torch.uint16
        assert torch.equal(levels.long(), x)
        assert 0 < y.min() <= y.max() < 1
        assert log_det[0].item() == pytest.approx(-math.log(bins))

    @pytest.mark.parametrize("levels", LEVELS, ids=str)
    def test_a_level_is_the_same_in_every_dtype(self, levels, device):
        x, key = grey_levels((7, 33), 200, device=device), torch.tensor([11, 22], device=device)
        noise = torch.rand(7, 33, device=device)
        for how in ({"key": key, "first_element": 5}, {"noise": noise}):
            for ours, expected in zip(
                dequantize(x.to(levels), bins=200, **how),
                dequantize(x, bins=200, **how),
                strict=True,
            ):
                assert torch.equal(ours, expected)
        assert dequantize(x[:0].to(levels), bins=200)[0].shape == (0, 33)

    @pytest.mark.parametrize(("bins", "bits"), [(512, 14), (4096, 11), (65_536, 7)])
    def test_levels_and_noise_share_the_bits_of_a_float(self, bins, bits, device):
        """y·B in exact integers: the level, and the midpoint of one of 2^bits cells."""
        key = torch.tensor([3, 4], device=device)
        x = torch.full((9, 5), bins - 1, dtype=torch.int32, device=device)
        y, _ = dequantize(x, bins=bins, key=key)
        cells = (philox_words((9, 5), key) >> (32 - bits)).double()
        assert torch.equal(y.double() * bins, x + (cells + 0.5) / 2**bits)
        wide, _ = dequantize(x, bins=bins, key=key, dtype=torch.float64)
        assert (wide - y).abs().max() <= 2.0**-bits / bins

    def test_the_noise_of_16_bits_is_uniform(self):
        """Each of the 128 cells as often as the others."""
        count = 2**18
        y, _ = dequantize(torch.full((count,), 40_000), bins=65_536, key=torch.tensor([1, 2]))
        u = y.double() * 65_536 - 40_000
        cells = torch.histc(u, 128, 0.0, 1.0)
        chi_squared = ((cells - count / 128).square() / (count / 128)).sum().item()
        assert abs(chi_squared - 127) < 4 * math.sqrt(2 * 127)

    @pytest.mark.parametrize("bins", [257, 1000, 4096, 50_000, 65_535, 65_536])
    def test_extreme_noise_stays_in_the_bin(self, bins, device):
        x = torch.arange(bins, device=device)
        for dtype in FLOATS:
            for u in (0.0, 1.0 - torch.finfo(dtype).eps / 2):
                noise = torch.full(x.shape, u, dtype=dtype, device=device)
                y, _ = dequantize(x, bins=bins, noise=noise, dtype=dtype)
                assert torch.equal(quantize(y, bins).long(), x)
                assert y.max() < 1

    def test_values_beyond_the_bins(self):
        for levels in (torch.uint16, torch.int32):
            x = torch.tensor([[1, 4096]]).to(levels)
            with pytest.raises(ValueError, match="has the value 4096, expected less than bins = 4"):
                dequantize(x, bins=4096)
        with pytest.raises(ValueError, match="has the value -1, expected 0 or more"):
            dequantize(torch.tensor([[-1]], dtype=torch.int16), bins=65_536)
        dequantize(torch.tensor([[65_535]]).to(torch.uint16), bins=65_536)

    def test_compiles_without_graph_breaks(self, device):
        x, key = grey_levels((4, 3), device=device).to(torch.uint16), torch.tensor([5, 6])
        key = key.to(device)

        def function(levels):
            return dequantize(levels, bins=65_536, key=key)

        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        for ours, eager in zip(compiled(x), function(x), strict=True):
            assert torch.equal(ours, eager)


@pytest.mark.parametrize("dtype", [torch.float16, *FLOATS], ids=str)
def test_a_level_begins_at_its_quotient_and_not_before(dtype):
    """k/B, as correctly rounded by numpy, has the level k, and the number below it k − 1."""
    for bins in (3, 7, 10, 49, 100, 200, 255):
        levels = numpy.arange(1, bins)
        edges = (levels / numpy.float64(bins)).astype(str(dtype).removeprefix("torch."))
        below = numpy.nextafter(edges, edges.dtype.type(0))
        for y, expected in ((edges, levels), (below, levels - 1)):
            assert quantize(torch.from_numpy(y), bins).tolist() == expected.tolist()


def test_quantize_clamps():
    y = torch.tensor([-1.0, -0.001, 0.0, 0.24999, 0.25, 0.99, 1.0, 7.0])
    for dtype in (torch.float16, torch.bfloat16, *FLOATS):
        rounded = y.to(dtype)
        expected = [max(0, min(3, math.floor(4 * v))) for v in rounded.tolist()]
        assert quantize(rounded, 4).tolist() == expected
    with pytest.raises(TypeError, match=r"^quantize: y is torch\.int64"):
        quantize(torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"^quantize: bins must be from 1 to 65536, got 65537"):
        quantize(y, 65537)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.zeros(4, 2)}, TypeError, "x is torch.float32"),
        ({"x": [1]}, TypeError, "x must be a tensor, got list"),
        ({"x": torch.zeros((), dtype=torch.uint8)}, ValueError, "x has no dimensions"),
        ({"bins": 0}, ValueError, "bins must be from 1 to 65536, got 0"),
        ({"bins": 65537}, ValueError, "bins must be from 1 to 65536, got 65537"),
        ({"bins": 2.5}, TypeError, "bins must be an integer, got float"),
        ({"x": torch.zeros(4, 2).bool()}, TypeError, "x is torch.bool"),
        ({"x": torch.full((4, 2), -3)}, ValueError, "x has the value -3, expected 0 or more"),
        ({"x": torch.full((4, 2), 256)}, ValueError, "x has the value 256, expected less"),
        ({"bins": 7}, ValueError, "x has the value 7, expected less than bins = 7"),
        ({"dtype": torch.float16}, TypeError, "got dtype torch.float16"),
        ({"noise": torch.zeros(4)}, ValueError, r"noise has shape \[4\]"),
        ({"noise": torch.zeros(4, 2).double()}, TypeError, "noise is torch.float64"),
        ({"noise": torch.ones(4, 2)}, ValueError, r"noise has values outside \[0, 1\)"),
        ({"noise": torch.full((4, 2), math.nan)}, ValueError, "noise has values outside"),
        ({"noise": torch.zeros(4, 2, requires_grad=True)}, ValueError, "noise requires grad"),
        ({"noise": 0.5}, TypeError, "noise must be a tensor, got float"),
        ({"key": torch.zeros(2)}, ValueError, "key must be an int64 tensor"),
        ({"first_element": -1}, ValueError, "first_element must not be negative"),
        ({"generator": 3}, TypeError, "generator must be a torch.Generator"),
    ],
    ids=str,
)
def test_bad_input_is_named(wrong, error, message):
    for name in ("native", "reference"):
        x = torch.full((4, 2), 7, dtype=torch.uint8)
        with backend(name), pytest.raises(error, match=f"^dequantize: .*{message}"):
            dequantize(**{"x": x, **wrong})
