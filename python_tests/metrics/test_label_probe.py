"""The probe of labels: what a code tells it finds, what it does not is chance."""

import pytest
import torch

from gencore.metrics import label_probe_error

G = torch.Generator().manual_seed(0)
LABELS = torch.randint(4, (4000,), generator=G) * 10  # labels need not be 0, 1, 2, …
NOISE = torch.randn(4000, 3, generator=G)


def probe(codes, **options):
    return label_probe_error(codes[:2000], LABELS[:2000], codes[2000:], LABELS[2000:], **options)


def test_noise_tells_nothing():
    """The error has the deviation (¾·¼/2000)^½ = 0.0097 around ¾."""
    assert probe(NOISE) == pytest.approx(0.75, abs=4 * 0.0097)


def test_a_scaled_code_tells_all():
    codes = torch.cat([NOISE, 1e-4 * LABELS[:, None] + 3], 1)
    assert probe(codes) <= 0.005


def test_the_error_of_a_noisy_code_is_that_of_bayes():
    """Two classes at ±1 with unit noise: Φ(−1) = 0.159, its deviation 0.008."""
    labels = (LABELS >= 20).long()
    codes = 2 * labels[:, None] - 1 + NOISE[:, :1]
    error = label_probe_error(codes[:2000], labels[:2000], codes[2000:], labels[2000:])
    assert error == pytest.approx(0.1587, abs=4 * 0.0082)


def test_what_is_no_line_is_found():
    """The label is the sign of a product, which no linear classifier finds."""
    labels = (NOISE[:, 0] * NOISE[:, 1] > 0).long()
    error = label_probe_error(NOISE[:2000], labels[:2000], NOISE[2000:], labels[2000:])
    assert error < 0.06


def test_it_is_the_same_again():
    assert probe(NOISE, max_steps=50) == probe(NOISE, max_steps=50)


def test_refusals():
    with pytest.raises(ValueError, match=r"codes have shape \[4000\]"):
        label_probe_error(NOISE[:, 0], LABELS, NOISE, LABELS)
    with pytest.raises(ValueError, match="there are 3 training codes; expected at least 5"):
        label_probe_error(NOISE[:3], LABELS[:3], NOISE, LABELS)
