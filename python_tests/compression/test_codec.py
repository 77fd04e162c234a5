"""Files: what they decode to, how large they are, and which faults are noticed."""

import re
import subprocess
import sys

import pytest
import torch
from testing.coding import Certain, Neighbours, Uniform, information, walk
from torch import nn

from gencore.compression import CompressedFileError, compress, decompress
from gencore.compression.codec import model_fingerprint
from gencore.compression.container import CompressedFile, read_container, write_container
from gencore.models import PixelCNNPlusPlus

pytest.importorskip("constriction")

MODEL = Neighbours((1, 8, 8), 16)
X = walk(50, (1, 8, 8), 16)


def test_files_have_the_size_that_is_promised():
    data = compress(MODEL, X, images_per_stream=20)
    assert decompress(MODEL, data).equal(X)
    parts = [information(MODEL.coding_session(len(x)), x) for x in X.split(20)]
    streams = read_container(data).streams
    for stream, bits in zip(streams, parts, strict=True):
        assert bits <= 8 * len(stream) <= 1.01 * bits + 64
    assert len(data) - sum(map(len, streams)) <= 30 + 3 * 8
    assert compress(MODEL, X.to(torch.uint8), images_per_stream=20) == data


@pytest.mark.parametrize(("first", "num"), [(0, 50), (19, 2), (40, 10), (25, 0), (3, None)])
def test_a_part_of_the_images_is_decoded(first, num, monkeypatch):
    data = compress(MODEL, X, images_per_stream=20)
    opened = []
    open_session = Neighbours.coding_session
    monkeypatch.setattr(
        Neighbours, "coding_session", lambda m, n, c=None: opened.append(n) or open_session(m, n, c)
    )
    end = 50 if num is None else first + num
    assert decompress(MODEL, data, first=first, num=num).equal(X[first:end])
    assert len(opened) == len({i // 20 for i in range(first, end)})


def test_no_images():
    data = compress(MODEL, X[:0])
    assert len(data) == 27
    assert decompress(MODEL, data).shape == (0, 1, 8, 8)


def test_a_condition_is_needed_on_both_sides():
    context = torch.arange(50) % 3
    data = compress(MODEL, X, context=context, images_per_stream=20)
    assert decompress(MODEL, data, context=context).equal(X)
    assert decompress(MODEL, data, context=context, first=45).equal(X[45:])
    with pytest.raises(CompressedFileError, match=r"stream is damaged|decodes to other levels"):
        decompress(MODEL, data)
    for other in (context[:3], torch.arange(70), context[0]):
        shape = re.escape(str(list(other.shape)))
        message = f"context has shape {shape}; expected a row for each of the 50 images"
        with pytest.raises(ValueError, match=f"decompress: {message}"):
            decompress(MODEL, data, context=other)
        with pytest.raises(ValueError, match=f"compress: {message}"):
            compress(MODEL, X, context=other, images_per_stream=20)


def test_another_process_decodes(tmp_path, environment):
    torch.save(X, tmp_path / "x.pt")
    (tmp_path / "file").write_bytes(compress(MODEL, X))
    program = (
        "import sys, torch; from pathlib import Path; from gencore.compression import decompress;"
        "from testing.coding import Neighbours; folder = Path(sys.argv[1]);"
        "x = decompress(Neighbours((1, 8, 8), 16), (folder / 'file').read_bytes());"
        "print(x.equal(torch.load(folder / 'x.pt')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr


# Faults


DATA = compress(MODEL, X, images_per_stream=20)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 12, 15, 20, 30, 39, len(DATA) // 2, -4, -1])
def test_a_file_that_is_cut_short(length):
    cause = "cut short" if length else "empty"
    with pytest.raises(CompressedFileError, match=f"the file is {cause}"):
        decompress(MODEL, DATA[:length])


def test_every_flipped_bit_is_noticed():
    for place in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(CompressedFileError, match=r"damaged|no file of gencore compress"):
            decompress(MODEL, bytes(damaged))


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no file of gencore compress: it starts with b'.x89P"),
        (b"hi", "no file of gencore compress: it starts with b'hi'"),
        (DATA + b"more", "4 bytes follow the end of the compressed file"),
        (DATA[:4] + b"\x02" + DATA[5:], "has version 2 of the format, .* reads 1"),
    ],
    ids=["a PNG", "a text", "something at the end", "a newer version"],
)
def test_a_foreign_file(data, cause):
    with pytest.raises(CompressedFileError, match=cause):
        decompress(MODEL, data)


def claim(shape, num, images_per_stream, words=1):
    """A file whose check sums are right, of this model."""
    streams = [bytes(4 * words)] if images_per_stream else []
    return write_container(
        CompressedFile(
            model_fingerprint(MODEL), shape, num, images_per_stream, streams, [0] * len(streams)
        )
    )


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (claim((1, 8, 8), 50, 0), "is damaged: it has 0 images a stream"),
        (claim((1, 8, 8), 0, 0), "is damaged: it has 0 images a stream"),
        (claim((1, 8, 8), 2**40, 2**40), "stream of 4 bytes cannot hold 1099511627776 images of 1"),
        (claim((1, 8, 8), 1, 1, words=0), "stream of 0 bytes cannot hold 1 images of 1x8x8"),
        (claim((1, 8, 8), 2**40, 1), "is cut short or damaged"),
        (claim((1, 16, 4), 1, 1), "another model: .*, of images of 1x16x4; this .* of 1x8x8"),
        (claim((1, 0, 8), 2**40, 2**40), "another model: .*, of images of 1x0x8; this .* of 1x8x8"),
    ],
    ids=[
        "no images a stream",
        "no images at all",
        "more than a stream can hold",
        "no bytes",
        "more streams than there are",
        "another shape",
        "an empty shape",
    ],
)
def test_a_head_that_cannot_be_true(data, cause):
    with pytest.raises(CompressedFileError, match=cause):
        decompress(MODEL, data)


def test_what_a_stream_can_hold():
    """32 bits are 32·ln 2·2^24 = 372 130 559 values of a frequency of all but 1 in 2^24."""
    assert read_container(claim((1, 1, 1), 372_130_000, 2**40)).num == 372_130_000
    with pytest.raises(CompressedFileError, match="a stream of 4 bytes cannot hold 372131000 im"):
        read_container(claim((1, 1, 1), 372_131_000, 2**40))
    certain = Certain((1, 1, 1), 2)
    for num in (1, 1000):
        x = torch.zeros(num, 1, 1, 1, dtype=torch.int64)
        assert decompress(certain, compress(certain, x)).equal(x)


def test_models_that_differ_by_their_levels_alone():
    first, few, many = (
        PixelCNNPlusPlus((3, 4, 4), channels=4, num_resnets=1, num_scales=1, levels=levels)
        for levels in (16, 16, 256)
    )
    few.load_state_dict(first.state_dict())
    many.load_state_dict(first.state_dict())
    assert model_fingerprint(first) == model_fingerprint(few) != model_fingerprint(many)


@pytest.mark.parametrize(
    "other",
    [
        Neighbours((1, 8, 8), 16, spread=4),
        Neighbours((1, 8, 16), 16),
        Neighbours((1, 8, 8), 256),
        Uniform((1, 8, 8), 16),
    ],
    ids=["other weights", "another size", "other levels", "another class"],
)
def test_another_model(other):
    with pytest.raises(CompressedFileError, match="compressed with another model: that of finger"):
        decompress(other, DATA)


def test_other_arithmetic_of_the_same_weights():
    other = Neighbours((1, 8, 8), 16)
    other.coding_session = lambda num, context=None: Uniform((1, 8, 8), 16)
    with pytest.raises(CompressedFileError, match=r"is damaged|is whole, but decodes to other"):
        decompress(other, DATA)


def test_wrong_input():
    with pytest.raises(TypeError, match="compress: Linear has no coding_session and image_shape"):
        compress(nn.Linear(1, 1), X)
    with pytest.raises(TypeError, match=r"compress: x is torch\.float32; expected levels"):
        compress(MODEL, X.float())
    with pytest.raises(ValueError, match=r"x has shape \[50, 1, 8, 4\]; expected \['N', 1, 8, 8\]"):
        compress(MODEL, X[..., :4])
    with pytest.raises(ValueError, match="levels from 0 to 16; expected 0 to 15"):
        compress(MODEL, X + 16 * (X == 15) - 15 * (X == 15))
    with pytest.raises(ValueError, match="images_per_stream is 0; expected at least 1"):
        compress(MODEL, X, images_per_stream=0)
    with pytest.raises(ValueError, match="the images 40 to 51 are asked for, but the file has 50"):
        decompress(MODEL, DATA, first=40, num=11)
