"""Drawing pixels: both methods make the same choices; completion, progress, interrupts."""

import pytest
import torch

from gencore.models import GatedPixelCNN, PixelCNN, PixelCNNPlusPlus
from gencore.nn import Categorical, DiscretizedLogistic


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def models():
    vector, image = torch.randn(3, 5), torch.randn(3, 5, 8, 8)
    small = {"channels": 8, "num_resnets": 1, "num_scales": 3, "dropout": 0.5}
    return {
        "PixelCNN": (PixelCNN((1, 8, 8), channels=8, num_layers=2, levels=4), None),
        "PixelCNN, colours": (PixelCNN((3, 8, 8), channels=12, num_layers=2, levels=4), None),
        "gated": (GatedPixelCNN((1, 8, 8), channels=8, num_layers=3, levels=4), None),
        "gated, colours of a class": (
            GatedPixelCNN((3, 8, 8), channels=12, num_layers=3, levels=4, context_channels=5),
            vector,
        ),
        "++": (PixelCNNPlusPlus((1, 8, 8), levels=16, **small), None),
        "++, colours, deep context": (
            PixelCNNPlusPlus((3, 8, 8), context_channels=5, deep_context=True, **small),
            image,
        ),
        "++, categorical, normalised weights": (
            PixelCNNPlusPlus((1, 8, 8), likelihood=Categorical(4), weight_norm=True, **small),
            None,
        ),
    }


@pytest.fixture(params=list(models()))
def model(request):
    torch.manual_seed(0)
    chosen, context = models()[request.param]
    with torch.no_grad():
        for parameter in chosen.parameters():
            parameter.mul_(1.3)  # far from uniform
    return chosen.double(), None if context is None else context.double()


def test_both_methods_make_the_same_choices(model):
    chosen, context = model
    naive, incremental = (
        chosen.sample(3, context, method=method, generator=generator())
        for method in ("naive", "incremental")
    )
    assert torch.equal(naive, incremental)
    assert naive.unique().numel() > 3
    assert chosen.training  # as it was
    other = chosen.sample(3, context, generator=generator(2))
    assert not torch.equal(other, naive)


def test_both_methods_complete_images_alike(model):
    chosen, context = model
    given = torch.randint(chosen.likelihood.levels, (3, *chosen.image_shape), generator=generator())
    known = torch.rand(8, 8, generator=generator()) < 0.4
    naive, incremental = (
        chosen.sample(3, context, method=m, given=given, known=known, generator=generator())
        for m in ("naive", "incremental")
    )
    assert torch.equal(naive, incremental)
    assert torch.equal(naive[..., known], given[..., known])
    assert not torch.equal(naive, given)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return PixelCNN((1, 6, 5), channels=8, num_layers=1, levels=4)


def test_float32_makes_the_choices_of_a_fixed_seed_alike(small):
    naive, incremental = (
        small.sample(20, method=m, generator=generator()) for m in ("naive", "incremental")
    )
    assert torch.equal(naive, incremental)


def test_progress_is_told_after_each_row_and_an_interrupt_leaves_what_is_done(small):
    for method in ("naive", "incremental"):
        whole = small.sample(2, method=method, generator=generator())
        told, out = [], torch.full((2, 1, 6, 5), 9)

        def interrupt(done, total, told=told):
            told.append((done, total))
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            small.sample(2, method=method, generator=generator(), progress=interrupt, out=out)
        assert told == [(1, 6), (2, 6), (3, 6)]
        assert torch.equal(out[:, :, :3], whole[:, :, :3])
        assert not out[:, :, 3:].any()


def test_the_log_probability_of_a_continuation(small):
    x = torch.randint(4, (5, 1, 6, 5), generator=generator())
    parts = small.likelihood.log_prob(small(x), x).flatten(1)
    for first in (0, 7, 30):
        torch.testing.assert_close(small.log_prob(x, first_pixel=first), parts[:, first:].sum(1))


def test_a_pixel_or_context_that_does_not_fit_is_refused(small):
    x = torch.zeros(5, 1, 6, 5, dtype=torch.int64)
    for first in (-1, 31):
        with pytest.raises(ValueError, match=f"first_pixel is {first}; expected 0 to 30"):
            small.log_prob(x, first_pixel=first)
    conditional = PixelCNN((1, 6, 5), 8, 1, levels=4, context_channels=2)
    for call in (
        lambda: conditional.log_prob(x, torch.zeros(3, 2)),
        lambda: conditional.sample(5, torch.zeros(3, 2)),
        lambda: conditional.coding_session(5, torch.zeros(3, 2)),
    ):
        with pytest.raises(ValueError, match="the context has 3 rows; expected one for each of 5"):
            call()


def test_parts_in_evaluation_stay_so(small):
    small.eval()
    next(small.children()).train()
    before = [part.training for part in small.modules()]
    small.sample(1)
    assert [part.training for part in small.modules()] == before


def test_uniforms_do_not_depend_on_the_default_dtype(small):
    expected = small.sample(2, generator=generator())
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(small.sample(2, generator=generator()), expected)
    finally:
        torch.set_default_dtype(before)


def test_completions_follow_the_conditional_distribution():
    """Of a 2×2 image of which the last pixel is known: each pixel is drawn given those before."""
    torch.manual_seed(0)
    model = PixelCNN((1, 2, 2), channels=8, num_layers=1, levels=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    states = torch.cartesian_prod(*[torch.arange(2)] * 4).view(16, 1, 2, 2)
    known = torch.tensor([[True, False], [False, True]])
    given = torch.tensor([[[[1, 0], [0, 1]]]])
    with torch.no_grad():
        log_prob = model.likelihood.log_prob(model(states), states).flatten(1)
    fits = (states[:, 0][:, known] == given[0, 0][known]).all(1)
    expected = torch.where(fits, log_prob[:, [1, 2]].sum(1).exp(), 0.0)
    num = 20000
    drawn = model.sample(num, given=given.expand(num, 1, 2, 2), known=known, generator=generator())
    index = (drawn.flatten(1) * torch.tensor([8, 4, 2, 1])).sum(1)
    found = torch.bincount(index, minlength=16) / num
    error = (expected * (1 - expected) / num).sqrt()
    assert ((found - expected).abs() <= 4 * error).all()


def test_images_of_another_shape_are_refused(small):
    x = torch.zeros(2, 1, 6, 5, dtype=torch.int64)
    known = torch.zeros(6, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"PixelCNN\.sample: method is 'fast'"):
        small.sample(2, method="fast")
    with pytest.raises(ValueError, match=r"PixelCNN\.sample: num is -1"):
        small.sample(-1)
    with pytest.raises(ValueError, match="given and known belong together"):
        small.sample(2, given=x)
    with pytest.raises(ValueError, match=r"given has shape \[3, 1, 6, 5\]"):
        small.sample(2, given=x.new_zeros(3, 1, 6, 5), known=known)
    with pytest.raises(TypeError, match=r"known is torch\.int64"):
        small.sample(2, given=x, known=known.long())
    with pytest.raises(ValueError, match=r"known has shape \[5, 6\]"):
        small.sample(2, given=x, known=known.t())
    with pytest.raises(ValueError, match="x has levels from 0 to 4; expected 0 to 3"):
        small.log_prob(x + torch.arange(5))
    with pytest.raises(TypeError, match=r"x is torch\.float32"):
        small.log_prob(x.float())
    with pytest.raises(ValueError, match=r"out is torch\.float32"):
        small.sample(2, out=torch.zeros(2, 1, 6, 5))


def test_likelihoods_that_are_not_compiled_say_so():
    torch.manual_seed(0)
    model = PixelCNN((1, 4, 4), channels=8, num_layers=1, likelihood=DiscretizedLogistic(16))
    assert model.sample(2, method="naive").shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match="use method='naive'"):
        model.sample(2)
    with pytest.raises(ValueError, match="gives no whole-number probabilities"):
        model.coding_session(2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_drawn_from_naively(small, dtype):
    small.to(dtype)
    assert small.sample(2, method="naive").shape == (2, 1, 6, 5)
    with pytest.raises(TypeError, match=rf"the weights are {dtype}; expected float32 or float64"):
        small.sample(2)


def test_no_images_are_drawn_where_none_are_asked_for(small):
    for method in ("naive", "incremental"):
        assert small.sample(0, method=method).shape == (0, 1, 6, 5)


def test_a_coding_session_gives_the_models_probabilities(small):
    x = torch.randint(4, (3, 1, 6, 5), generator=generator())
    session = small.coding_session(3)
    numbers = torch.cat([session.frequencies(x, t, t + 1) for t in range(30)], 1)
    whole = small.coding_session(3).frequencies(x, 0, 30)
    assert torch.equal(numbers, whole)
    bits = -(whole.gather(2, x.flatten(1).unsqueeze(2)) / 2**24).log2().sum((1, 2))
    expected = -small.log_prob(x) / torch.tensor(2.0).log()
    torch.testing.assert_close(bits, expected.detach(), rtol=1e-4, atol=1e-3)
    with pytest.raises(TypeError, match="float64"):
        small.double().coding_session(3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_context_that_is_not_finite_is_refused(value):
    model = PixelCNNPlusPlus((1, 4, 4), 4, 1, 1, levels=4, context_channels=2)
    context = torch.zeros(3, 2)
    context[1, 0] = value
    with pytest.raises(ValueError, match=r"PixelCNNPlusPlus\.sample: the context has values that"):
        model.sample(3, context)
