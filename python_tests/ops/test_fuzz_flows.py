"""The flows' pointwise operators over shapes, strides, dtypes and values of any kind.

A call reads what it is given, wherever that lies in memory, and changes nothing else; it equals the
call on contiguous copies bit for bit and the reference to rounding.
"""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import (
    DTYPES,
    assert_agrees,
    assert_untouched,
    build,
    fuzz,
    indices,
    keys,
    memories,
    shapes,
)

from gencore.ops import actnorm, dequantize, gaussian_nll, quantize, squeeze2d, unsqueeze2d


def assert_equal(results, expected) -> None:
    for a, b in zip(results, expected, strict=True):
        torch.testing.assert_close(a.contiguous(), b, rtol=0, atol=0, equal_nan=True)


@st.composite
def norms(draw):
    """Valid arguments of ``actnorm``, and gradients of its results."""
    shape, dtype = draw(shapes.filter(lambda s: len(s) > 1)), draw(st.sampled_from(DTYPES))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    arguments = {
        "x": draw(memories(shape, dtype)),
        "log_scale": draw(memories(shape[1:2], draw(st.sampled_from(DTYPES)))),
        "bias": draw(memories(shape[1:2], wide)),
        "inverse": draw(st.booleans()),
    }
    gradients = {"y": draw(memories(shape, dtype)), "log_det": draw(memories(shape[:1], wide))}
    return arguments, gradients


@fuzz(40)
@given(norms())
def test_actnorm_reads_what_it_is_given(device, case):
    def derivatives(arguments, gradients):
        names = ("x", "log_scale", "bias")
        leaves = {n: arguments[n].detach().requires_grad_() for n in names}
        results = actnorm(**{**arguments, **leaves})
        return torch.autograd.grad(results, [*leaves.values()], [*gradients.values()])

    arguments, gradients = (build(part, device) for part in case)
    copies, gradient_copies = (build(part, device, copy=True) for part in case)
    assert_equal(actnorm(**arguments), actnorm(**copies))
    assert_equal(derivatives(arguments, gradients), derivatives(copies, gradient_copies))
    assert_agrees(lambda a: actnorm(**a), copies, copies["x"].dtype)
    assert_untouched(arguments, build(case[0], device))
    assert_untouched(gradients, build(case[1], device))


@fuzz(40)
@given(st.data(), shapes.filter(len), st.sampled_from(DTYPES))
def test_a_likelihood_reads_what_it_is_given(device, data, shape, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    case = {
        "z": data.draw(memories(shape, dtype)),
        "log_det": data.draw(memories(shape[:1], wide)),
    }
    arguments = build(case, device)
    result = gaussian_nll(**arguments)
    assert_untouched(arguments, build(case, device))
    copies = build(case, device, copy=True)
    assert_equal([result], [gaussian_nll(**copies)])
    assert_agrees(lambda a: [gaussian_nll(**a)], copies, dtype)


_sizes = st.sampled_from([0, 1, 2, 3, 5, 16, 17])


@fuzz(50)
@given(st.data(), st.tuples(_sizes, _sizes, _sizes, _sizes), st.integers(1, 4))
def test_a_squeeze_reads_what_it_is_given(device, data, shape, factor):
    n, c, h, w = shape
    dtype = data.draw(st.sampled_from(DTYPES))
    case = {"x": data.draw(memories((n, c, h * factor, w * factor), dtype))}
    arguments = build(case, device)
    squeezed = squeeze2d(**arguments, factor=factor)
    assert_untouched(arguments, build(case, device))
    copy = build(case, device, copy=True)["x"]
    expected = copy.view(n, c, h, factor, w, factor).permute(0, 1, 3, 5, 2, 4)
    assert_equal([squeezed], [expected.reshape(n, c * factor**2, h, w)])
    assert_equal([unsqueeze2d(squeezed, factor)], [copy])
    case = {"x": data.draw(memories((n, c * factor**2, h, w), dtype))}
    restored = unsqueeze2d(**build(case, device), factor=factor)
    assert_equal([squeeze2d(restored, factor)], [build(case, device, copy=True)["x"]])


@fuzz(50)
@given(
    st.data(), shapes.filter(len), st.integers(1, 256), st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_grey_levels_stay_in_their_bins(device, data, shape, bins, stepped, dtype):
    seed = data.draw(st.integers(0, 99))
    generator = torch.Generator().manual_seed(seed)
    room = (*shape[:-1], shape[-1] * (1 + stepped))
    x = torch.randint(bins, room, generator=generator, dtype=torch.uint8).to(device)
    x = x[..., :: 1 + stepped]
    how = {"key": data.draw(keys()).to(device), "first_element": data.draw(indices)}
    if how["first_element"] > 2**62 - 2**20:
        how["first_element"] = 2**61
    y, log_det = dequantize(x, bins=bins, dtype=dtype, **how)
    assert_equal([y], [dequantize(x.contiguous(), bins=bins, dtype=dtype, **how)[0]])
    assert torch.equal(quantize(y, bins), x)
    assert bool(((y > 0) & (y < 1)).all())
    expected = -math.prod(shape[1:]) * math.log(bins)
    torch.testing.assert_close(log_det, torch.full_like(log_det, expected))
