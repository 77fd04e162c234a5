"""VQ-VAE: exact arithmetic of its bound, gradients, sums over all images of codes, priors."""

import math

import pytest
import torch

from gencore.metrics import bits_per_dim
from gencore.models import VQVAE, GatedPixelCNN
from gencore.nn import Categorical, DiscretizedLogistic


def make(image_shape=(1, 4, 4), num_codes=3, *, seed=0, **options):
    torch.manual_seed(seed)
    model = VQVAE(image_shape, 8, num_codes, 4, **{"downsampling": 2, **options})
    with torch.no_grad():
        model.quantizer.code_book.normal_()
        if model.quantizer.update == "ema":
            model.quantizer.sums.copy_(model.quantizer.code_book)
    return model


def make_prior(model, *, seed=0, **options):
    torch.manual_seed(seed)
    prior = GatedPixelCNN(
        model.code_shape, 8, 2, **{"levels": model.num_codes, "embedding": 4, **options}
    )
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.normal_(std=0.5)
    return prior.eval()


def images(num, shape=(1, 4, 4), seed=3, levels=256):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (num, *shape), generator=generator, dtype=torch.uint8)


@pytest.fixture
def model():
    return make().eval()


def all_codes(model):
    _, height, width = model.code_shape
    values = torch.arange(model.num_codes)
    return torch.cartesian_prod(*[values] * (height * width)).view(-1, height, width)


class TestBound:
    def test_it_is_the_likelihood_and_the_prior(self, model):
        """Of the uniform one exactly H'W' log K."""
        x = images(5)
        values = model.quantizer(model.features(x)).values
        log_likelihood = model.likelihood.log_prob(model.decoder(values), x).flatten(1).sum(1)
        expected = log_likelihood - 4 * math.log(3)
        torch.testing.assert_close(model.log_prob_bound(x), expected)
        bits = bits_per_dim(model.log_prob_bound(x), 16, bins=1)
        torch.testing.assert_close(bits, (-log_likelihood + 4 * math.log(3)) / (16 * math.log(2)))
        prior = make_prior(model)
        codes = model.encode(x).unsqueeze(1)
        torch.testing.assert_close(
            model.log_prob_bound(x, prior), log_likelihood + prior.log_prob(codes)
        )

    def test_it_is_below_the_sum_over_all_codes(self):
        """log p(x) = log Σ_z p(x | z) p(z), by enumeration of 81 images of codes."""
        model = make().eval()
        x, codes = images(4), all_codes(model)
        prior = make_prior(model)
        for given in (None, prior):
            log_prior = model.log_prior(codes, given)
            parameters = model.decoder(model.quantizer.decode(codes))
            log_likelihood = torch.stack(
                [
                    model.likelihood.log_prob(parameters, image.expand(81, 1, 4, 4))
                    .flatten(1)
                    .sum(1)
                    for image in x
                ]
            )
            exact = torch.logsumexp(log_likelihood + log_prior, 1)
            assert (model.log_prob_bound(x, given) < exact).all()

    @pytest.mark.parametrize("learned", [False, True])
    def test_all_images_of_codes_have_probability_one(self, model, learned):
        prior = make_prior(model) if learned else None
        total = model.log_prior(all_codes(model), prior).double().exp().sum().item()
        assert total == pytest.approx(1, abs=1e-5)

    def test_a_tiny_image_has_probabilities_that_add_up(self):
        """Of pixels and codes together: Σ_x Σ_z p(x | z) p(z) = 1, of 2×2 images of 2 levels."""
        model = make((1, 2, 2), 3, downsampling=1, likelihood=Categorical(2)).eval()
        x = torch.cartesian_prod(*[torch.arange(2)] * 4).view(-1, 1, 2, 2)
        codes = all_codes(model)
        parameters = model.decoder(model.quantizer.decode(codes))
        total = 0.0
        for image in x:
            log_likelihood = model.likelihood.log_prob(parameters, image.expand(81, 1, 2, 2))
            log_joint = log_likelihood.flatten(1).sum(1) + model.log_prior(codes)
            total += log_joint.double().exp().sum().item()
        assert total == pytest.approx(1, abs=1e-5)


class TestObjective:
    def test_it_is_the_likelihood_and_the_quantisers_loss(self):
        model, x = make(update="loss", commitment=0.5, revive_after=None), images(5)
        values = model(x)
        features = model.features(x)
        codes = model.encode(x)
        residual = features - model.quantizer.decode(codes)
        expected = 1.5 * residual.square().flatten(1).sum(1) - values.log_likelihood
        torch.testing.assert_close(values.loss, expected)
        uniform = -4 * math.log(3)
        torch.testing.assert_close(model.log_prob_bound(x), values.log_likelihood + uniform)

    @pytest.mark.parametrize("update", ["ema", "loss"])
    def test_the_encoder_gets_the_decoders_gradient_and_the_commitment(self, update):
        """∂L/∂f = ∂(−log p(x | z_q))/∂z_q + 2 β (f − e)."""
        model, x = make(update=update, revive_after=None).double(), images(5)
        seen = []
        model.encoder.register_forward_hook(lambda *args: seen.append(args[2]))
        model.eval()
        values = model(x)
        features = seen.pop()
        (gradient,) = torch.autograd.grad(values.loss.sum(), features)
        z = model.quantizer.decode(model.encode(x)).detach().requires_grad_()
        log_likelihood = model.likelihood.log_prob(model.decoder(z), x)
        (decoder_gradient,) = torch.autograd.grad(-log_likelihood.sum(), z)
        expected = decoder_gradient + 2 * 0.25 * (features - z)
        torch.testing.assert_close(gradient, expected)

    def test_the_code_book_follows_the_loss_alone(self):
        """Not the decoder's: 2 Σ (e − f) of each code."""
        model, x = make(update="loss", revive_after=None).double(), images(20)
        model(x).loss.sum().backward()
        vectors = model.features(x).movedim(1, -1).flatten(0, 2)
        codes = model.encode(x).flatten()
        book = model.quantizer.code_book
        expected = torch.stack([2 * (book[k] - vectors[codes == k]).sum(0) for k in range(3)])
        torch.testing.assert_close(book.grad, expected)

    @pytest.mark.slow
    def test_it_learns(self):
        """Two kinds of images get different codes, from which they are decoded."""
        torch.manual_seed(0)
        model = VQVAE((1, 4, 4), 8, 4, 4, downsampling=2, decay=0.9, revive_after=5)
        x = torch.tensor([30, 220], dtype=torch.uint8).repeat(8).view(16, 1, 1, 1)
        x = x.expand(16, 1, 4, 4).contiguous()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        losses = []
        for _ in range(100):
            loss = model(x, key=torch.tensor([0, 0])).loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]
        assert (model.eval().reconstruct(x) - x).abs().mean() < 20
        codes = model.encode(x)
        assert not torch.equal(codes[0], codes[1])


class TestPrior:
    @pytest.mark.slow
    def test_skewed_codes_take_less_than_their_logarithm(self):
        """A prior that is fitted to independent codes reaches their entropy."""
        model = make(num_codes=4).eval()
        p = torch.tensor([0.7, 0.15, 0.1, 0.05])
        generator = torch.Generator().manual_seed(1)
        codes = torch.multinomial(p, 4 * 4000, replacement=True, generator=generator)
        codes = codes.view(-1, 1, 2, 2)
        torch.manual_seed(0)
        prior = GatedPixelCNN(model.code_shape, 8, 2, levels=4, embedding=4)
        optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
        for step in range(150):
            part = codes[:2000].roll(-100 * step, 0)[:100]
            loss = -prior.log_prob(part).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        held_out = codes[2000:, 0]
        with torch.no_grad():
            bits = -model.log_prior(held_out, prior) / (4 * math.log(2))
        entropy = (torch.special.entr(p).sum() / math.log(2)).item()
        error = bits.std().item() / math.sqrt(len(bits))
        assert bits.mean().item() < 2 - 0.5
        # Fitted to 8,000 codes with some hundred weights, it is a few hundredths above.
        assert entropy - 4 * error < bits.mean().item() < entropy + 0.05 + 4 * error

    def test_codes_are_drawn_from_it(self, model):
        """Frequencies of the 81 images of codes, within their Monte Carlo error."""
        prior, num = make_prior(model), 20_000
        generator = torch.Generator().manual_seed(2)
        drawn = model.sample_codes(num, prior, method="naive", generator=generator)
        index = (drawn.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
        counts = torch.bincount(index, minlength=81)
        p = model.log_prior(all_codes(model), prior).double().exp().detach()
        error = (p * (1 - p) / num).sqrt()
        assert ((counts / num - p).abs() < 5 * error + 1 / num).all()

    def test_samples_are_decoded_codes(self, model):
        def generator():
            return torch.Generator().manual_seed(2)

        prior = make_prior(model)
        x = model.sample(6, prior, method="naive", generator=generator())
        codes = model.sample_codes(6, prior, method="naive", generator=generator())
        assert x.dtype == torch.int64
        assert torch.equal(x, model.decode(codes).round().long())
        assert torch.equal(codes, model.sample_codes(6, prior, generator=generator()))
        noisy = model.sample(6, prior, noise=True, method="naive", generator=generator())
        assert noisy.shape == x.shape
        assert not torch.equal(noisy, x)

    def test_noise_is_drawn_from_the_likelihood(self):
        """With one code, every image is of the same distribution: its mean is `decode`'s."""
        model = make((2, 2, 2), 1, downsampling=2, likelihood=DiscretizedLogistic(16)).eval()
        num = 4000
        x = model.sample(num, noise=True, generator=torch.Generator().manual_seed(0)).double()
        expected = model.decode(torch.zeros(1, 1, 1, dtype=torch.int64)).double()
        error = x.std(0, keepdim=True) / math.sqrt(num)
        assert ((x.mean(0, keepdim=True) - expected).abs() < 5 * error + 1e-3).all()


def test_a_state_makes_the_same_model():
    first, second = make(seed=1), make(seed=2)
    first(images(6))
    second.load_state_dict(first.state_dict())
    x = images(4, seed=9)
    assert torch.equal(first.eval().log_prob_bound(x), second.eval().log_prob_bound(x))
    assert torch.equal(first.reconstruct(x), second.reconstruct(x))


def test_dead_codes_are_revived_by_training():
    model = make((1, 8, 8), 16, revive_after=3)
    with torch.no_grad():
        for tensor in (model.quantizer.code_book, model.quantizer.sums):
            tensor[1:] += 50
    x = images(30, (1, 8, 8))
    assert model.encode(x).unique().tolist() == [0]
    for step in range(4):
        model(x, key=torch.tensor([5, step]))
    assert len(model.encode(x).unique()) > 8


@pytest.mark.parametrize("shape", [(3, 12, 8), (1, 28, 28)])
def test_shapes(shape):
    model = make(shape, 5, downsampling=4).eval()
    x = images(2, shape)
    assert model.code_shape == (1, shape[1] // 4, shape[2] // 4)
    assert model.encode(x).shape == (2, *model.code_shape[1:])
    assert model.decode(model.encode(x)).shape == (2, *shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (4, 4)}, r"image_shape is \(4, 4\); expected \[C, H, W\]"),
        ({"channels": 0}, "channels is 0; expected at least 1"),
        ({"downsampling": 3}, "downsampling is 3; expected a divisor of the sides 8 and 8"),
        ({"image_shape": (1, 6, 6), "downsampling": 6}, "is 6; expected a power of two"),
        ({"num_codes": 0}, "num_codes is 0; expected at least 1"),
        ({"num_blocks": -1}, "num_blocks is -1; expected at least 0"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**{"image_shape": (1, 8, 8), "channels": 8, "num_codes": 4, "code_dim": 2, **options})


def test_inputs_that_do_not_fit(model):
    with pytest.raises(TypeError, match=r"x is torch.float32; expected levels, uint8 or int64"):
        model.encode(torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"x has shape \[1, 4, 4\]; expected \['N', 1, 4, 4\]"):
        model(torch.zeros(1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"codes has shape \[2, 4\]; expected \['N', 2, 2\]"):
        model.decode(torch.zeros(2, 4, dtype=torch.int64))
    wrong = GatedPixelCNN((1, 2, 2), 8, 1, levels=4)
    with pytest.raises(
        ValueError, match=r"images \[1, 2, 2\] of 4 levels; expected \[1, 2, 2\] of 3"
    ):
        model.log_prob_bound(images(1), wrong)
