"""Codes against brute force, gradients and averages against their formulas, k-means, dead codes."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from testing.ranks import call_on_ranks

from gencore.nn import VectorQuantizer
from gencore.nn.quantization.nearest import nearest


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(num_codes=8, code_dim=3, *, dtype=torch.float64, spread=1.0, **options):
    """A quantiser whose codes are normal."""
    quantizer = VectorQuantizer(num_codes, code_dim, **options).to(dtype)
    codes = spread * torch.randn(num_codes, code_dim, generator=generator(1), dtype=torch.float64)
    with torch.no_grad():
        quantizer.code_book.copy_(codes)
        if quantizer.update == "ema":
            quantizer.sums.copy_(codes)
    return quantizer


def vectors(*shape, seed=2, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def distances(x, points):
    return (x.double()[:, None] - points.double()).square().sum(2)


class TestNearest:
    def test_indices_are_those_of_brute_force(self):
        x, points = vectors(5000, 3), vectors(1000, 3, seed=3)  # more than one part
        assert torch.equal(nearest(x, points), distances(x, points).argmin(1))

    def test_points_far_from_the_origin_are_told_apart(self):
        """In float32, ‖e‖² = 3·10⁶ is rounded to 1/4, and distances are about 1."""
        offset = 1000.0
        x = vectors(500, 3, dtype=torch.float32) + offset
        points = vectors(50, 3, seed=3, dtype=torch.float32) + offset
        table = distances(x, points)
        chosen = table.gather(1, nearest(x, points)[:, None]).squeeze(1)
        torch.testing.assert_close(chosen, table.amin(1), rtol=0, atol=1e-5)

    def test_of_equally_near_points_the_first_is_taken(self):
        points = torch.tensor([[2.0], [-1.0], [1.0], [1.0]])
        assert nearest(torch.zeros(3, 1), points).tolist() == [1, 1, 1]

    def test_autocast_does_not_blur_them(self):
        x, points = vectors(200, 3, dtype=torch.float32), vectors(100, 3, seed=3).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            codes = nearest(x, points)
        assert torch.equal(codes, nearest(x, points))


class TestForward:
    def test_every_place_gets_the_vector_of_its_code(self):
        quantizer, x = make().eval(), vectors(2, 3, 4, 5)
        z = quantizer(x)
        table = distances(x.movedim(1, -1).reshape(-1, 3), quantizer.code_book)
        assert torch.equal(z.codes, table.argmin(1).view(2, 4, 5))
        assert torch.equal(z.values, quantizer.code_book[z.codes].movedim(-1, 1))
        assert torch.equal(z.codes, quantizer.encode(x))
        assert torch.equal(z.values, quantizer.decode(z.codes))
        expected = quantizer.commitment * table.amin(1).view(2, 20).sum(1)
        torch.testing.assert_close(z.loss, expected)

    @pytest.mark.parametrize("update", ["ema", "loss"])
    def test_gradients_are_those_of_the_formulas(self, update):
        """To x: that with respect to z_q, and 2 β (x − e). To a code: 2 Σ (e − x)."""
        quantizer = make(update=update, commitment=0.7, revive_after=None)
        x, weight = vectors(40, 3).requires_grad_(), vectors(40, 3, seed=4)
        book = quantizer.code_book.detach().clone()
        z = quantizer(x)
        ((z.values * weight).sum() + z.loss.sum()).backward()
        residual = x.detach() - book[z.codes]
        torch.testing.assert_close(x.grad, weight + 2 * 0.7 * residual)
        if update == "loss":
            expected = torch.zeros_like(book).index_add_(0, z.codes, -2 * residual)
            torch.testing.assert_close(quantizer.code_book.grad, expected)
            assert (expected != 0).all(1).any()

    def test_perplexity_counts_the_codes_in_use(self):
        quantizer = make(num_codes=4, code_dim=1).eval()
        book = quantizer.code_book
        assert quantizer(book.repeat(5, 1)).perplexity.item() == pytest.approx(4)
        assert quantizer(book[:1].repeat(5, 1)).perplexity.item() == pytest.approx(1)
        assert quantizer(book[[0, 0, 1, 1]]).perplexity.item() == pytest.approx(2)

    def test_only_training_learns(self):
        quantizer = make(revive_after=1)
        before = deepcopy(quantizer.state_dict())
        quantizer.eval()(vectors(20, 3))
        assert all(torch.equal(before[name], x) for name, x in quantizer.state_dict().items())
        quantizer.train()(vectors(20, 3))
        assert not torch.equal(before["code_book"], quantizer.code_book)

    def test_no_vectors_have_no_loss(self):
        z = make()(vectors(0, 3, 2, 2))
        assert z.values.shape == (0, 3, 2, 2)
        assert z.loss.shape == (0,)
        assert z.perplexity.isfinite()


class TestAverages:
    def test_an_update_is_that_of_the_equations(self):
        decay, eps = 0.8, 1e-5
        quantizer, x = make(decay=decay, revive_after=None), vectors(50, 3)
        counts, sums = torch.ones(8, dtype=torch.float64), quantizer.code_book.clone()
        for part in x.split(25):
            codes = distances(part, quantizer.code_book).argmin(1)
            for k in range(8):
                counts[k] = decay * counts[k] + (1 - decay) * (codes == k).sum()
                sums[k] = decay * sums[k] + (1 - decay) * part[codes == k].sum(0)
            total = counts.sum()
            expected = sums / ((counts + eps) / (total + 8 * eps) * total)[:, None]
            quantizer(part)
            torch.testing.assert_close(quantizer.code_book, expected)

    def test_without_a_memory_they_are_k_means(self):
        """Each step moves the used codes to the means of their vectors; the error never grows."""
        quantizer, x = make(decay=0, revive_after=None), vectors(400, 3)
        errors = []
        for _ in range(15):
            table = distances(x, quantizer.code_book)
            errors.append(table.amin(1).sum().item())
            quantizer(x)
            for k in range(8):
                mean = x[table.argmin(1) == k].mean(0)
                torch.testing.assert_close(quantizer.code_book[k], mean, rtol=1e-4, atol=1e-4)
        assert all(b <= a * (1 + 1e-6) for a, b in pairwise(errors))
        assert errors[-1] < 0.8 * errors[0]

    def test_the_loss_has_the_fixed_points_of_k_means(self):
        quantizer, x = make(update="loss", commitment=0, revive_after=None), vectors(400, 3)
        optimizer, errors = torch.optim.SGD(quantizer.parameters(), 0.4 / 400), []
        for _ in range(600):
            loss = quantizer(x).loss.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            errors.append(loss.item())
        assert all(b <= a * (1 + 1e-9) for a, b in pairwise(errors))
        codes = quantizer.encode(x)
        for k in codes.unique():
            torch.testing.assert_close(
                quantizer.code_book[k].detach(), x[codes == k].mean(0), rtol=0, atol=0.02
            )


class TestDeadCodes:
    @pytest.mark.parametrize("update", ["ema", "loss"])
    def test_they_become_vectors_of_the_batch(self, update):
        quantizer = make(update=update, revive_after=3)
        with torch.no_grad():
            quantizer.code_book[5:] += 100
            if update == "ema":
                quantizer.sums[5:] += 100
        x, key = vectors(300, 3), torch.tensor([7, 0])
        for _ in range(2):
            quantizer(x, key=key)
            assert (quantizer.code_book[5:] > 50).all()
        quantizer(x, key=key)
        revived = quantizer.code_book[5:].detach()
        assert (distances(revived, x).amin(1) == 0).all()
        assert (quantizer.unused == 0).all()
        z = quantizer(x, key=key)
        assert torch.bincount(z.codes.flatten(), minlength=8).gt(0).all()

    def test_a_code_in_use_is_not_dead(self):
        quantizer = make(revive_after=2, decay=0.9)
        x = quantizer.code_book.repeat(4, 1)  # the codes are the means of what they stand for
        before = quantizer.code_book.clone()
        for _ in range(5):
            quantizer(x)
        torch.testing.assert_close(quantizer.code_book, before, rtol=0, atol=1e-4)

    def test_the_key_says_which_vectors(self):
        def revived(key):
            quantizer = make(revive_after=1)
            with torch.no_grad():
                quantizer.code_book.copy_(quantizer.code_book[:1].clone().expand(8, 3))
            quantizer(vectors(100, 3), key=torch.tensor(key))
            return quantizer.code_book

        assert torch.equal(revived([1, 0]), revived([1, 0]))
        assert not torch.equal(revived([1, 0]), revived([2, 0]))

    def test_without_it_they_stay(self):
        quantizer = make(update="loss", revive_after=None)
        with torch.no_grad():
            quantizer.code_book[5:] += 100
        before = quantizer.code_book.detach().clone()
        for _ in range(5):
            quantizer(vectors(100, 3))
        assert torch.equal(quantizer.code_book.detach(), before)


def test_k_means_finds_clusters():
    """A code a cluster, after as many starts as one needs."""
    centres = 10 * torch.eye(3, dtype=torch.float64)
    x = centres.repeat(50, 1) + 0.1 * vectors(150, 3)
    quantizer = make(num_codes=3)
    errors = []
    for seed in range(8):
        quantizer.initialize(x, generator=generator(seed))
        errors.append(distances(centres, quantizer.code_book).amin(1).max().item())
    assert min(errors) < 0.01
    quantizer.train()(x)  # the averages begin there
    assert distances(quantizer.code_book, x).amin(1).max() < 1


def test_a_state_goes_on_as_it_would_have():
    first, second = make(revive_after=2), VectorQuantizer(8, 3, revive_after=2).double()
    x, key = vectors(30, 3), torch.tensor([3, 4])
    first(x, key=key)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        first(x, key=key)
        second(x, key=key)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert set(first.state_dict()) == {"code_book", "counts", "sums", "unused"}
    assert set(make(update="loss").state_dict()) == {"code_book", "unused"}


def _worker(folder):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    part = slice(None, 10) if rank == 0 else slice(10, None)
    torch.save(_train(vectors(40, 3)[part]), folder / f"{rank}.pt")
    dist.destroy_process_group()


def _train(x):
    quantizer = make(num_codes=16, revive_after=2, spread=3.0)
    for step in range(6):
        perplexity = quantizer(x, key=torch.tensor([1, step])).perplexity
    return {**quantizer.state_dict(), "perplexity": perplexity}


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    """Also of parts of different sizes, and with dead codes revived."""
    call_on_ranks(_worker, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, expected in _train(vectors(40, 3)).items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_codes": 0}, "num_codes is 0; expected at least 1"),
        ({"code_dim": 0}, "code_dim is 0; expected at least 1"),
        ({"update": "sgd"}, "update is 'sgd'; expected one of ema, loss"),
        ({"decay": 1.0}, "decay is 1.0; expected at least 0 and below 1"),
        ({"commitment": -1.0}, "commitment is -1.0; expected at least 0"),
        ({"revive_after": 0}, "revive_after is 0; expected at least 1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"VectorQuantizer: {message}"):
        VectorQuantizer(**{"num_codes": 4, "code_dim": 2, **options})


def test_inputs_that_do_not_fit():
    quantizer = VectorQuantizer(4, 2)
    with pytest.raises(TypeError, match=r"x is torch.int64; expected floating point"):
        quantizer(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x has shape \[3, 4\]; expected \[N, 2, \.\.\.\]"):
        quantizer(torch.zeros(3, 4))
    with pytest.raises(TypeError, match=r"codes is torch.float32; expected int64"):
        quantizer.decode(torch.zeros(3))
    with pytest.raises(ValueError, match="codes are from 0 to 4; expected 0 to 3"):
        quantizer.decode(torch.arange(5))
    with pytest.raises(ValueError, match="x has 3 vectors; expected at least 4"):
        quantizer.initialize(torch.zeros(3, 2))
