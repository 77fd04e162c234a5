"""What runs need of their data: all of it before the first step, none of it to draw samples, and
the same contents whenever they go on."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from testing.image_testing import random_pixels

from gencore import cli
from gencore.recipes.ebm.ebm import EBMRecipe
from gencore.train import fit

pytest.importorskip("sklearn")
pytest.importorskip("lightning_fabric")
Image = pytest.importorskip("PIL.Image")

SMALL = {
    "glow": ["--num-steps", "1", "--hidden-channels", "4"],
    "ebm": ["--chain-steps", "2"],
}


def train(name: str, data: Path | str, out: Path, *words: str) -> int:
    options = ["--batch-size", "4", "--steps", "2", "--num-evaluate", "20", "--accelerator", "cpu"]
    command = ["train", name, "--data", str(data), "--out", str(out), *options, *SMALL[name]]
    return cli.main([*command, *words])


def sample(run: str, out: str) -> int:
    return cli.main(["sample", run, "--num", "6", "--out", out, "--accelerator", "cpu"])


def save(path: Path, *shape: int) -> Path:
    np.save(path, random_pixels(*shape))
    return path


class TestBeforeTheFirstStep:
    @pytest.mark.parametrize("name", ["ebm", "glow"])
    @pytest.mark.parametrize(
        ("test", "message"),
        [
            (None, "no images for the test part"),
            (random_pixels(8, 8, 8, 3), "test images of 3 x 8 x 8 .*training images of 1 x 8 x 8"),
            (random_pixels(8, 16, 16), "test images of 1 x 16 x 16 .*training images of 1 x 8 x 8"),
            (random_pixels(8, 8, 8) / 255, "x_test: dtype float64"),
        ],
    )
    def test_a_bad_test_part_is_refused(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        name: str,
        test: np.ndarray | None,
        message: str,
    ) -> None:
        arrays = {"x_train": random_pixels(20, 8, 8)} | ({} if test is None else {"x_test": test})
        np.savez(tmp_path / "a.npz", **arrays)
        assert train(name, tmp_path / "a.npz", tmp_path / "run") == 2
        found = capsys.readouterr().err
        assert re.search(message, found), found
        assert "--num-evaluate 0 train without test images" in found
        assert not (tmp_path / "run").exists()
        none = ["--num-samples", "0", "--num-evaluate", "0"]
        assert train(name, tmp_path / "a.npz", tmp_path / "run", *none) == 0

    def test_grey_test_images_of_a_set_in_colours(self, tmp_path: Path) -> None:
        for part, channels in (("train", (3,)), ("test", ())):
            (tmp_path / part).mkdir()
            for i in range(4):
                Image.fromarray(random_pixels(8, 8, *channels)).save(tmp_path / part / f"{i}.png")
        assert train("ebm", tmp_path, tmp_path / "run") == 0

    def test_few_images(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data = save(tmp_path / "few.npy", 5, 8, 8)
        assert train("glow", data, tmp_path / "glow") == 0
        assert (tmp_path / "glow" / "loss.png").is_file()
        assert (tmp_path / "glow" / "figures" / "interpolation.png").is_file()
        assert train("ebm", data, tmp_path / "ebm") == 2
        assert "the test part is 1 image, but the measures need at" in capsys.readouterr().err
        assert train("ebm", data, tmp_path / "ebm", "--num-evaluate", "0") == 0
        assert cli.main(["evaluate", str(tmp_path / "ebm")]) == 2
        digits = tmp_path / "digits"
        assert train("ebm", "digits", digits, "--num-evaluate", "1") == 2
        assert "--num-evaluate is 1 image" in capsys.readouterr().err

    def test_one_training_image(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", train=random_pixels(1, 8, 8), test=random_pixels(1, 8, 8))
        assert train("glow", tmp_path / "a.npz", tmp_path / "run") == 0
        assert "bits_per_dim/test" in (tmp_path / "run" / "metrics.json").read_text()

    @pytest.mark.parametrize("labels", [[3] * 20, [-1, 2**62] * 10])
    def test_any_labels_are_measured(self, tmp_path: Path, labels: list[int]) -> None:
        np.savez(tmp_path / "a.npz", images=random_pixels(20, 8, 8), labels=labels)
        assert train("ebm", tmp_path / "a.npz", tmp_path / "run") == 0
        measures = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert ("frechet_classifier/samples" in measures) == (len(set(labels)) > 1)

    def test_large_images_have_no_covariance_of_pixels(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gencore.recipes.image_samples_experiment._MAX_PIXELS", 63)
        assert train("ebm", "digits", tmp_path / "run") == 0
        measures = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert {name.partition("/")[0] for name in measures if "/" in name} == {
            "frechet_classifier"
        }

    def test_packages_that_draw(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"needs the package matplotlib: pip install"):
            fit(EBMRecipe(steps=1), tmp_path / "run", accelerator="cpu")
        assert not (tmp_path / "run").exists()


class TestTheRunsFolder:
    @pytest.mark.parametrize("words", [["ebm"], ["glow"], ["glow", "--class-conditional"]])
    def test_samples_need_no_data(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        np.savez("mine.npz", images=random_pixels(40, 8, 8, 3), labels=np.arange(40) % 3 * 2 + 1)
        assert train(words[0], "mine.npz", Path("run"), *words[1:], "--num-evaluate", "0") == 0
        config = Path("run/config.json").read_text()
        Path("run/config.json").write_text(json.dumps({**json.loads(config), "data": {}}))
        assert sample("run", "with.npy") == 0  # builds the flow from the data, as older runs do
        Path("run/config.json").write_text(config)
        Path("mine.npz").unlink()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert sample("../run", "../without.npy") == 0
        with_data, without = (np.load(tmp_path / f"{name}.npy") for name in ("with", "without"))
        assert with_data.shape == (6, 3, 8, 8)
        np.testing.assert_array_equal(with_data, without)
        assert sample("../run", "../figure.png") == 0

    def test_data_are_found_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the path that was given, from another folder, and where the user says they are now."""
        monkeypatch.chdir(tmp_path)
        data = save(Path("mine.npy"), 40, 8, 8)
        assert train("glow", data, Path("run")) == 0
        shutil.copytree("run", "other")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert cli.main(["evaluate", "../run", "--num", "9"]) == 0
        resume = ["train", "glow", "--resume", "--accelerator", "cpu"]
        assert cli.main([*resume, "--out", "../run", "--steps", "3"]) == 0
        (tmp_path / "mine.npy").rename(tmp_path / "moved.npy")
        assert cli.main([*resume, "--out", "../run", "--steps", "4"]) == 2
        for out in ("../run", "../other"):
            assert cli.main([*resume, "--out", out, "--steps", "4", "--data", "../moved.npy"]) == 0
        logs = [(tmp_path / out / "log.csv").read_text() for out in ("run", "other")]
        assert logs[0].splitlines()[-1] == logs[1].splitlines()[-1]

    def test_other_data_at_the_same_path(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data, run = save(tmp_path / "mine.npy", 40, 8, 8), tmp_path / "run"
        assert train("glow", data, run) == 0
        before = (run / "log.csv").read_text()
        np.save(data, 255 - np.load(data))
        assert train("glow", data, run, "--resume", "--steps", "4") == 2
        assert "--data is not what the run in" in capsys.readouterr().err
        assert cli.main(["evaluate", str(run)]) == 2
        assert (run / "log.csv").read_text() == before
        # A run from before there were fingerprints, or whose user means the new data, goes on.
        config = json.loads((run / "config.json").read_text())
        del config["data"]
        (run / "config.json").write_text(json.dumps(config))
        assert cli.main(["sample", str(run), "--out", str(tmp_path / "a.npy")]) == 0
        moved = str(save(tmp_path / "moved.npy", 40, 8, 8))
        assert train("glow", moved, run, "--resume", "--steps", "4") == 2
        assert train("glow", data, run, "--resume", "--steps", "4") == 0
        config = json.loads((run / "config.json").read_text())
        assert len(config["data"]["fingerprint"]) == 64

    def test_a_damaged_description(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        assert train("ebm", "digits", run, "--num-evaluate", "0", "--num-samples", "0") == 0
        config = json.loads((run / "config.json").read_text())
        for damage in ([1], {"shape": "big", "classes": None}, {"shape": [1, 8, 8]}):
            (run / "config.json").write_text(json.dumps({**config, "data": damage}))
            assert cli.main(["sample", str(run)]) == 2
            assert "config.json is damaged: " in capsys.readouterr().err
