"""NADE, EoNADE, MADE and DARN against sums over all vectors."""

import itertools
import math

import pytest
import torch
from testing.vector_testing import all_vectors, random_model

from gencore.models import DARN, NADE, DiscreteMADE, EoNADE
from gencore.models.autoregressive.level_draws import level_log_prob
from gencore.ops import random_key

ORDERS = {
    "natural": list(range(9)),
    "reversed": list(range(9))[::-1],
    "mixed": [4, 0, 7, 2, 8, 1, 6, 3, 5],
}
MODELS = {
    "nade": lambda d, **options: NADE(d, 6, **options),
    "eonade": lambda d, **options: EoNADE(d, (8, 7), activation="tanh", **options),
    "made": lambda d, **options: DiscreteMADE(d, (24, 20), activation="tanh", **options),
}


def chi_squared(samples, probs, levels=2):
    """Of vectors [N, D] against the probabilities of all of them in ascending order, as a number
    of standard deviations from its mean."""
    weights = levels ** torch.arange(samples.shape[1]).flip(0)
    counts = ((samples * weights).sum(1)).bincount(minlength=len(probs)).double()
    expected = probs.double() * len(samples)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    statistic = ((counts - expected).square() / expected)[possible].sum()
    freedom = int(possible.sum()) - 1
    return (statistic.item() - freedom) / math.sqrt(2 * freedom)


def conditional(model, given, known):
    """p of all vectors given the known part of one, by the sum over the others."""
    x = all_vectors(model.features, model.levels)
    with torch.no_grad():
        probs = model.log_prob(x).double().exp()
    probs = torch.where((x == given)[:, known].all(1), probs, 0)
    return probs / probs.sum()


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(
    "make", [*MODELS.values(), lambda d, **options: DARN(d, (3, 2), **options)],
    ids=[*MODELS, "darn"],
)  # fmt: skip
def test_probabilities_of_all_binary_images_sum_to_one(make, order):
    model = random_model(make(9, order=order))
    assert model.log_prob(all_vectors(9)).exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_product_of_conditionals_of_short_strings_sums_to_one(make):
    for length in range(1, 8):
        x = all_vectors(length)
        ones = torch.sigmoid(random_model(make(length)).conditionals(x)[..., 0])
        product = torch.where(x == 1, ones, 1 - ones).prod(1)
        assert product.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_three_levels(make):
    model = random_model(make(4, levels=3, order=[2, 0, 3, 1]))
    x = all_vectors(4, 3)
    probs = model.log_prob(x).exp()
    assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    assert model.conditionals(x).shape == (81, 4, 3)
    samples = model.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert abs(chi_squared(samples, probs, 3)) < 5


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("levels", [2, 3])
def test_the_jacobian_is_strictly_triangular_in_the_order(make, order, levels):
    model = random_model(make(9, order=order, levels=levels), 0.3).double()
    u = torch.rand(9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jacobian = torch.autograd.functional.jacobian(lambda u: model.logits(u[None])[0], u)
    depends = jacobian.abs().amax(1)[order][:, order]  # rows and columns from first to last
    below = torch.ones(9, 9).tril(-1).bool()
    assert (depends[~below] == 0).all()
    assert (depends[below] > 0).all()


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_steps_give_the_logits_of_the_whole_pass(make):
    """Also across the parts in which running sums are computed."""
    order = torch.randperm(65, generator=torch.Generator().manual_seed(3))
    model = random_model(make(65, order=order), 0.3)
    x = torch.randint(2, (5, 65), generator=torch.Generator().manual_seed(4))
    logits, u = model.conditionals(x), torch.zeros(5, 65)
    with torch.no_grad():
        for place, step in zip(order.tolist(), model.steps(u), strict=True):
            torch.testing.assert_close(step, logits[:, place], rtol=1e-4, atol=1e-5)
            u[:, place] = model.inputs(x[:, place])


@pytest.mark.parametrize(
    "make", [*MODELS.values(), lambda d, **options: DARN(d, (3, 2), **options)],
    ids=[*MODELS, "darn"],
)  # fmt: skip
class TestSamples:
    def test_they_have_the_probabilities_of_the_model(self, make):
        model = random_model(make(5, order=[3, 1, 4, 0, 2]))
        samples = model.sample(20_000, generator=torch.Generator().manual_seed(0))
        assert abs(chi_squared(samples, model.log_prob(all_vectors(5)).exp())) < 5

    def test_processes_share_them(self, make):
        model, key = random_model(make(5)), random_key()
        whole = model.sample(12, key=key)
        parts = [model.sample(7, key=key), model.sample(5, key=key, first=7)]
        assert torch.equal(torch.cat(parts), whole)

    def test_completions_by_importance_follow_the_conditional_law(self, make):
        """Whatever is known, where each is chosen among enough candidates."""
        model = random_model(make(5, order=[3, 1, 4, 0, 2]))
        given = torch.tensor([0, 1, 1, 0, 1])
        known = torch.tensor([True, False, True, False, False])
        samples = model.sample(
            3000, given=given, known=known, particles=100,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert (samples == given)[:, known].all()
        assert abs(chi_squared(samples, conditional(model, given, known))) < 5

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"given": torch.zeros(5).long()}, ValueError, "given needs known"),
            ({"known": torch.ones(5).bool()}, ValueError, "known needs given"),
            (
                {"given": torch.zeros(5).long(), "known": torch.ones(5)},
                TypeError,
                "known is torch.float32",
            ),
            (
                {"given": torch.zeros(4).long(), "known": torch.ones(5).bool()},
                ValueError,
                r"given has shape \[4\]; expected \[5\] or \[3, 5\]",
            ),
            (
                {"given": torch.full((5,), 2), "known": torch.ones(5).bool()},
                ValueError,
                "integers from 2 to 2; expected from 0 to 1",
            ),
            ({"particles": 0}, ValueError, "particles is 0"),
        ],
    )
    def test_wrong_arguments_are_named(self, make, options, error, message):
        with pytest.raises(error, match=message):
            make(5).sample(3, **options)

    def test_wrong_data_are_named(self, make):
        model = make(5)
        with pytest.raises(ValueError, match=r"shape \[2, 4\]; expected \[N, 5\]"):
            model.log_prob(torch.zeros(2, 4).long())
        with pytest.raises(TypeError, match=r"data are torch.float32; expected a tensor of int"):
            model.log_prob(torch.zeros(2, 5))
        with pytest.raises(ValueError, match="integers from -1 to 0"):
            model.log_prob(-torch.eye(5).long())
        with pytest.raises(ValueError, match=r"is \[0, 1, 1\]; expected a permutation|\[0, 1, 1\]"):
            make(3, order=[0, 1, 1])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_completions_of_what_comes_first_are_exact(make):
    model = random_model(make(5, order=[3, 1, 4, 0, 2]))
    given = torch.tensor([0, 1, 0, 1, 0])
    known = torch.tensor([False, True, False, True, False])
    samples = model.sample(
        20_000, given=given, known=known, generator=torch.Generator().manual_seed(0)
    )
    assert (samples == given)[:, known].all()
    assert abs(chi_squared(samples, conditional(model, given, known))) < 5


@pytest.mark.parametrize(
    "make", [MODELS["nade"], MODELS["made"], lambda d: DARN(d, (2,)),
             lambda d: DiscreteMADE(d, (8,), num_masks=2)],
)  # fmt: skip
def test_what_one_draw_cannot_complete_is_refused(make):
    given, known = torch.zeros(5).long(), torch.tensor([True, True, False, False, True])
    with pytest.raises(ValueError, match="ask for particles"):
        make(5).sample(3, given=given, known=known)
    make(5).sample(3, given=given, known=torch.zeros(5).bool())  # nothing is known


class TestNADE:
    def test_the_running_sum_is_the_direct_formula(self):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(3)).tolist()
        nade = random_model(NADE(40, 5, order=order), 0.4).double()
        x = torch.randint(2, (7, 40), generator=torch.Generator().manual_seed(4))
        w, v = nade.input_weight, nade.output_weight
        logits = torch.zeros(7, 40, dtype=torch.float64)
        for n, (t, i) in itertools.product(range(7), enumerate(order)):
            total = nade.hidden_bias + sum(x[n, j] * w[j] for j in order[:t])
            logits[n, i] = nade.output_bias[i, 0] + v[i, 0] @ torch.sigmoid(total)
        torch.testing.assert_close(nade.conditionals(x)[..., 0], logits, rtol=1e-10, atol=1e-10)


class TestEoNADE:
    def explicit(self, model, x, order):
        """log p in an order, a masked pass of the network for each coordinate."""
        log_prob, known = 0, torch.zeros(x.shape, dtype=torch.bool)
        for place in order.tolist():
            logits = model.masked_logits(model.inputs(x), known)
            log_prob = log_prob + level_log_prob(logits[:, place], x[:, place])
            known[:, place] = True
        return log_prob

    def test_the_ensemble_is_the_mean_over_orderings(self):
        model = random_model(EoNADE(6, (8, 7))).double()
        x = all_vectors(6)
        orders = torch.stack(
            [torch.randperm(6, generator=torch.Generator().manual_seed(s)) for s in range(3)]
        )
        each = torch.stack([self.explicit(model, x, order).exp() for order in orders])
        assert (each[0] - each[1]).abs().max() > 1e-3
        torch.testing.assert_close(model.log_prob(x, orders).exp(), each.mean(0))
        torch.testing.assert_close(model.log_prob(x, orders[1:2]).exp(), each[1])
        drawn = model.log_prob(x, 4, generator=torch.Generator().manual_seed(0))
        assert drawn.exp().sum().item() == pytest.approx(1, abs=1e-10)

    def test_the_loss_is_the_mean_over_all_orders(self):
        model = random_model(EoNADE(4, (8,)))
        x = torch.tensor([[1, 0, 1, 1]])
        orders = torch.tensor(list(itertools.permutations(range(4))))
        expected = -torch.stack([self.explicit(model, x, order) for order in orders]).mean()
        losses = model(x.expand(50_000, -1), generator=torch.Generator().manual_seed(0))
        error = losses.std().item() / math.sqrt(len(losses))
        assert losses.mean().item() == pytest.approx(expected.item(), abs=4 * error)

    def test_parts_of_a_batch_have_the_masks_of_the_whole(self):
        model, key = random_model(EoNADE(5, (8,))), random_key()
        x = all_vectors(5)
        parts = [model(x[:20], key=key), model(x[20:], key=key, first=20)]
        torch.testing.assert_close(torch.cat(parts), model(x, key=key))

    def test_any_part_can_be_known_a_row_each(self):
        model = random_model(EoNADE(4, (8,)))
        given = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1]]).repeat_interleave(10_000, 0)
        known = torch.tensor([[False, True, False, True], [True, False, False, False]])
        known = known.repeat_interleave(10_000, 0)
        samples = model.sample(
            20_000, given=given, known=known, generator=torch.Generator().manual_seed(0)
        )
        for rows, order in ((slice(10_000), [1, 3, 0, 2]), (slice(10_000, None), [0, 1, 2, 3])):
            x, row = all_vectors(4), rows.start or 0
            probs = model.log_prob(x, torch.tensor([order])).exp()
            probs = torch.where((x == given[row])[:, known[row]].all(1), probs, 0)
            assert abs(chi_squared(samples[rows], probs / probs.sum())) < 5

    @pytest.mark.parametrize("orderings", [0, torch.arange(3), torch.tensor([[0, 1, 1]])])
    def test_wrong_orderings_are_named(self, orderings):
        with pytest.raises(ValueError, match="order"):
            EoNADE(3, (4,)).log_prob(all_vectors(3), orderings)


class TestDiscreteMADE:
    def make(self, **options):
        options = {"num_masks": 3, "order_agnostic": True, **options}
        return random_model(DiscreteMADE(6, (24, 20), activation="tanh", **options), 0.4)

    def test_the_ensemble_is_the_mean_over_masks(self):
        model, x = self.make().double(), all_vectors(6)
        each = torch.stack([model.log_prob(x, mask).exp() for mask in range(3)])
        torch.testing.assert_close(each.sum(1), torch.ones(3, dtype=torch.float64))
        assert (each[0] - each[1]).abs().max() > 1e-3
        torch.testing.assert_close(model.log_prob(x).exp(), each.mean(0))
        samples = model.sample(20_000, generator=torch.Generator().manual_seed(0))
        assert abs(chi_squared(samples, each.mean(0))) < 5

    @pytest.mark.parametrize("agnostic", [True, False])
    @pytest.mark.parametrize("levels", [2, 3])
    def test_every_set_of_masks_is_triangular_in_its_order(self, agnostic, levels):
        model = self.make(order="random", order_agnostic=agnostic, levels=levels).double()
        u = torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        below = torch.ones(6, 6).tril(-1).bool()
        for mask, order in enumerate(model.orders):
            jacobian = torch.autograd.functional.jacobian(
                lambda u, mask=mask: model.logits(u[None], mask)[0], u
            )
            depends = jacobian.abs().amax(1)[order][:, order]
            assert (depends[~below] == 0).all()
            assert (depends[below] > 0).all()
        assert (model.orders == model.order).all() == (not agnostic)
        hidden = [model.network.mask(0)[model.units0[mask]] for mask in range(3)]
        assert not torch.equal(hidden[0], hidden[1])

    def test_masks_are_saved_with_the_weights(self):
        source, target = self.make(seed=0), DiscreteMADE(
            6, (24, 20), activation="tanh", num_masks=3, order_agnostic=True, seed=1
        )  # fmt: skip
        assert not torch.equal(source.orders, target.orders)
        target.load_state_dict(source.state_dict())
        x = all_vectors(6)
        assert torch.equal(source.log_prob(x), target.log_prob(x))
        with torch.device("meta"):
            meta = DiscreteMADE(6, (24, 20), activation="tanh", num_masks=3, order_agnostic=True)
        meta.load_state_dict(source.state_dict(), assign=True)
        assert torch.equal(source.log_prob(x), meta.log_prob(x))

    def test_the_loss_draws_a_set_of_masks(self):
        model, x = self.make(), all_vectors(6)
        torch.manual_seed(0)
        found = [model(x) for _ in range(20)]
        each = [-model.log_prob(x, mask) for mask in range(3)]
        for losses in each:
            assert any(torch.equal(losses, one) for one in found)

    def test_wrong_options_are_named(self):
        with pytest.raises(ValueError, match="order is 'reversed'"):
            DiscreteMADE(3, (4,), order="reversed")
        with pytest.raises(ValueError, match="mask is 1; expected 0 to 0"):
            DiscreteMADE(3, (4,)).log_prob(all_vectors(3), 1)
        with pytest.raises(ValueError, match="levels is 1"):
            DiscreteMADE(3, (4,), levels=1)
