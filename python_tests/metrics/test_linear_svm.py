"""The linear support vector machine on features."""

import pytest
import torch

from gencore.metrics import linear_svm_error

pytest.importorskip("sklearn")


def blobs(num, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 3
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    return centres[labels] + spread * torch.randn(num, 2, generator=generator), labels


def test_what_a_line_separates_has_no_error_and_noise_has_that_of_chance():
    assert linear_svm_error(blobs(90, 0.3, 0), blobs(300, 0.3, 1), strengths=(1.0,)) == 0
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(300, 2, generator=generator)
    train = torch.randn(90, 2, generator=generator), torch.arange(90) % 3
    error = linear_svm_error(train, (noise, torch.arange(300) % 3), strengths=(1.0,))
    assert error == pytest.approx(2 / 3, abs=4.5 * (2 / 9 / 300) ** 0.5)


def test_the_scale_and_the_place_of_the_features_mean_nothing():
    train, test = blobs(60, 1.5, 0), blobs(300, 1.5, 1)
    moved = [(1e4 * x - 300, labels) for x, labels in (train, test)]
    for strengths in ((0.1,), (0.01, 1.0)):
        expected = linear_svm_error(train, test, strengths=strengths)
        assert linear_svm_error(*moved, strengths=strengths) == pytest.approx(expected, abs=0.01)


def test_wrong_input_is_named():
    x, labels = blobs(30, 1.0, 0)
    with pytest.raises(ValueError, match=r"test has features \[30, 2\] and labels \[29\]"):
        linear_svm_error((x, labels), (x, labels[1:]))
    with pytest.raises(ValueError, match=r"strengths are \(0\.0,\); expected positive"):
        linear_svm_error((x, labels), (x, labels), strengths=(0.0,))
    with pytest.raises(ValueError, match="training labels have 1 classes"):
        linear_svm_error((x, 0 * labels), (x, labels))
