"""The recipe of captions: steps, measures, figures and the command line."""

import json
import math

import pytest
import torch
from testing.runs import train_with_a_stop

from gencore import cli
from gencore.recipes.language.caption_figures import attention_map
from gencore.recipes.language.captions import CaptionsRecipe
from gencore.train import Batch

fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "steps": 3, "batch_size": 4, "num_scenes": 12, "image_size": 16, "channels": 8,
    "feature_size": 6, "embedding_size": 5, "hidden_size": 7, "beam_width": 2,
}  # fmt: skip


def make(**options):
    recipe = CaptionsRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    return recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), recipe.load_data())


def batch_of(experiment, num=4):
    images = experiment.recipe.load_data().images[:num]
    return Batch(images, None, torch.arange(num))


class TestSteps:
    def test_the_loss_is_that_of_one_caption_of_each_scene(self):
        experiment = make()
        batch = batch_of(experiment)
        with torch.no_grad():
            log_prob = [
                experiment.model(experiment.captions[:4, j], batch.x / 255).sum(1) for j in range(4)
            ]
        torch.manual_seed(5)
        chosen = (batch.uniform(()) * 4).long()
        torch.manual_seed(5)
        loss = experiment.step(batch)["loss"]
        expected = -sum(log_prob[j][row] for row, j in enumerate(chosen.tolist())) / 4
        torch.testing.assert_close(loss, expected)

    def test_a_part_of_a_batch_has_its_captions(self):
        whole, parts = make(), make(accumulate=2)
        for experiment in (whole, parts):
            torch.manual_seed(1)
            experiment.scalars = experiment.step(batch_of(experiment))
        torch.testing.assert_close(parts.scalars, whole.scalars)


class TestMeasures:
    @pytest.fixture(autouse=True)
    def _package(self):
        pytest.importorskip("sacrebleu")

    def test_captions_of_the_scenes_are_all_right(self, monkeypatch):
        experiment = make()
        monkeypatch.setattr(experiment, "_write", lambda scenes: scenes.captions[:, 3])
        measures = experiment.evaluate(7)
        assert measures["bleu4"] == measures["true"] == 1
        # The opening's words are those of half of the references alone.
        assert 0.9 < measures["rouge_l"] <= 1

    def test_uniform_attention_has_the_area_of_the_boxes(self):
        """With equal scores of all regions; the words that name objects weigh each scene alike."""
        experiment = make()
        captioner = experiment.model.captioner
        for weight in (
            captioner.word_region.weight, captioner.region_weights.weight, captioner.region_bias,
        ):  # fmt: skip
            torch.nn.init.zeros_(weight)
        measures = experiment.evaluate(9)
        for name in ("correctness/given", "correctness_of_word/given"):
            assert measures[name] == pytest.approx(measures["correctness/uniform"], rel=1e-4)

    def test_without_regions_there_is_no_correctness(self):
        measures = make(regions="none").evaluate(5)
        assert list(measures) == ["nll", "bleu4", "cider_d", "rouge_l", "true"]
        assert measures["nll"] > math.log(4)  # the entropy of four captions that are as probable


def test_attention_maps_are_densities_of_the_regions():
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.25], [0.25, 0.5, 1.0, 1.0]]])
    maps = attention_map(torch.tensor([[[0.25, 0.75]]]), boxes, 4)[0, 0]
    expected = torch.zeros(4, 4)
    expected[0, :2] = 0.25 / 2
    expected[2:, 1:] = 0.75 / 6
    torch.testing.assert_close(maps, expected)


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
    recipe = CaptionsRecipe(**{**SMALL, "schedule": "constant"})
    train_with_a_stop(tmp_path, recipe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 12}, "channels is 12"),
        ({"image_size": 18}, "image_size is 18"),
        ({"image_size": 12}, "image_size is 12"),
        ({"num_scenes": 0}, "num_scenes is 0"),
        ({"regions": "none", "feedback": "none"}, "feedback is 'none', but it has an effect with"),
        ({"regions": "none", "region_state": False}, "region_state is False, but it has an"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"CaptionsRecipe: .*{message}"):
        CaptionsRecipe(**options)


def test_the_command_trains_samples_and_evaluates(tmp_path):
    pytest.importorskip("sacrebleu")
    out = tmp_path / "run"
    options = {**SMALL, "num_evaluate": 5, "num_samples": 3, "regions": "transformer"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["train", "captions", "--accelerator", "cpu", "--out", str(out), *words]) == 0
    assert "correctness/given" in json.loads((out / "metrics.json").read_text())
    for name in ("samples", "figures/attention", "figures/attention_of_word"):
        assert (out / f"{name}.png").is_file()
    assert cli.main(["evaluate", str(out), "--num", "6"]) == 0
    assert cli.main(["sample", str(out), "--num", "2", "--out", str(tmp_path / "two.png")]) == 0
