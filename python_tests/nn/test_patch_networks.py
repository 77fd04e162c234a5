"""Networks that translate images, and a discriminator of patches: layers, sides, what they see."""

import pytest
import torch
from torch import nn

from gencore.nn import PatchDiscriminator, ResNetGenerator, UNetGenerator


def layers(network):
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [
        (m.in_channels, m.out_channels, m.stride[0]) for m in network.modules() if type(m) in kinds
    ]


class TestUNet:
    def test_it_is_that_of_the_source(self):
        """C64-C128-C256-C512-C512-C512-C512-C512, and the U-Net's decoder of §6.1.1."""
        network = UNetGenerator(3, 3)
        down = [64, 128, 256, 512, 512, 512, 512, 512]
        seen_by_up = [512, 1024, 1024, 1024, 1024, 512, 256, 128]
        assert layers(network.downs) == [(a, b, 2) for a, b in zip([3, *down], down, strict=False)]
        assert [given for given, _, _ in layers(network.ups)] == seen_by_up
        assert [made for _, made, _ in layers(network.ups)] == [512] * 4 + [256, 128, 64, 3]
        dropped = [any(isinstance(m, nn.Dropout) for m in up) for up in network.ups]
        assert dropped == [True] * 3 + [False] * 5
        normed = [any(isinstance(m, nn.BatchNorm2d) for m in down) for down in network.downs]
        assert normed == [False] + [True] * 6 + [False]

    @pytest.mark.parametrize("normalization", ["none", "batch", "instance"])
    def test_images_to_images(self, normalization):
        torch.manual_seed(0)
        network = UNetGenerator(2, 3, num_scales=3, width=4, normalization=normalization).double()
        x = torch.randn(3, 2, 16, 8, dtype=torch.float64)
        y = network(x)
        assert y.shape == (3, 3, 16, 8)
        assert y.abs().max() <= 1
        y.square().sum().backward()
        # Of a bias before a normalisation nothing is left: its gradient is 0, but it is there.
        assert all(weight.grad.isfinite().all() for weight in network.parameters())

    def test_skips_carry_what_the_coarsest_features_do_not(self):
        """With a silent coarsest layer the image still reaches its translation; a decoder without
        skips would give one constant."""
        torch.manual_seed(0)
        network = UNetGenerator(1, 1, num_scales=2, width=4, normalization="none", dropout=0.0)
        for weight in network.ups[0].parameters():
            nn.init.zeros_(weight)
        x = torch.randn(1, 1, 8, 8, requires_grad=True)
        network(x)[0, 0, 0, 0].backward()
        near = x.grad[0, 0] != 0
        assert near[:3, :3].all()
        assert not near[4:].any()

    def test_dropout_is_its_noise(self):
        torch.manual_seed(0)
        network = UNetGenerator(1, 1, num_scales=2, width=4, normalization="none")
        x = torch.randn(2, 1, 8, 8)
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: UNetGenerator(0, 1), "in_channels is 0"),
            (lambda: UNetGenerator(1, 1, normalization="layer"), "normalization is 'layer'"),
            (lambda: UNetGenerator(1, 1, dropout=1.0), "dropout is 1.0; expected less than 1"),
            (
                lambda: UNetGenerator(1, 1, num_scales=2, width=2)(torch.zeros(1, 1, 8, 6)),
                "sides that are multiples of 4",
            ),
        ],
    )
    def test_what_does_not_fit_is_told(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


class TestResNet:
    def test_it_is_that_of_the_source(self):
        """c7s1-64, d128, d256, nine R256, u128, u64, c7s1-3."""
        network = ResNetGenerator(3, 3)
        assert layers(network) == [
            (3, 64, 1), (64, 128, 2), (128, 256, 2), *[(256, 256, 1)] * 18, (256, 128, 2),
            (128, 64, 2), (64, 3, 1),
        ]  # fmt: skip
        assert sum(isinstance(m, nn.InstanceNorm2d) for m in network.modules()) == 5 + 18

    @pytest.mark.parametrize("normalization", ["none", "batch", "instance"])
    def test_images_to_images(self, normalization):
        torch.manual_seed(0)
        network = ResNetGenerator(2, 3, width=4, num_blocks=2, normalization=normalization).double()
        x = torch.randn(3, 2, 16, 8, dtype=torch.float64)
        y = network(x)
        assert y.shape == (3, 3, 16, 8)
        assert y.abs().max() <= 1
        y.square().sum().backward()
        assert all(weight.grad.isfinite().all() for weight in network.parameters())

    def test_edges_are_mirrored(self):
        """Of a constant image each pixel of the mirroring layers is one of the middle; with zeros
        around, those at the edge would differ. The layers of other strides see zeros."""
        torch.manual_seed(0)
        network = ResNetGenerator(1, 1, width=2, num_blocks=1, normalization="none")
        first, block = network.layers[0], network.layers[6]
        features = first(torch.ones(1, 1, 8, 8))
        torch.testing.assert_close(features, features[..., :1, :1].expand_as(features))
        features = block(torch.ones(1, 8, 4, 4))
        torch.testing.assert_close(features, features[..., :1, :1].expand_as(features))

    @pytest.mark.parametrize("shape", [(1, 1, 8, 4), (1, 1, 10, 8), (1, 2, 8, 8), (1, 8, 8)])
    def test_images_that_do_not_fit(self, shape):
        network = ResNetGenerator(1, 1, width=2, num_blocks=1)
        assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
        with pytest.raises(ValueError, match="sides of at least 8 that are multiples of 4"):
            network(torch.zeros(shape))

    def test_options_that_do_not_fit(self):
        with pytest.raises(ValueError, match="num_blocks is 0"):
            ResNetGenerator(1, 1, num_blocks=0)
        with pytest.raises(ValueError, match="normalization is 'layer'"):
            ResNetGenerator(1, 1, normalization="layer")


class TestPatches:
    @pytest.mark.parametrize(("num_scales", "size"), [(1, 16), (2, 34), (3, 70), (4, 142)])
    def test_a_logit_sees_one_patch(self, num_scales, size):
        """The pixels whose change moves the logit in the middle are a square of that side."""
        torch.manual_seed(0)
        network = PatchDiscriminator(
            1, num_scales=num_scales, width=2, normalization="none"
        ).double()
        assert network.patch_size == size
        side = 2 ** (num_scales + 1) * (size // 2**num_scales)
        x = torch.randn(1, 1, side, side, dtype=torch.float64, requires_grad=True)
        logits = network(x)
        middle = logits.shape[2] // 2
        logits[0, 0, middle, middle].backward()
        for axis in (0, 1):
            seen = (x.grad[0, 0] != 0).any(axis).nonzero().flatten()
            assert len(seen) == seen[-1] - seen[0] + 1 == size

    def test_it_is_that_of_the_source(self):
        """C64-C128-C256-C512 of the 70×70 discriminator, with pairs of six channels."""
        network = PatchDiscriminator(6)
        assert layers(network) == [
            (6, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 1), (512, 1, 1),
        ]  # fmt: skip
        normed = [any(isinstance(m, nn.BatchNorm2d) for m in stage) for stage in network.stages]
        assert normed == [False, True, True, True]
        assert network(torch.zeros(2, 6, 256, 256)).shape == (2, 1, 30, 30)

    def test_features_are_those_of_its_layers(self):
        torch.manual_seed(0)
        network = PatchDiscriminator(1, num_scales=2, width=4, normalization="instance")
        x = torch.randn(2, 1, 32, 24)
        features = network.features(x)
        assert [tuple(f.shape) for f in features] == [(2, 4, 16, 12), (2, 8, 8, 6), (2, 16, 7, 5)]
        torch.testing.assert_close(network.last(features[-1]), network(x))

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"num_scales": 0}, "num_scales is 0"), ({"normalization": "group"}, "is 'group'; exp")],
    )
    def test_what_does_not_fit_is_told(self, options, message):
        with pytest.raises(ValueError, match=message):
            PatchDiscriminator(1, **options)
