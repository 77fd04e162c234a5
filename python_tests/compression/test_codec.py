"""Files: what they decode to, how large they are, and which faults are noticed."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from testing.coding import Neighbours, Uniform, information, walk
from torch import nn

from gencore.compression import CompressedFileError, compress, decompress
from gencore.compression.container import read_container, write_container

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


def test_heads_that_ask_for_what_cannot_be_are_damaged():
    content = read_container(compress(MODEL, X[:2]))
    for change, message in (
        ({"images_per_stream": 0}, "streams of 0 images"),
        ({"images_per_stream": 2**40, "num": 2**40}, "streams of 1099511627776 images"),
        ({"image_shape": (1, 4, 16)}, "images of 1x4x16, the model of 1x8x8"),
    ):
        with pytest.raises(CompressedFileError, match=message):
            decompress(MODEL, write_container(replace(content, **change)))


def test_no_images():
    data = compress(MODEL, X[:0])
    assert len(data) == 27
    assert decompress(MODEL, data).shape == (0, 1, 8, 8)


def test_a_condition_is_needed_on_both_sides():
    context = torch.arange(50) % 3
    data = compress(MODEL, X, context=context, images_per_stream=20)
    with pytest.raises(ValueError, match="compress: context has 3 rows; expected one for each"):
        compress(MODEL, X, context=context[:3])
    assert decompress(MODEL, data, context=context).equal(X)
    assert decompress(MODEL, data, context=context, first=45).equal(X[45:])
    with pytest.raises(CompressedFileError, match=r"stream is damaged|decodes to other levels"):
        decompress(MODEL, data)
    with pytest.raises(ValueError, match="context has 3 rows; expected one for each of the 50 im"):
        decompress(MODEL, data, context=context[:3])


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


@pytest.mark.parametrize(
    "other",
    [
        Neighbours((1, 8, 8), 16, spread=4),
        Neighbours((1, 8, 16), 16),
        Uniform((1, 8, 8), 16),
    ],
    ids=["other weights", "another size", "another class"],
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
