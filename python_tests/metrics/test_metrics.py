"""The Fréchet distance against closed forms, and the statistics that go into it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gencore.data import ImageDataset, load_images, to_float
from gencore.metrics import (
    ClassifierFeatures,
    GaussianMoments,
    StreamingMoments,
    frechet_distance,
    gaussian_moments,
    independent_pixels,
    pixel_features,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def rotation(dim: int, seed: int = 0) -> Tensor:
    q: Tensor = torch.linalg.qr(randn(dim, dim, seed=seed)).Q
    return q


def gaussian(covariance: Tensor, mean: Tensor | None = None) -> GaussianMoments:
    return GaussianMoments(torch.zeros(len(covariance)) if mean is None else mean, covariance, 100)


class TestFrechetDistance:
    def test_of_a_set_to_itself_is_zero(self) -> None:
        x = randn(300, 10) @ randn(10, 10, seed=1)
        scale = x.var(0).sum().item()
        assert frechet_distance(x, x) == pytest.approx(0, abs=1e-13 * scale)

    def test_of_a_shift_is_its_squared_length(self) -> None:
        x, shift = randn(300, 10), randn(10, seed=1)
        assert frechet_distance(x, x + shift) == pytest.approx(shift.square().sum().item())

    def test_of_commuting_covariances(self) -> None:
        # Tr(A + B − 2 (AB)^{1/2}) = Σ (√a − √b)² where A and B have the same eigenvectors.
        q = rotation(6)
        a, b = torch.rand(2, 6, generator=seeded(), dtype=torch.float64)
        expected = (a.sqrt() - b.sqrt()).square().sum().item()
        distance = frechet_distance(gaussian(q @ a.diag() @ q.T), gaussian(q @ b.diag() @ q.T))
        assert distance == pytest.approx(expected)

    def test_of_any_two_covariances_in_the_plane(self) -> None:
        # A 2×2 matrix M with positive eigenvalues has Tr M^{1/2} = (Tr M + 2 (det M)^{1/2})^{1/2}.
        a, b = (m @ m.T for m in randn(2, 2, 2))
        product = a @ b
        root = (product.trace() + 2 * product.det().sqrt()).sqrt()
        expected = (a.trace() + b.trace() - 2 * root).item()
        assert frechet_distance(gaussian(a), gaussian(b)) == pytest.approx(expected)

    def test_of_covariances_of_rank_one(self) -> None:
        # For s·uuᵀ and t·vvᵀ with unit u, v: s + t − 2 √(st) |u·v|.
        u, v = torch.nn.functional.normalize(randn(2, 50), dim=1)
        a, b = 3.0 * torch.outer(u, u), 0.5 * torch.outer(v, v)
        expected = 3.0 + 0.5 - 2 * 1.5**0.5 * (u @ v).abs().item()
        assert frechet_distance(gaussian(a), gaussian(b)) == pytest.approx(expected, abs=1e-12)

    def test_of_fewer_samples_than_dimensions(self) -> None:
        x = randn(20, 100)
        assert frechet_distance(x, x) == pytest.approx(0, abs=1e-11)
        assert frechet_distance(x, x + 1) == pytest.approx(100)
        assert frechet_distance(x, 3 * x) == pytest.approx(
            4 * (x.mean(0).square().sum() + x.var(0).sum()).item()
        )

    def test_of_a_point_to_a_gaussian_is_its_second_moment(self) -> None:
        x = randn(30, 4)
        point = torch.zeros(5, 4, dtype=torch.float64)
        expected = (x.mean(0).square().sum() + x.var(0).sum()).item()
        assert frechet_distance(point, x) == pytest.approx(expected)

    def test_invariances(self) -> None:
        a, b = randn(40, 8), randn(60, 8, seed=1) @ randn(8, 8, seed=2) + 1
        distance, q = frechet_distance(a, b), rotation(8, seed=3)
        assert frechet_distance(b, a) == pytest.approx(distance)
        assert frechet_distance(a @ q + 7, b @ q + 7) == pytest.approx(distance)
        assert frechet_distance(1e-3 * a, 1e-3 * b) == pytest.approx(1e-6 * distance)
        assert frechet_distance(a.flip(0), b.flip(0)) == pytest.approx(distance)

    def test_arguments_of_every_kind_agree(self) -> None:
        images = torch.randint(0, 256, (80, 1, 3, 3), generator=seeded(), dtype=torch.uint8)
        a, b = images[:40], images[40:]
        expected = frechet_distance(a.double().flatten(1) / 255, b.double().flatten(1) / 255)
        streamed = StreamingMoments()
        streamed.update(pixel_features(a))
        for left in (a, to_float(a), gaussian_moments(a), streamed):
            assert frechet_distance(left, b) == pytest.approx(expected, rel=1e-5)

    def test_features_are_applied(self) -> None:
        a, b = randn(40, 1, 2, 2), randn(40, 1, 2, 2, seed=1)

        def first_pixel(images: Tensor) -> Tensor:
            return images[:, :, 0, 0]

        expected = frechet_distance(a[:, :, 0, 0], b[:, :, 0, 0])
        assert frechet_distance(a, b, first_pixel) == expected

    @pytest.mark.parametrize(
        ("a", "b", "message"),
        [
            (randn(9, 3), randn(9, 4), "features of dimension 3 and 4"),
            (randn(1, 3), randn(9, 3), r"shape \(1, 3\), expected \[N, ...\] with N ≥ 2"),
            (randn(9, 3), randn(9, 3) / 0, "NaN or infinite"),
            (gaussian(torch.eye(2) * torch.nan), randn(9, 2), "NaN or infinite"),
            (gaussian(torch.eye(3), torch.zeros(2)), randn(9, 2), r"expected \[D\] and \[D, D\]"),
            (StreamingMoments(), randn(9, 3), "0 vectors seen"),
        ],
    )
    def test_bad_input(self, a: Any, b: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            frechet_distance(a, b)


class TestStreamingMoments:
    @pytest.mark.parametrize("sizes", [[100], [1] * 100, [0, 99, 0, 1], [2, 30, 68]])
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_equal_the_one_shot_result_however_cut(self, sizes: list[int], offset: float) -> None:
        x = randn(100, 5) @ randn(5, 5, seed=1) + offset
        moments = StreamingMoments()
        for batch in torch.split(x, sizes):
            moments.update(batch)
        mean, covariance, num_samples = moments.result()
        assert num_samples == 100
        torch.testing.assert_close(mean, x.mean(0), rtol=1e-14, atol=1e-14)
        # The data near 1e6 are themselves rounded to 1e-10, here and in the one-shot result.
        torch.testing.assert_close(covariance, x.T.cov(), rtol=1e-9, atol=1e-9)

    def test_merged_processes_equal_one(self) -> None:
        x = randn(90, 4).float()
        one, other, whole = StreamingMoments(), StreamingMoments(), StreamingMoments()
        one.update(x[:60])
        other.update(x[60:])
        whole.update(x)
        one.merge(other)
        one.merge(StreamingMoments())
        torch.testing.assert_close(one.result(), whole.result(), rtol=1e-13, atol=1e-13)
        empty = StreamingMoments()
        empty.merge(whole)
        whole.update(x)  # what was merged is a copy
        torch.testing.assert_close(empty.result(), one.result(), rtol=1e-13, atol=1e-13)

    def test_sums_are_double(self) -> None:
        x = (1000 + randn(1000, 2)).float()
        moments = gaussian_moments(x, batch_size=7)
        assert moments.covariance.dtype == torch.float64
        torch.testing.assert_close(moments.covariance, x.double().T.cov(), rtol=1e-10, atol=0)

    @pytest.mark.parametrize(
        ("features", "error", "message"),
        [
            (torch.zeros(3, 4, dtype=torch.uint8), TypeError, "features are torch.uint8"),
            (torch.zeros(3), ValueError, r"shape \(3,\), expected \[N, D\]"),
            (torch.zeros(3, 5), ValueError, "dimension 5, expected 4"),
            (torch.full((3, 4), torch.inf), ValueError, "NaN or infinite"),
        ],
    )
    def test_bad_update_changes_nothing(self, features: Tensor, error: type, message: str) -> None:
        moments = StreamingMoments()
        moments.update(randn(6, 4))
        before = moments.result()
        with pytest.raises(error, match=message):
            moments.update(features)
        torch.testing.assert_close(moments.result(), before, rtol=0, atol=0)

    def test_a_single_vector_has_no_covariance(self) -> None:
        moments = StreamingMoments()
        moments.update(randn(1, 3))
        with pytest.raises(ValueError, match="1 vectors seen"):
            moments.result()


class TestPixelFeatures:
    def test_layout_and_range(self) -> None:
        images = torch.arange(12, dtype=torch.uint8).view(2, 1, 2, 3) * 20
        torch.testing.assert_close(pixel_features(images) * 255, images.flatten(1).float())
        assert pixel_features(images[:0]).shape == (0, 6)
        assert torch.equal(pixel_features(randn(3, 4)), randn(3, 4))

    @pytest.mark.parametrize(
        ("images", "error"),
        [(torch.zeros(2, 3).long(), TypeError), (torch.tensor(1.0), ValueError)],
    )
    def test_bad_input(self, images: Tensor, error: type) -> None:
        with pytest.raises(error, match="pixel_features: images"):
            pixel_features(images)


class TestIndependentPixels:
    num = 40_000

    def test_marginals_are_kept(self) -> None:
        # Pixel j takes level j with probability j/10, else level 100 + j.
        data = torch.stack(
            [torch.tensor([j] * j + [100 + j] * (10 - j), dtype=torch.uint8) for j in range(11)], 1
        ).view(10, 1, 1, 11)
        drawn = independent_pixels(data, self.num, seeded())
        assert drawn.shape == (self.num, 1, 1, 11)
        assert drawn.dtype == torch.uint8
        for j in range(11):
            pixel = drawn[:, 0, 0, j]
            assert set(pixel.tolist()) <= {j, 100 + j}
            # A relative frequency has the standard error √(p(1 − p)/num).
            p = j / 10
            error = (pixel == j).double().mean().item() - p
            assert abs(error) <= 5 * (p * (1 - p) / self.num) ** 0.5

    def test_correlations_are_gone(self) -> None:
        data = randn(500, 1).repeat(1, 12).view(500, 3, 2, 2)  # every pixel equal
        drawn = independent_pixels(data, self.num, seeded()).flatten(1)
        correlation = drawn.T.corrcoef() - torch.eye(12)
        # The correlation of independent variables has the standard error 1/√num.
        assert correlation.abs().max() < 5 / self.num**0.5

    def test_the_generator_governs(self) -> None:
        data = randn(50, 8)
        first, again = (independent_pixels(data, 9, seeded(4)) for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, independent_pixels(data, 9, seeded(5)))
        torch.manual_seed(4)
        assert torch.equal(first, independent_pixels(data, 9))
        assert independent_pixels(data, 0).shape == (0, 8)

    @pytest.mark.parametrize(
        ("data", "num", "message"),
        [(torch.zeros(0, 3), 2, "not empty"), (torch.zeros(3, 3), -1, "num = -1")],
    )
    def test_bad_input(self, data: Tensor, num: int, message: str) -> None:
        with pytest.raises(ValueError, match=f"independent_pixels: .*{message}"):
            independent_pixels(data, num)


@pytest.fixture(scope="module")
def digits() -> tuple[ImageDataset, ImageDataset]:
    pytest.importorskip("sklearn")
    return load_images("digits"), load_images("digits", split="test")


def fit(train: ImageDataset, test: ImageDataset, **options: Any) -> ClassifierFeatures:
    assert train.labels is not None
    return ClassifierFeatures.fit(train.images, train.labels, test.images, test.labels, **options)


@pytest.fixture(scope="module")
def classifier(digits: tuple[ImageDataset, ImageDataset]) -> ClassifierFeatures:
    return fit(*digits)


class TestClassifierFeatures:
    def test_the_classifier_has_learned(
        self, digits: tuple[ImageDataset, ImageDataset], classifier: ClassifierFeatures
    ) -> None:
        _, test = digits
        assert test.labels is not None
        assert classifier.test_accuracy is not None
        # Measured 0.972 to 0.978 over seeds; the standard error of 359 images is 0.009.
        assert classifier.test_accuracy > 0.94
        assert classifier.accuracy(test.images, test.labels) == classifier.test_accuracy
        assert f"test_accuracy={classifier.test_accuracy:.4f}" in repr(classifier)
        features = classifier(test.images)
        assert features.shape == (359, 64)
        torch.testing.assert_close(features, classifier(to_float(test.images)))

    @pytest.mark.parametrize("features", ["pixels", "classifier"])
    def test_held_out_digits_are_nearer_than_independent_pixels(
        self,
        digits: tuple[ImageDataset, ImageDataset],
        classifier: ClassifierFeatures,
        features: str,
    ) -> None:
        train, test = digits
        mapped: Callable[[Tensor], Tensor] = (
            classifier if features == "classifier" else pixel_features
        )
        baseline = independent_pixels(train.images, len(test), seeded())
        reference = gaussian_moments(train.images, mapped)
        held_out = frechet_distance(reference, test.images, mapped)
        assert 10 * held_out < frechet_distance(reference, baseline, mapped)

    def test_the_seed_governs_and_the_default_generator_is_left_alone(
        self, digits: tuple[ImageDataset, ImageDataset]
    ) -> None:
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = fit(*digits, num_steps=5)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        again, other = fit(*digits, num_steps=5), fit(*digits, num_steps=5, seed=1)
        for name, weight in first.named_parameters():
            assert torch.equal(weight, again.state_dict()[name])
            assert not torch.equal(weight, other.state_dict()[name])

    def test_labels_may_be_any_numbers(self, digits: tuple[ImageDataset, ImageDataset]) -> None:
        train, test = digits
        names = torch.tensor([-7, -1, 0, 3, 4, 5, 10, 2**40, 2**62, 2**63 - 1])
        assert train.labels is not None
        assert test.labels is not None
        plain = fit(train, test, num_steps=40)
        named = ClassifierFeatures.fit(
            train.images, names[train.labels], test.images, names[test.labels], num_steps=40
        )
        assert torch.equal(plain(test.images), named(test.images))
        assert plain.test_accuracy == named.test_accuracy
        unknown = torch.full_like(test.labels, 6)
        assert named.accuracy(test.images, unknown) == 0

    def test_gradients_reach_the_images_and_not_the_weights(
        self, digits: tuple[ImageDataset, ImageDataset], classifier: ClassifierFeatures
    ) -> None:
        images = to_float(digits[1].images[:4]).requires_grad_()
        classifier(images).sum().backward()
        assert images.grad is not None
        assert images.grad.abs().sum() > 0
        assert all(parameter.grad is None for parameter in classifier.parameters())

    def test_other_sizes_and_channels(self) -> None:
        images = torch.rand(20, 3, 13, 11, generator=seeded())
        model = ClassifierFeatures.fit(images, torch.arange(20) % 4, dim=7, num_steps=2)
        assert model(images).shape == (20, 7)
        assert model.test_accuracy is None

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((torch.zeros(4, 8, 8), torch.arange(4)), r"images have shape \(4, 8, 8\)"),
            ((torch.zeros(4, 1, 8, 8), torch.arange(5)), r"expected int64 of shape \(4,\)"),
            ((torch.zeros(4, 1, 8, 8), torch.zeros(4).long()), "one class"),
            ((torch.zeros(4, 1, 8, 8), torch.arange(4), torch.zeros(1, 1, 8, 8)), "give both"),
        ],
    )
    def test_bad_input(self, arguments: tuple[Any, ...], message: str) -> None:
        with pytest.raises(ValueError, match=f"ClassifierFeatures.*{message}"):
            ClassifierFeatures.fit(*arguments)
