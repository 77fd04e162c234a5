"""Named features, and the Inception network of the FID."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gencore.metrics import (
    ClassifierFeatures,
    InceptionFeatures,
    distance_name,
    extract_features,
    feature_name,
    pixel_features,
)


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


class TestNames:
    def test_only_inception_features_make_an_fid(self) -> None:
        with torch.device("meta"):
            inception = InceptionFeatures()
        assert distance_name("Fréchet distance", inception) == "FID"
        assert distance_name("kernel distance", inception) == "KID"
        for features in (pixel_features, nn.Flatten(), ClassifierFeatures(1, 2)):
            for distance in ("Fréchet distance", "kernel distance"):
                name = distance_name(distance, features)
                assert name == f"{distance} on {feature_name(features)}"

    def test_a_classifier_is_named_with_its_accuracy(self) -> None:
        classifier = ClassifierFeatures(1, 2)
        assert feature_name(classifier) == "a classifier"
        classifier.test_accuracy = 0.9749
        assert feature_name(classifier) == "a classifier with 97.5 % test accuracy"


class TestExtraction:
    def test_batches_make_no_difference(self) -> None:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        x = images(10, 3, 2, 2) / 255
        features = extract_features(x, module, batch_size=3)
        assert not features.requires_grad
        torch.testing.assert_close(features, module(x).detach())

    @pytest.mark.parametrize(
        ("features", "message"),
        [
            (lambda x: x, "shape (4, 1, 2, 2)"),
            (lambda x: x.flatten(1)[:2], "expected floating point [4, D]"),
            (lambda x: x.flatten(1).long(), "features of torch.int64"),
            (lambda x: x.flatten(1) / 0, "NaN or infinite"),
        ],
    )
    def test_bad_features(self, features, message) -> None:
        with pytest.raises(ValueError, match=f"^extract_features: .*{re.escape(message)}"):
            extract_features(torch.ones(4, 1, 2, 2), features)


@pytest.fixture(scope="module")
def inception() -> InceptionFeatures:
    """A network with random weights whose activations keep their size."""
    torch.manual_seed(0)
    network = InceptionFeatures()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def weights(inception: InceptionFeatures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(inception.state_dict(), path)
    return path


class TestInception:
    def test_weights_come_from_a_file(
        self, inception: InceptionFeatures, weights: Path, tmp_path: Path
    ) -> None:
        x = images(1, 3, 20, 30)
        loaded = InceptionFeatures.from_file(weights)
        features = loaded(x)
        assert features.shape == (1, 2048)
        assert torch.equal(features, inception(x))
        assert not any(parameter.requires_grad for parameter in loaded.parameters())

        safetensors = pytest.importorskip("safetensors.torch")
        # Files of older PyTorch lack the counters of batch normalisation.
        state = {k: v for k, v in inception.state_dict().items() if "batches" not in k}
        safetensors.save_file(state, tmp_path / "weights.safetensors")
        loaded = InceptionFeatures.from_file(tmp_path / "weights.safetensors")
        for name, tensor in state.items():
            assert torch.equal(loaded.state_dict()[name], tensor)

    def test_it_stays_in_evaluation_mode(self, inception: InceptionFeatures) -> None:
        assert not any(module.training for module in inception.train().modules())

    def test_the_number_of_parameters(self) -> None:
        """Inception-v3 without its auxiliary head: 21,785,568, and 1008 outputs."""
        with torch.device("meta"):
            network = InceptionFeatures()
        convolutions = sum(p.numel() for n, p in network.named_parameters() if "fc" not in n)
        assert convolutions == 21_785_568
        assert network.fc.weight.shape == (1008, 2048)

    def test_a_file_of_another_network_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "other.pth"
        with torch.device("meta"):
            state = InceptionFeatures().state_dict()
        state = {k: torch.zeros(0) for k in state}
        state["AuxLogits.fc.weight"] = state.pop("fc.bias")
        torch.save(state, path)
        with pytest.raises(ValueError, match=r"1 missing \(fc\.bias\)") as error:
            InceptionFeatures.from_file(path)
        assert "1 unknown (AuxLogits.fc.weight)" in str(error.value)
        assert "of another shape (Conv2d_1a_3x3.bn.bias, " in str(error.value)
        torch.save([1, 2], path)
        with pytest.raises(ValueError, match="holds a list, expected a state dict"):
            InceptionFeatures.from_file(path)
        with pytest.raises(FileNotFoundError):
            InceptionFeatures.from_file(tmp_path / "none.pth")

    def test_no_code_in_a_file_is_run(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
        with pytest.raises(Exception, match=r"[Ww]eights"):
            InceptionFeatures.from_file(tmp_path / "module.pth")

    def test_preprocessing(self) -> None:
        with torch.device("meta"):
            networks = {
                name: InceptionFeatures(name).double() for name in ("tensorflow", "pytorch")
            }
        for network in networks.values():
            network.fc.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        x = images(1, 3, 299, 299)
        exact = networks["tensorflow"]._preprocess(x)
        torch.testing.assert_close(exact, (x.double() - 128) / 128)
        torch.testing.assert_close(networks["tensorflow"]._preprocess(x.double() / 255), exact)
        torch.testing.assert_close(networks["pytorch"]._preprocess(x), x.double() / 127.5 - 1)
        # A ramp: output i lies at i·H/299 or (i + ½)·H/299 − ½, held at the ends.
        ramp = torch.arange(60, dtype=torch.uint8).view(1, 1, 60, 1).expand(1, 3, 60, 40)
        i = torch.arange(299, dtype=torch.float64)
        column = networks["tensorflow"]._preprocess(ramp)[0, 0, :, 0] * 128 + 128
        torch.testing.assert_close(column, (i * 60 / 299).clamp(max=59))
        column = (networks["pytorch"]._preprocess(ramp)[0, 0, :, 0] + 1) * 127.5
        torch.testing.assert_close(column, ((i + 0.5) * 60 / 299 - 0.5).clamp(0, 59))

    def test_bad_input(self, inception: InceptionFeatures) -> None:
        with pytest.raises(ValueError, match=r"^InceptionFeatures: images have shape \(1, 1, 8"):
            inception(torch.zeros(1, 1, 8, 8))
        with pytest.raises(ValueError, match="preprocessing is 'keras'"):
            InceptionFeatures("keras")  # type: ignore[arg-type]
