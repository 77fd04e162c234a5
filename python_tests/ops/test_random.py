"""Philox against its published answers, and its normals against the normal distribution."""

import math
import os
import subprocess
import sys

import pytest
import torch

import gencore._C
from gencore.ops import backend, philox_normal, philox_words, random_key, split_key
from gencore.ops.random import philox_uniform

# Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, output.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

NORMAL_COUNT = 1 << 22


def key_of(seed: int, offset: int, device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.tensor([seed, offset], dtype=torch.int64, device=device)


@pytest.fixture(scope="module")
def normals(device) -> torch.Tensor:
    return philox_normal((NORMAL_COUNT,), key_of(2022, 6, device)).double().cpu()


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_known_answers(counter, key, answer):
    assert tuple(gencore._C.philox4x32_10(counter, key)) == answer


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize(
    ("seed", "offset", "first"),
    [(0, 0, 0), (1, 2, 3), (-1, 2**63 - 1, 2**40 + 6), (0x123456789ABCDEF, 2**35 + 1, 2**34 - 5)],
)
def test_words_are_the_generators(name, seed, offset, first, device):
    with backend(name):
        words = philox_words((131,), key_of(seed, offset, device), first_element=first)
    halves = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    for place, word in enumerate(words.tolist()):
        block, lane = divmod(first + place, 4)
        counter = (block & 0xFFFFFFFF, block >> 32, offset & 0xFFFFFFFF, offset >> 32)
        assert word == gencore._C.philox4x32_10(counter, halves)[lane]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_normals_match_the_reference(dtype, device):
    key = key_of(9, 1, device)
    ours = philox_normal((3, 1001), key, dtype=dtype, first_element=7)
    with backend("reference"):
        reference = philox_normal((3, 1001), key, dtype=dtype, first_element=7)
    tolerance = {torch.float64: 1e-13, torch.float32: 3e-6}.get(dtype, torch.finfo(dtype).eps * 4)
    torch.testing.assert_close(ours, reference, atol=tolerance, rtol=tolerance)


def test_all_dtypes_see_the_same_noise(device):
    key = key_of(9, 1, device)
    exact = philox_normal((1 << 20,), key, dtype=torch.float64)
    single = philox_normal((1 << 20,), key).double()
    difference = (exact - single).abs()
    # With u rounded to 24 bits, r = sqrt(-2 ln u) moves by up to sqrt(2^-24 * 2) near u = 1, and by
    # 2^-25 / r elsewhere; r < 4 keeps clear of the tail, where 31 bits of u are few.
    bulk = (exact.view(-1, 2).norm(dim=1) < 4).repeat_interleave(2)
    assert bulk.double().mean() > 0.999
    assert difference[bulk].max() < math.sqrt(2**-23)
    assert (difference > 1e-6).double().mean() < 1e-2
    assert difference.max() < 0.5
    half = philox_normal((1 << 20,), key, dtype=torch.float16)
    assert torch.equal(half, single.half())
    assert torch.equal(philox_normal((1 << 20,), key, dtype=torch.bfloat16), single.bfloat16())


def test_moments_are_those_of_the_normal(normals):
    # Standard errors of the sample moments: Var(x^k) = E x^2k - (E x^k)^2.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        error = (normals**power).mean().item() - mean
        assert abs(error) < 4 * math.sqrt(variance / NORMAL_COUNT), power


@pytest.mark.parametrize("threshold", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_tails_have_their_mass(threshold, device):
    count = 1 << 25 if threshold > 4 else NORMAL_COUNT
    expected = math.erfc(threshold / math.sqrt(2)) * count
    found = 0
    for draw in range(count // NORMAL_COUNT):
        values = philox_normal((NORMAL_COUNT,), key_of(77, draw, device))
        found += int((values.abs() > threshold).sum())
    assert abs(found - expected) < 4 * math.sqrt(expected)


def test_distribution_function_is_the_normals(normals):
    # Kolmogorov-Smirnov: P(D sqrt(n) > 1.95) = 0.001.
    ordered = normals.sort().values
    cdf = 0.5 * torch.erfc(-ordered / math.sqrt(2))
    steps = torch.arange(NORMAL_COUNT + 1, dtype=torch.float64) / NORMAL_COUNT
    distance = torch.maximum((cdf - steps[:-1]).abs(), (steps[1:] - cdf).abs()).max()
    assert distance * math.sqrt(NORMAL_COUNT) < 1.95


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8, 64, 256])
def test_elements_are_independent(normals, lag):
    a, b = normals[:-lag], normals[lag:]
    bound = 4 / math.sqrt(a.numel())
    assert abs((a * b).mean()) < bound
    assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 2 * bound  # E (x^2 - 1)^2 = 2


@pytest.mark.parametrize("change", [(0, 1), (0, 2), (0, 1 << 32), (1, 0), (1 << 32, 0)])
def test_draws_and_seeds_are_independent(normals, change, device):
    other = philox_normal((NORMAL_COUNT,), key_of(2022 + change[0], 6 + change[1], device))
    other, bound = other.double().cpu(), 4 / math.sqrt(NORMAL_COUNT)
    assert abs((normals * other).mean()) < bound
    assert abs(((normals**2 - 1) * (other**2 - 1)).mean()) < 2 * bound
    assert abs((normals[1:] * other[:-1]).mean()) < bound


def test_words_are_uniform(device):
    words = philox_words((1 << 20,), key_of(5, 5, device)).cpu()
    for shift in (0, 12, 24):
        counts = torch.bincount((words >> shift) & 0xFF, minlength=256).double()
        expected = (1 << 20) / 256
        statistic = ((counts - expected) ** 2 / expected).sum().item()
        assert abs(statistic - 255) < 4 * math.sqrt(2 * 255)  # chi^2 with 255 degrees of freedom


@pytest.mark.parametrize("first", [1, 2, 3, 5, 62, 67])
def test_any_part_equals_the_whole(first, device):
    key = key_of(1, 1, device)
    for dtype in (torch.float32, torch.float64):
        whole = philox_normal((300,), key, dtype=dtype)
        part = philox_normal((200,), key, dtype=dtype, first_element=first)
        assert torch.equal(part, whole[first : first + 200])


def test_keys_come_from_the_generator():
    torch.manual_seed(0)
    first = random_key()
    torch.manual_seed(0)
    assert torch.equal(random_key(), first)
    assert torch.equal(random_key(torch.Generator().manual_seed(0)), first)
    assert not torch.equal(random_key(), first)


def test_split_keys_count_the_draws():
    keys = split_key(key_of(3, 40), 4)
    assert [k.tolist() for k in keys] == [[3, 40], [3, 41], [3, 42], [3, 43]]
    assert split_key(key_of(3, 40), 0) == ()


def test_random_ops_pass_opcheck(device):
    key = key_of(1, 2, device)
    for dtype in (torch.float64, torch.bfloat16):
        torch.library.opcheck(torch.ops.gencore.philox_normal.default, (key, [3, 5], dtype, 1))
    torch.library.opcheck(torch.ops.gencore.philox_words.default, (key, [3, 5], 1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: philox_normal((2,), torch.zeros(2)), ValueError, "key must be an int64"),
        (lambda: philox_normal((2,), 3), TypeError, "key must be an int64"),
        (lambda: philox_normal((2,), key_of(0, 0), dtype=torch.int32), TypeError, "torch.int32"),
        (lambda: philox_normal((2,), key_of(0, 0), first_element=-4), ValueError, "-4"),
        (lambda: philox_words((2,), torch.zeros(3).long()), ValueError, r"shape \[3\]"),
        (lambda: philox_uniform((2,), key_of(0, 0), dtype=torch.half), TypeError, "torch.float16"),
        (lambda: split_key(key_of(0, 0), -1), ValueError, "num must not be negative"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


_LEVEL_PROGRAM = """
import sys, torch, gencore._C
from gencore.ops import philox_normal, langevin_step
torch.set_num_threads(1)
key = torch.tensor([4, 2])
x = philox_normal((999,), key, dtype=torch.float64)
y = langevin_step(x.float(), x.float(), 0.1, key=key, clamp=(-2, 2))
h = langevin_step(x.half(), x.half(), 0.1, key=key)
b = langevin_step(x.bfloat16(), x.bfloat16(), 0.1, key=key)
print(gencore._C.cpu_level)
torch.save([x, y, h, b], sys.argv[1])
"""


def run_level(level: str, target) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _LEVEL_PROGRAM, str(target)],
        env={**os.environ, "GENCORE_CPU_LEVEL": level},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_instruction_set_levels_agree(tmp_path):
    run = run_level("nonsense", tmp_path / "none")
    assert run.returncode != 0
    assert "GENCORE_CPU_LEVEL=nonsense is not a level this processor runs" in run.stderr
    levels = run.stderr.rsplit("expected one of: ", 1)[1].split("\n")[0].split(", ")
    results = []
    for level in levels:
        run = run_level(level, tmp_path / level)
        assert run.stdout.strip() == level, run.stderr
        results.append(torch.load(tmp_path / level, weights_only=True))
    for other in results[1:]:
        for best, lower, tolerance in zip(
            results[0], other, (1e-12, 3e-6, 2.0**-10, 2.0**-7), strict=True
        ):
            torch.testing.assert_close(best, lower, rtol=tolerance, atol=max(tolerance, 3e-6) / 4)
