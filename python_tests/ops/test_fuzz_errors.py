"""Every operator with what it cannot take: the error names the operator, and nothing is changed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.strategies import assert_untouched, build, fuzz, steps
from torch import Tensor

from gencore.ops import (
    backend,
    langevin_step,
    langevin_step_,
    philox_normal,
    philox_words,
    random_key,
    split_key,
)

NO_NUMBER = ("fast", "0.5", [0.1, 0.2], 1j, torch.ones(2, 3, 1, 1, 1, 1), object())
NO_INDEX = (*NO_NUMBER, None, -1, 1.5, 2**62 + 1, 2**64)
NO_KEY = (3, "a", torch.zeros(2), torch.zeros(3).long(), torch.zeros(2, 1).long(),
          torch.zeros(2).int(), torch.zeros(2).long().to_sparse())  # fmt: skip
NO_GENERATOR = (7, "a", object())


def wrong_arguments(x: Tensor) -> dict[str, tuple]:
    """For each argument of a step on ``x``, what it cannot be."""
    other = torch.float64 if x.dtype == torch.float32 else torch.float32
    no_coefficient = (
        *NO_NUMBER, -1.0, math.nan, math.inf, 10**400,
        x.new_full((), -1.0), x.new_full((), math.nan), x.new_full((), math.inf),
        x.new_ones(x.dim() * (1,) + (2,)), x.new_ones([n + 2 for n in x.shape or (1,)]),
        torch.ones((), dtype=torch.complex64), torch.ones(1).to_sparse(), torch.ones((1,) * 6),
    )  # fmt: skip
    unlike_x = (0.0, [0.0], x.to(other), x.unsqueeze(0), x.to("meta"), x.contiguous().to_sparse())
    return {
        "x": (None, 0.0, [0.0], x.long(), x.bool(), x.to(torch.complex64), x.to_sparse()),
        "grad": (*unlike_x, None),
        "noise": unlike_x,
        "step_size": (*no_coefficient, None),
        "noise_scale": no_coefficient,
        "prior_precision": (*NO_NUMBER, None, math.nan, math.inf, 10**400),
        "grad_clamp": (*NO_NUMBER, 0.0, -1.0, math.nan, 10**400),
        "clamp": (1.0, "ab", (), (1.0, 0.0), (math.nan, 1.0), ("a", 1.0), (0, 1, 2), (1j, None)),
        "key": (*NO_KEY, torch.zeros(2, dtype=torch.int64, device="meta")),
        "first_element": NO_INDEX,
        "generator": NO_GENERATOR,
    }


@fuzz(500)
@given(
    steps(writable=True), st.sampled_from([langevin_step, langevin_step_]),
    st.sampled_from(["native", "reference"]), st.booleans(), st.data(),
)  # fmt: skip
def test_a_wrong_argument_is_named_and_changes_nothing(device, case, step, name, grad, data):
    arguments, fresh = build(case, device), build(case, device)
    wrong = wrong_arguments(fresh["x"])
    argument = data.draw(st.sampled_from(sorted(wrong)))
    call = dict(arguments)
    if argument == "generator":  # which is asked only where nothing else brings the noise
        call.update(key=None, noise=None, noise_scale=1.0)
    for value in wrong[argument]:
        with (
            backend(name),
            torch.set_grad_enabled(grad),
            pytest.raises((TypeError, ValueError)) as error,
        ):
            step(**{**call, argument: value})
        assert str(error.value).startswith(f"{step.__name__}: "), value
    assert_untouched(arguments, fresh)


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("grad", [True, False])
def test_repeated_elements_are_not_written_to(device, name, grad):
    x = torch.ones(3, 1, device=device).expand(3, 4)
    with (
        backend(name),
        torch.set_grad_enabled(grad),
        pytest.raises(
            ValueError, match=r"^langevin_step_: x, of shape \[3, 4\] .* repeats elements"
        ),
    ):
        langevin_step_(x, torch.ones(3, 4, device=device), 0.1)
    assert (x == 1).all()


@pytest.mark.parametrize("step", [langevin_step, langevin_step_])
@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("grad", [True, False])
def test_a_default_noise_scale_does_not_overflow(step, name, grad):
    x = torch.ones(3, dtype=torch.float64)
    with (
        backend(name),
        torch.set_grad_enabled(grad),
        pytest.raises(ValueError, match=rf"^{step.__name__}: noise_scale must be finite"),
    ):
        step(x, x.clone(), 1.7e308)
    assert (x == 1).all()


_KEY = torch.tensor([1, 2])


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize(
    ("function", "valid", "argument", "values"),
    [
        (philox_normal, {"key": _KEY}, "size", (None, 3, ("a",), (1.5,), (-1,), (2, -1, -1))),
        (philox_words, {"key": _KEY}, "size", (None, 3, ("a",), (1.5,), (-1,), (2**62, 2))),
        (philox_normal, {"size": (2,)}, "key", (None, *NO_KEY)),
        (philox_words, {"size": (2,)}, "key", (None, *NO_KEY)),
        (philox_normal, {"size": (2,), "key": _KEY}, "first_element", NO_INDEX),
        (philox_words, {"size": (2,), "key": _KEY}, "first_element", NO_INDEX),
        (philox_normal, {"size": (2,), "key": _KEY}, "dtype", (None, "float32", torch.int64)),
        (split_key, {"num": 2}, "key", (None, *NO_KEY)),
        (split_key, {"key": _KEY}, "num", NO_INDEX),
        (random_key, {}, "generator", NO_GENERATOR),
        (random_key, {}, "device", ("nowhere", 1.5, object())),
    ],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
def test_a_wrong_argument_of_a_random_function_is_named(name, function, valid, argument, values):
    for value in values:
        with backend(name), pytest.raises((TypeError, ValueError)) as error:
            function(**{**valid, argument: value})
        assert str(error.value).startswith(f"{function.__name__}: "), value
