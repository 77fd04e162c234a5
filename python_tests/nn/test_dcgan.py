"""The networks of DCGAN: their layers and starts, sides of every kind, classes, and a training run
on digits."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from gencore.data import load_images
from gencore.metrics import energy_distance
from gencore.nn import (
    ConditionalWeightNorm,
    DCGANDiscriminator,
    DCGANGenerator,
    ProjectionDiscriminator,
)
from gencore.objectives import adversarial_discriminator_loss, adversarial_generator_loss

SHAPES = [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 20, 36), (2, 9, 5)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_latents_to_images_to_logits(shape, dtype):
    torch.manual_seed(0)
    generator = DCGANGenerator(6, shape, width=4).to(dtype)
    discriminator = DCGANDiscriminator(shape, width=4).to(dtype)
    x = generator(torch.randn(3, 6, dtype=dtype))
    logits = discriminator(x)
    assert x.shape == (3, *shape)
    assert logits.shape == (3,)
    assert x.dtype == logits.dtype == dtype
    logits.square().sum().backward()
    for network in (generator, discriminator):
        assert all(weight.grad.isfinite().all() for weight in network.parameters())


def test_sides_are_halved_rounded_up():
    generator, discriminator = (
        DCGANGenerator(6, (1, 28, 28), width=4),
        DCGANDiscriminator((1, 28, 28), width=4),
    )
    assert generator.sides == [(4, 4), (7, 7), (14, 14), (28, 28)]
    assert discriminator.num_features == 16 * 4 * 4


def test_every_pixel_of_an_odd_side_is_made_and_seen():
    """Sides of 9, 5 and 3: the last rows have weights of their own."""
    torch.manual_seed(0)
    generator = DCGANGenerator(6, (1, 9, 9), width=4, normalization="none", pixel_range="free")
    discriminator = DCGANDiscriminator((1, 9, 9), width=4, batch_norm=False)
    assert (generator(torch.randn(2, 6)) != 0).all()
    x = torch.randn(1, 1, 9, 9, requires_grad=True)
    discriminator(x).sum().backward()
    assert (x.grad != 0).all()


def test_the_networks_are_those_of_the_source():
    """Figure 1 with the program's widths: 512 maps of 4×4 to three colours of 64×64."""
    generator, discriminator = DCGANGenerator(100, (3, 64, 64)), DCGANDiscriminator((3, 64, 64))
    ups = [(up.in_channels, up.out_channels, up.kernel_size, up.stride) for up in generator.ups]
    widths = [512, 256, 128, 64, 3]
    expected = [(a, b, (4, 4), (2, 2)) for a, b in pairwise(widths)]
    assert ups == expected
    assert generator.first.out_features == 512 * 4 * 4
    down = [
        (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride)
        for conv in discriminator.features
        if isinstance(conv, nn.Conv2d)
    ]
    assert down == [(b, a, *rest) for a, b, *rest in reversed(expected)]
    kinds = [type(layer).__name__ for layer in discriminator.features]
    assert kinds.count("BatchNorm2d") == 3
    assert kinds.index("BatchNorm2d") > kinds.index("LeakyReLU")  # none after the first layer
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                # The standard error of a standard deviation is s / √(2n).
                tolerance = 5 * 0.02 / (2 * module.weight.numel()) ** 0.5
                assert abs(module.weight.std().item() - 0.02) < tolerance


def test_features_are_normalised_and_then_rectified():
    """By two layers of functions, with biases before which the order of the two shows."""
    torch.manual_seed(0)
    generator = DCGANGenerator(6, (1, 8, 8), width=4).double()
    (norm,), (up,) = generator.norms, generator.ups
    nn.init.normal_(norm.bias)
    z = torch.randn(5, 6, dtype=torch.float64)
    features = generator.first(z).unflatten(1, (4, 4, 4))
    mean, variance = features.mean((0, 2, 3)), features.var((0, 2, 3), correction=0)
    scale = norm.weight / (variance + norm.eps).sqrt()
    shift = norm.bias - mean * scale
    rectified = (features * scale[:, None, None] + shift[:, None, None]).clamp(min=0)
    expected = functional.conv_transpose2d(rectified, up.weight, up.bias, stride=2, padding=1)
    torch.testing.assert_close(generator(z), expected.tanh())


def test_pixel_ranges():
    torch.manual_seed(0)
    networks = {
        name: DCGANGenerator(6, (1, 8, 8), width=4, pixel_range=name)
        for name in ("symmetric", "unit", "free")
    }
    for network in networks.values():
        network.load_state_dict(networks["free"].state_dict())
    z = 1e4 * torch.randn(50, 6)
    images = {name: network.eval()(z) for name, network in networks.items()}
    assert images["free"].abs().max() > 1
    torch.testing.assert_close(images["symmetric"], images["free"].tanh())
    torch.testing.assert_close(images["unit"], torch.sigmoid(2 * images["free"]))


def test_every_class_has_filters_of_its_own():
    torch.manual_seed(0)
    generator = DCGANGenerator(
        6, (1, 8, 8), width=4, normalization="conditional weight", num_classes=3
    )
    norms = [module for module in generator.modules() if isinstance(module, ConditionalWeightNorm)]
    assert len(norms) == 2
    z = torch.randn(1, 6).expand(3, -1)
    labels = torch.tensor([0, 1, 1])
    x = generator(z, labels)
    torch.testing.assert_close(x[0], x[1])  # all classes start alike
    for norm in norms:
        nn.init.normal_(norm.gain)
    x = generator(z, labels)
    assert (x[0] != x[1]).any()
    torch.testing.assert_close(x[1], x[2])
    x[1].sum().backward()
    assert all((norm.gain.grad[0] == 0).all() and norm.gain.grad[1].any() for norm in norms)


def test_b13_it_trains_on_digits_and_interpolates():
    """150 steps of Adam. Neither the batch norms' statistics nor a loss becomes infinite, samples
    come nearer to the data than those of the start, and a line of latents is a path of images."""
    torch.manual_seed(0)
    digits = load_images("digits").images[:1000].float().div(255)
    generator = DCGANGenerator(10, (1, 8, 8), width=16, pixel_range="unit")
    discriminator = DCGANDiscriminator((1, 8, 8), width=16)
    optimizers = [
        torch.optim.Adam(network.parameters(), 2e-3, betas=(0.5, 0.999))
        for network in (generator, discriminator)
    ]
    z = torch.randn(500, 10)

    def distance():
        generator.eval()
        with torch.no_grad():
            samples = generator(z)
        generator.train()
        assert samples.isfinite().all()
        assert 0 <= samples.min() <= samples.max() <= 1
        return float(energy_distance(samples.flatten(1), digits[:500].flatten(1)))

    before = distance()
    for _ in range(150):
        real = digits[torch.randint(len(digits), (64,))]
        fake = generator(torch.randn(64, 10))
        logits = discriminator(real), discriminator(fake.detach())
        losses = [adversarial_discriminator_loss(*logits)]
        optimizers[1].zero_grad()
        losses[0].backward()
        optimizers[1].step()
        losses.append(adversarial_generator_loss(discriminator(fake), "non-saturating"))
        optimizers[0].zero_grad()
        losses[1].backward()
        optimizers[0].step()
        assert all(loss.isfinite() for loss in losses)
    assert distance() < before / 3
    generator.eval()
    with torch.no_grad():
        ends = torch.randn(2, 10)
        line = generator(torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 101)[:, None]))
    jumps = line.diff(dim=0).flatten(1).norm(dim=1)
    whole = (line[-1] - line[0]).norm()
    assert whole > 0.5
    assert jumps.max() < whole / 10  # the mean jump of a straight path is a hundredth


def test_features_of_the_conditional_one_start_with_the_variance_of_the_latents():
    """Away from the edges, which fewer weights reach."""
    torch.manual_seed(0)
    generator = DCGANGenerator(
        64, (16, 64, 64), width=16, normalization="conditional weight", num_classes=2,
        pixel_range="free",
    )  # fmt: skip
    x = generator(torch.randn(32, 64), torch.zeros(32, dtype=torch.int64))
    assert 0.6 < x[..., 16:-16, 16:-16].var() < 1.6


def test_l30_samples_of_a_class_are_taken_for_it():
    """Norms and biases of a class, against the discriminator that is told the class: 300 steps. A
    classifier of real digits recognises most samples; of guesses it would be a tenth."""
    torch.manual_seed(0)
    data = load_images("digits")
    digits, labels = data.images[:1400].float().div(255), torch.as_tensor(data.labels[:1400])
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-2)
    for _ in range(200):
        rows = torch.randint(len(digits), (128,))
        optimizer.zero_grad()
        functional.cross_entropy(classifier(digits[rows]), labels[rows]).backward()
        optimizer.step()
    generator = DCGANGenerator(
        10, (1, 8, 8), width=16, normalization="conditional weight", num_classes=10,
        pixel_range="unit",
    )  # fmt: skip
    network = DCGANDiscriminator((1, 8, 8), width=32, batch_norm=False)
    discriminator = ProjectionDiscriminator(network.features, network.num_features, 10)
    optimizers = [
        torch.optim.Adam(part.parameters(), 2e-3, betas=(0.5, 0.999))
        for part in (generator, discriminator)
    ]
    for _ in range(300):
        rows = torch.randint(len(digits), (64,))
        real, y = digits[rows], labels[rows]
        fake = generator(torch.randn(64, 10), y)
        loss = adversarial_discriminator_loss(
            discriminator(real, y), discriminator(fake.detach(), y)
        )
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        loss = adversarial_generator_loss(discriminator(fake, y), "non-saturating")
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
    y = torch.arange(10).repeat(50)
    with torch.no_grad():
        samples = generator(torch.randn(500, 10), y)
        right = (classifier(samples).argmax(1) == y).float().mean()
    assert right > 0.8
    assert samples.unflatten(0, (50, 10)).std(0).mean() > 0.05  # not one image a class


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DCGANGenerator(6, (1, 4, 8)), r"image_shape is \(1, 4, 8\); expected \[C, H, W\]"),
        (lambda: DCGANDiscriminator((8, 8)), r"image_shape is \(8, 8\)"),
        (lambda: DCGANGenerator(0, (1, 8, 8)), "latent_size is 0"),
        (lambda: DCGANGenerator(6, (1, 8, 8), width=0), "width is 0"),
        (lambda: DCGANGenerator(6, (1, 8, 8), normalization="layer"), "normalization is 'layer'"),
        (lambda: DCGANGenerator(6, (1, 8, 8), pixel_range="byte"), "pixel_range is 'byte'"),
        (lambda: DCGANGenerator(6, (1, 8, 8), num_classes=3), "num_classes is 3 with normaliz"),
        (
            lambda: DCGANGenerator(6, (1, 8, 8), normalization="conditional weight"),
            "num_classes is None with normaliz",
        ),
        (lambda: DCGANGenerator(6, (1, 8, 8))(torch.zeros(2, 5)), r"shape \[2, 5\]; expected \[N"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_are_given_where_they_are_needed():
    z, labels = torch.zeros(2, 6), torch.tensor([0, 1])
    with pytest.raises(TypeError, match="got labels; expected none"):
        DCGANGenerator(6, (1, 8, 8), width=4)(z, labels)
    conditional = DCGANGenerator(
        6, (1, 8, 8), width=4, normalization="conditional weight", num_classes=3
    )
    with pytest.raises(TypeError, match="expected labels"):
        conditional(z)
