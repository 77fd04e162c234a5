"""Streams: what they decode to, how long they are, and that their bytes stay what they are."""

import hashlib
import math

import pytest
import torch
from testing.coding import Certain, Neighbours, Uniform, information, stream_by_definition, walk

from gencore.compression import CompressedFileError, decode_images, encode_images

pytest.importorskip("constriction")


IMAGES = {
    "digits": (Neighbours((1, 8, 8), 16), walk(200, (1, 8, 8), 16)),
    "colours": (Neighbours((3, 5, 7), 256), walk(9, (3, 5, 7), 256)),
    "bits": (Neighbours((1, 9, 4), 2), walk(33, (1, 9, 4), 2)),
    "one value": (Neighbours((1, 1, 1), 5), torch.tensor([[[[3]]]])),
    "black": (Neighbours((3, 8, 8), 256), torch.zeros(4, 3, 8, 8, dtype=torch.int64)),
    "white": (Neighbours((3, 8, 8), 256), torch.full((4, 3, 8, 8), 255)),
    "noise": (
        Neighbours((1, 16, 16), 256),
        torch.randint(256, (5, 1, 16, 16), generator=torch.Generator().manual_seed(2)),
    ),
    "what is certain": (Certain((3, 16, 16), 256), torch.zeros(50, 3, 16, 16, dtype=torch.int64)),
    "what hardly is": (Certain((1, 4, 4), 256), torch.full((3, 1, 4, 4), 255)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_come_back_from_as_many_bits_as_they_have(name):
    session, x = IMAGES[name]
    data = encode_images(session, x)
    assert decode_images(session, len(x), x.shape[1:], data).equal(x)
    assert encode_images(session, x.to(torch.uint8)) == data
    bits = information(session, x)
    assert 8 * len(data) >= bits
    assert 8 * len(data) <= 1.01 * bits + 64


@pytest.mark.parametrize("levels", [2, 16, 100, 256])
def test_uniform_levels_take_their_logarithm(levels):
    session = Uniform((1, 32, 32), levels)
    x = torch.randint(levels, (20, 1, 32, 32), generator=torch.Generator().manual_seed(1))
    bits = 8 * len(encode_images(session, x))
    assert bits == pytest.approx(x.numel() * math.log2(levels), abs=64)


@pytest.mark.parametrize("name", IMAGES)
def test_a_stream_is_that_of_exact_arithmetic(name):
    """The coder uses the frequencies as they are, and rounds nothing."""
    session, x = IMAGES[name]
    x = x[:9]
    words = torch.frombuffer(bytearray(encode_images(session, x)), dtype=torch.int32)
    assert [word % 2**32 for word in words.tolist()] == stream_by_definition(session, x)


def test_the_stream_is_that_of_all_versions():
    """A file must stay readable: the same bytes from every release of constriction and of ours."""
    session, x = Neighbours((1, 8, 8), 16), walk(3, (1, 8, 8), 16)
    data = encode_images(session, x)
    assert hashlib.sha256(data).hexdigest()[:16] == "ea8869219a6b3389"


def test_there_may_be_thousands_of_levels():
    """As of the codes of a code book."""
    session, x = Neighbours((1, 4, 4), 3000), 7 * walk(10, (1, 4, 4), 400)
    assert decode_images(session, 10, (1, 4, 4), encode_images(session, x)).equal(x)


def test_a_session_sees_the_same_positions_on_both_sides():
    asked = []

    class Watched(Neighbours):
        def frequencies(self, x, begin, end):
            asked.append((begin, end))
            if end - begin == 1:  # what is not known must not matter
                later = torch.arange(self.positions) >= begin
                x = x.permute(0, 2, 3, 1).flatten(1).masked_fill(later, 9)
                x = x.view(-1, 2, 3, 1).permute(0, 3, 1, 2)
            return super().frequencies(x, begin, end)

    session, x = Watched((1, 2, 3), 16), walk(2, (1, 2, 3), 16)
    data = encode_images(session, x)
    assert asked == [(0, 6)]
    asked.clear()
    assert decode_images(session, 2, (1, 2, 3), data).equal(x)
    assert asked == [(i, i + 1) for i in range(6)]


def test_ranges_of_positions_do_not_matter(monkeypatch):
    session, x = IMAGES["colours"]
    data = encode_images(session, x)
    monkeypatch.setattr("gencore.compression.coder._SESSION_CHUNK", 10 * 9 * 256)
    monkeypatch.setattr("gencore.compression.coder._CODER_CHUNK", 3 * 9 * 256)
    assert encode_images(session, x) == data


def test_no_images_are_no_bytes():
    session = Uniform((1, 2, 2), 4)
    x = torch.zeros(0, 1, 2, 2, dtype=torch.int64)
    assert encode_images(session, x) == b""
    assert decode_images(session, 0, (1, 2, 2), b"").equal(x)


def test_damaged_streams():
    session, x = IMAGES["digits"]
    data = encode_images(session, x)
    for wrong in (data[:-3], data + bytes(8), data + data):
        with pytest.raises(CompressedFileError):
            decode_images(session, len(x), (1, 8, 8), wrong)


def test_wrong_input():
    session = Uniform((1, 2, 2), 4)
    x = torch.zeros(3, 1, 2, 2, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"encode_images: x is torch\.float32; expected levels"):
        encode_images(session, x.float())
    with pytest.raises(ValueError, match=r"levels from 0 to 4; expected 0 to 3"):
        encode_images(session, x.index_fill(0, torch.tensor(1), 4))
    with pytest.raises(ValueError, match=r"levels from -1 to 0; expected 0 to 3"):
        encode_images(session, x.index_fill(0, torch.tensor(1), -1))
    with pytest.raises(ValueError, match=r"shape \[1, 2, 3\] do not have 4 positions"):
        encode_images(session, torch.zeros(3, 1, 2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"shape \[1, 2, 3\] do not have 4 positions"):
        decode_images(session, 3, (1, 2, 3), b"")
    with pytest.raises(ValueError, match=r"expected \[N, C, H, W\]"):
        encode_images(session, x[0])


@pytest.mark.parametrize(
    "table",
    [
        torch.full((3, 4, 4), 2**22),
        torch.full((3, 4, 4), 2**22 - 1, dtype=torch.int32),
        torch.tensor([2**24, 0, 0, 0], dtype=torch.int32).expand(3, 4, 4),
        torch.full((3, 4, 5), 2**22, dtype=torch.int32),
    ],
    ids=["int64", "another sum", "a level that cannot be", "another shape"],
)
def test_a_session_that_breaks_its_word(table):
    session = Uniform((1, 2, 2), 4)
    session.frequencies = lambda x, begin, end: table[:, begin:end]
    with pytest.raises(ValueError, match=r"Uniform\.frequencies: "):
        encode_images(session, torch.zeros(3, 1, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"Uniform\.frequencies: "):
        decode_images(session, 3, (1, 2, 2), bytes(4))
