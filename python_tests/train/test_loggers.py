"""Loggers beside log.csv: each row once, whatever happens in between, and clear refusals."""

import json
import sys

import pytest
from testing.runs import train
from testing.toy_recipe import ToyRecipe

pytest.importorskip("lightning_fabric")

from lightning_fabric.loggers import CSVLogger
from lightning_fabric.loggers.logger import Logger

from gencore.train import Diverged, RunFolder
from gencore.train.logs import read_log


class MemoryLogger(Logger):
    """Keeps what it is given."""

    def __init__(self, version="one"):
        self.version_given, self.rows, self.params, self.status = version, [], [], []

    name = "memory"

    @property
    def version(self):
        return self.version_given

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics["loss"]))

    def log_hyperparams(self, params, *args, **kwargs):
        self.params.append(params)

    def finalize(self, status):
        self.status.append(status)


def rows_of(folder):
    log = read_log(folder / "log.csv")
    return [(int(step), loss) for step, loss in zip(log["step"], log["loss"], strict=True)]


def test_a_logger_sees_the_rows_of_the_log_and_the_recipe(tmp_path):
    logger = MemoryLogger()
    train(tmp_path, ToyRecipe(steps=4), loggers=["tensorboard", logger])
    assert logger.rows == rows_of(tmp_path)
    assert logger.status == ["success"]
    (params,) = logger.params
    assert params["recipe"] == "toy"
    assert params["learning_rate"] == 0.05


@pytest.mark.parametrize("checkpoint_every", [2, 10])
def test_a_resumed_run_sends_no_step_twice(tmp_path, checkpoint_every):
    # The run fails at step 4, beyond its checkpoint of step 2 or that of its start.
    logger = MemoryLogger()
    options = {"loggers": [logger], "checkpoint_every": checkpoint_every}
    with pytest.raises(Diverged):
        train(tmp_path, ToyRecipe(steps=6, diverge_at=4), **options)
    assert [step for step, _ in logger.rows] == [1, 2, 3]
    assert logger.status == ["failed"]
    train(tmp_path, ToyRecipe(steps=6), resume=True, **options)
    assert logger.rows == rows_of(tmp_path)
    assert len(logger.params) == 1


def test_after_a_second_crash_a_logger_may_know_more_than_the_log(tmp_path):
    logger = MemoryLogger()
    options = {"loggers": [logger], "checkpoint_every": 10}
    for first, failing in ((True, 6), (False, 3)):
        with pytest.raises(Diverged):
            train(tmp_path, ToyRecipe(steps=8, diverge_at=failing), resume=not first, **options)
    assert [step for step, _ in rows_of(tmp_path)] == [1, 2]
    train(tmp_path, ToyRecipe(steps=8), resume=True, **options)
    assert logger.rows == rows_of(tmp_path)
    assert len(logger.rows) == 8


class TunableRecipe(ToyRecipe):
    name = "toy"
    tunable = frozenset({"learning_rate"})


def test_with_other_settings_a_logger_sees_the_steps_anew(tmp_path):
    first, second = MemoryLogger("one"), MemoryLogger("two")
    with pytest.raises(Diverged):
        train(tmp_path, TunableRecipe(steps=6, diverge_at=4), checkpoint_every=2, loggers=[first])
    recipe = TunableRecipe(steps=6, learning_rate=0.02)
    train(tmp_path, recipe, resume=True, loggers=[second])
    assert [step for step, _ in second.rows] == [3, 4, 5, 6]
    assert second.rows == rows_of(tmp_path)[2:]
    assert second.params[0]["learning_rate"] == 0.02
    assert RunFolder(tmp_path).read_config()["logger_runs"]["MemoryLogger"]["id"] == "two"


def test_loggers_of_fabric_work(tmp_path):
    logger = CSVLogger(tmp_path / "mine", name="csv")
    train(tmp_path / "run", ToyRecipe(steps=3), loggers=[logger])
    text = (tmp_path / "mine/csv/version_0/metrics.csv").read_text()
    assert text.count("\n") == 4


@pytest.mark.parametrize("loggers", [[], ["none"]])
def test_without_loggers_there_is_log_csv_alone(tmp_path, loggers):
    train(tmp_path, ToyRecipe(steps=2), loggers=loggers)
    assert len(rows_of(tmp_path)) == 2
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize(
    ("loggers", "kind", "message"),
    [
        (["disk"], ValueError, "logger is 'disk'; expected one of tensorboard, wandb, mlflow"),
        (["none", "tensorboard"], ValueError, "the logger none excludes others"),
        ([3], TypeError, "a logger is a int; expected a name or an object with the methods"),
        (["wandb"], ModuleNotFoundError, "the logger wandb needs the package wandb: pip install w"),
        (["mlflow"], ModuleNotFoundError, "needs the package mlflow: pip install mlflow"),
    ],
)
def test_what_cannot_log_is_refused_before_the_folder_is_made(
    tmp_path, monkeypatch, loggers, kind, message
):
    for package in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(kind, match=message):
        train(tmp_path / "run", ToyRecipe(steps=2), loggers=loggers)
    assert not (tmp_path / "run").exists()


def test_a_logger_that_cannot_start_is_one_sentence(tmp_path, monkeypatch):
    package = type(sys)("wandb")
    package.__spec__ = type("Spec", (), {})()

    def init(**options):
        raise RuntimeError("no key")

    package.init = init
    monkeypatch.setitem(sys.modules, "wandb", package)
    with pytest.raises(ValueError, match=r"^the logger wandb cannot start: no key$"):
        train(tmp_path, ToyRecipe(steps=2), loggers=["wandb"])


# The packages themselves, where they are installed


def test_mlflow_goes_on_in_the_same_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = tmp_path / "run"
    train(run, ToyRecipe(steps=3), loggers=["mlflow"])
    train(run, ToyRecipe(steps=5), loggers=["mlflow"], resume=True)
    known = json.loads((run / "config.json").read_text())["logger_runs"]["mlflow"]["id"]
    client = mlflow.MlflowClient()
    history = client.get_metric_history(known, "loss")
    assert [(row.step, row.value) for row in history] == rows_of(run)
    assert client.get_run(known).info.status == "FINISHED"
    assert client.get_run(known).data.params["recipe"] == "toy"


def test_wandb_goes_on_in_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    train(run, ToyRecipe(steps=3), loggers=["wandb"])
    train(run, ToyRecipe(steps=5), loggers=["wandb"], resume=True)
    known = json.loads((run / "config.json").read_text())["logger_runs"]["wandb"]["id"]
    parts = list((run / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    assert all(part.name.endswith(known) for part in parts)
