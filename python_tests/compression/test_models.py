"""Compression by the models themselves."""

import math

import pytest
import torch
from testing.coded_models import MODELS, SHAPE, images, make
from testing.command_line import run
from torch import nn

from gencore.compression import CompressedFileError, compress, decompress, encode_images
from gencore.compression.container import read_container
from gencore.models import PixelCNN

pytest.importorskip("constriction")


@pytest.mark.parametrize("name", MODELS)
def test_images_come_back_from_as_many_bits_as_the_model_says(name):
    model = make(name)
    x = images(model.likelihood.levels)
    data = compress(model, x)
    assert decompress(model, data).equal(x)
    with torch.no_grad():
        log_prob = model.double().log_prob(x)
    # Frequencies are at least 1, so that no level is less probable than 2^-24.
    bits = -log_prob.sum().item() / math.log(2)
    assert log_prob.min() > -24 * math.log(2) * math.prod(SHAPE)
    (stream,) = read_container(data).streams
    assert bits <= 8 * len(stream) <= 1.01 * bits + 64


def test_a_model_of_equal_logits_takes_8_bits_a_value():
    model = PixelCNN(SHAPE, channels=6, num_layers=1, levels=256)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    x = images(256)
    size = 8 * len(encode_images(model.coding_session(len(x)), x))
    assert 8 * x.numel() <= size <= 8 * x.numel() + 64


DECODE = """
import sys, torch
from pathlib import Path
from testing.coded_models import MODELS, images, make
from gencore.compression import compress, decompress
torch.set_num_threads(int(sys.argv[2]))
for name in MODELS:
    model, data = make(name), Path(sys.argv[1], name).read_bytes()
    x = images(model.likelihood.levels)
    print(decompress(model, data).equal(x), compress(model, x) == data)
"""


@pytest.mark.slow
def test_other_processes_threads_and_instruction_sets_decode(tmp_path, environment):
    for name in MODELS:
        model = make(name)
        (tmp_path / name).write_bytes(compress(model, images(model.likelihood.levels)))
    nonsense = run({**environment, "GENCORE_CPU_LEVEL": "none"}, "-c", "import gencore.ops")
    levels = nonsense.stderr.rsplit("expected one of: ", 1)[1].split("\n")[0].split(", ")
    for level, threads in [(level, 1) for level in levels] + [(levels[0], 3)]:
        there = {**environment, "GENCORE_CPU_LEVEL": level}
        del there["OMP_NUM_THREADS"]
        done = run(there, "-c", DECODE, str(tmp_path), str(threads))
        assert done.stdout == "True True\n" * len(MODELS), done.stderr


def test_a_conditional_model_needs_its_context():
    torch.manual_seed(0)
    model = PixelCNN(SHAPE, channels=6, num_layers=1, levels=16, context_channels=2)
    x, context = images(16), torch.randn(12, 2)
    data = compress(model, x, context=context, images_per_stream=5)
    assert decompress(model, data, context=context).equal(x)
    with pytest.raises(CompressedFileError, match=r"is damaged|decodes to other levels"):
        decompress(model, data, context=context + 1)
