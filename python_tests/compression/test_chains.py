"""Models that code images in parts: latents, classes or smaller images, and then the pixels."""

import math

import pytest
import torch
from testing.chain_models import GREY, MODELS, Recorder, bits_by_definition, images, make
from testing.coding import walk
from testing.command_line import run
from torch import nn

from gencore.compression import (
    AGAVEModel,
    ClassConditionalModel,
    CompressedFileError,
    DARNModel,
    MultiScaleModel,
    VQVAEModel,
    bits_back,
    compress,
    decompress,
)
from gencore.compression.codec import model_fingerprint
from gencore.compression.container import read_container
from gencore.compression.exact_context import session_given
from gencore.models import (
    AGAVE,
    DARN,
    VQVAE,
    AuxiliaryVAE,
    FullResolutionTarget,
    GatedPixelCNN,
    GrayscaleDecoder,
    MultiScalePixelRNN,
    PixelCNN,
    PixelCNNPlusPlus,
)
from gencore.nn import DiscretizedLogistic, ImageDecoder, ImageEncoder

pytest.importorskip("constriction")


IN_PARTS = [name for name in MODELS if name != "darn"]


@pytest.mark.parametrize("name", IN_PARTS)
def test_images_come_back_from_as_many_bits_as_the_parts_have(name):
    model = make(name)
    x = images(model)
    data = compress(model, x)
    assert decompress(model, data).equal(x)
    assert decompress(model, data, first=3, num=2).equal(x[3:5])
    recorder = Recorder()
    with torch.no_grad():
        assert model.code(recorder, len(x), x).equal(x)
    (stream,) = read_container(data).streams
    assert recorder.bits <= 8 * len(stream) <= 1.01 * recorder.bits + 64
    bits = bits_by_definition(name, model, x, recorder.parts)
    assert recorder.bits == pytest.approx(bits, rel=3e-4)


@pytest.mark.parametrize("name", MODELS)
def test_files_that_are_cut_short_damaged_or_of_another_model(name):
    model = make(name)
    x = images(model)
    data = compress(model, x, images_per_stream=4)
    damaged = bytearray(data)
    damaged[-20] ^= 4
    for wrong in (data[:-3], data[: len(data) // 2], bytes(damaged), b"GIF89a"):
        with pytest.raises(CompressedFileError):
            decompress(model, wrong)
    network = getattr(model, "network", None) or model.model
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.01)
    with pytest.raises(CompressedFileError, match="compressed with another model"):
        decompress(model, data)


DECODE = """
import sys, torch
from pathlib import Path
from testing.chain_models import MODELS, images
from gencore.compression import decompress
torch.set_num_threads(int(sys.argv[2]))
for name in MODELS:
    path = Path(sys.argv[1], name)
    model = torch.load(path.with_suffix(".pt"), weights_only=False)
    print(name, decompress(model, path.read_bytes()).equal(images(model)))
"""


@pytest.mark.slow
def test_other_processes_threads_and_instruction_sets_decode(tmp_path, environment):
    for name in MODELS:
        model = make(name)
        (tmp_path / name).write_bytes(compress(model, images(model)))
        torch.save(model, tmp_path / f"{name}.pt")  # torch's random weights differ as well
    for level, threads in [("x86_64_v2", 1), ("x86_64_v3", 3)]:
        # torch's own kernels too: the sums of those of the context differ.
        there = {**environment, "GENCORE_CPU_LEVEL": level, "ATEN_CPU_CAPABILITY": "default"}
        del there["OMP_NUM_THREADS"]
        done = run(there, "-c", DECODE, str(tmp_path), str(threads))
        assert done.stdout == "".join(f"{name} True\n" for name in MODELS), done.stderr


def test_features_of_a_context_have_no_order():
    """Channels of the context in another order give the same frequencies; in torch's arithmetic
    they do not."""
    torch.manual_seed(0)
    model = PixelCNN(GREY, 8, 2, levels=256, context_channels=100).eval()
    x, context = walk(5, GREY, 256), 3 * torch.randn(5, 100)
    exact = session_given(model, 5, context).frequencies(x, 0, 16)
    plain = model.coding_session(5, context).frequencies(x, 0, 16)
    order = torch.randperm(100)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d) and layer.in_channels == 100:
                layer.weight.copy_(layer.weight[:, order])
    assert session_given(model, 5, context[:, order]).frequencies(x, 0, 16).equal(exact)
    assert not model.coding_session(5, context[:, order]).frequencies(x, 0, 16).equal(plain)
    assert (exact - plain).abs().max() < 2**24 * 1e-4


# Classes


def test_classes_that_are_not_given_make_images_the_shortest():
    model = make("classes")
    x = images(model)
    best = Recorder()
    with torch.no_grad():
        model.code(best, len(x), x)
        bits = []
        for label in model.labels:
            recorder = Recorder()
            model.code(recorder, len(x), x, torch.full((len(x),), label))
            bits.append([recorder.bits, recorder.parts[0].unique().tolist()])
    assert [places for _, places in bits] == [[0], [1], [2]]
    assert best.bits <= min(total for total, _ in bits) + 1e-3
    assert len(best.parts[0].unique()) > 1


def test_a_single_class_takes_no_bits():
    torch.manual_seed(0)
    network = PixelCNN(GREY, 4, 1, levels=8, context_channels=2)
    context = torch.tensor([[0.5, -1.0]])
    model, x = ClassConditionalModel(network, context), walk(9, GREY, 8)
    data = compress(model, x)
    assert decompress(model, data).equal(x)
    alone = compress(network, x, context=context.expand(9, 2))
    assert abs(len(data) - len(alone)) <= 4


def test_the_classes_belong_to_the_model():
    torch.manual_seed(0)
    network = PixelCNN(GREY, 4, 1, levels=8, context_channels=2)
    one = ClassConditionalModel(network, torch.eye(2))
    other = ClassConditionalModel(network, torch.eye(2), labels=[3, 4])
    assert model_fingerprint(one) != model_fingerprint(other)
    with pytest.raises(ValueError, match="there is no class 2; the classes are 0, 1"):
        compress(one, walk(2, GREY, 8), context=torch.tensor([0, 2]))
    for labels in ([], [1], [1, 1]):
        with pytest.raises(ValueError, match="2 contexts have the labels"):
            ClassConditionalModel(network, torch.eye(2), labels=labels)


# Latents


@pytest.mark.parametrize("num", [1, 2, 60])
def test_images_of_darn_come_back_from_as_many_bits_as_are_not_had_back(num, monkeypatch):
    """log2 q(h | x) - log2 p(x, h), and what the first latents are taken from."""
    model = make("darn")
    x = torch.randint(2, (num, *GREY), generator=torch.Generator().manual_seed(0))
    drawn, num_starts = [], []
    joint, start = DARNModel.joint, bits_back._start

    def recorded(self, code, num, x=None, h=None):
        drawn.append((x, h))
        return joint(self, code, num, x, h)

    monkeypatch.setattr(DARNModel, "joint", recorded)
    monkeypatch.setattr(bits_back, "_start", lambda n: num_starts.append(n) or start(n))
    data = compress(model, x)
    parts = []
    while sum(len(images) for images, _ in parts) < num:  # of the last attempt alone
        parts.append(drawn.pop())
    network, bits = model.model.double(), 32 * num_starts[-1]
    with torch.no_grad():
        for images, h in parts:
            images = images.flatten(1)
            nats = network.log_posterior(h, images) - network.log_joint(images, h)
            bits += nats.sum().item() / math.log(2)
    model = make("darn")
    assert decompress(model, data).equal(x)
    (stream,) = read_container(data).streams
    assert bits - 1 <= 8 * len(stream) <= 1.01 * bits + 64
    assert num_starts[-1] <= 6


def test_latents_of_darn_are_draws_of_the_encoder(monkeypatch):
    """How often each bit is 1 in 2,000 images, against the encoder's probabilities."""
    model = make("darn")
    x, drawn = torch.randint(2, (1, *GREY)).expand(2000, *GREY), []
    joint = DARNModel.joint

    def recorded(self, code, num, x=None, h=None):
        drawn.append(h)
        return joint(self, code, num, x, h)

    monkeypatch.setattr(DARNModel, "joint", recorded)
    compress(model, x, images_per_stream=2000)
    h = torch.cat(drawn)[-2000:]
    with torch.no_grad():
        p = torch.sigmoid(model.model.encoders[0](model.model.inputs(x[:1].flatten(1))))[0]
    error = (h[:, :6].double().mean(0) - p).abs()
    assert (error < 4.5 * (p * (1 - p) / 2000).sqrt() + 1e-4).all()


def test_streams_of_bits_back_that_no_encoder_makes():
    model = make("darn")
    x = torch.randint(2, (20, *GREY))
    data = bits_back.encode_bits_back(model, x)
    assert bits_back.decode_bits_back(model, 20, data).equal(x)
    for wrong in (data[:-2], data[:-4], data[4:], b"", bytes(8), bytes(4) + data[4:]):
        with pytest.raises(CompressedFileError, match=r"the stream is damaged|whole words of 4"):
            bits_back.decode_bits_back(model, 20, wrong)


def test_a_stream_of_agave_has_the_best_grid():
    """Latents that matter little lie on a coarse grid, those that matter more on a finer one."""
    numbers = []
    for scale in (0.0, 1.0, 30.0):
        model = make("agave_with_stack")
        with torch.no_grad():
            model.model.vae.decoder.first.weight.mul_(scale)
        x = images(model)
        recorder = Recorder()
        with torch.no_grad():
            model.code(recorder, len(x), x)
        numbers.append(recorder.parts[0].item())
    assert numbers[0] == 0
    assert sorted(numbers) == numbers


# VQ-VAE


@pytest.mark.parametrize("has_prior", [False, True])
def test_codes_of_a_vq_vae_come_back(has_prior):
    torch.manual_seed(0)
    autoencoder = VQVAE((3, 8, 8), 16, 11, 4, downsampling=2).eval()
    prior = None
    if has_prior:
        prior = GatedPixelCNN((1, 4, 4), 8, 2, levels=11, embedding=4).eval()
    model = VQVAEModel(autoencoder, prior)
    x = walk(20, (3, 8, 8), 256)
    codes = model.encode(x)
    data = compress(model.codes, codes)
    assert decompress(model.codes, data).equal(codes)
    with torch.no_grad():
        bits = -autoencoder.log_prior(codes[:, 0], prior).sum().item() / math.log(2)
    (stream,) = read_container(data).streams
    assert 0.999 * bits <= 8 * len(stream) <= 1.01 * bits + 64
    decoded = model.decode(codes)
    assert (decoded - autoencoder.reconstruct(x)).abs().max() <= 0.5 + 1e-4
    assert decoded.min() >= 0
    assert decoded.max() <= 255
    with pytest.raises(CompressedFileError, match="cut short"):
        decompress(model.codes, data[:-1])
    with torch.no_grad():
        next(autoencoder.decoder.parameters()).add_(1)
    with pytest.raises(CompressedFileError, match="another model"):
        decompress(model.codes, data)


# Wrong models


def test_models_that_cannot_code():
    logistic = MultiScalePixelRNN(GREY, 4, 1, likelihood=DiscretizedLogistic(8))
    with pytest.raises(ValueError, match="DiscretizedLogistic; expected Categorical"):
        MultiScaleModel(logistic)
    for shape in ((1, 3, 3), (4, 2, 2)):
        with pytest.raises(
            ValueError, match=r"image_shape is .* \[1, H, W\] of the 16 coordinates"
        ):
            DARNModel(DARN(16, (3,)), shape)
    prior = GatedPixelCNN((1, 2, 2), 8, 2, levels=11)
    with pytest.raises(ValueError, match="the prior has images"):
        VQVAEModel(VQVAE((3, 8, 8), 16, 11, 4, downsampling=2), prior)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("classes")])
def test_a_context_that_is_none(name):
    model = make(name)
    x = images(model)
    with pytest.raises(ValueError, match="got a context; expected none"):
        compress(model, x, context=torch.zeros(len(x), 1))


def test_decoders_of_agave_that_are_not_exact():
    shape = (3, 4, 4)
    x = walk(3, shape, 8)

    def vae(*layers):
        decoder = nn.Sequential(ImageDecoder(2, shape), *layers)
        return AuxiliaryVAE(ImageEncoder(shape, 4), decoder, FullResolutionTarget(shape, 8), 2)

    pixels = GatedPixelCNN(shape, 6, 1, levels=8, channel_groups=1, context_channels=3)
    with pytest.raises(ValueError, match="AGAVEModel: the operation native_group_norm cannot be c"):
        compress(AGAVEModel(AGAVE(vae(nn.GroupNorm(1, 3)), pixels).eval()), x)
    grey = AGAVEModel(AGAVE(vae(), GrayscaleDecoder(pixels)).eval())
    with pytest.raises(ValueError, match=r"GrayscaleDecoder\.plan: luma is not compiled"):
        compress(grey, x)


def test_a_map_as_context_of_several_scales():
    model = PixelCNNPlusPlus(
        GREY, 6, num_resnets=1, num_scales=2, levels=8, context_channels=2
    ).eval()
    x, context = walk(3, GREY, 8), torch.randn(3, 2, *GREY[1:])
    data = compress(model, x, context=context)
    assert decompress(model, data, context=context).equal(x)
