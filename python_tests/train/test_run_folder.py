"""A run's folder: what is the run's, what is somebody else's, and who may write there now."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from testing.runs import train
from testing.toy_recipe import ToyRecipe

from gencore.atomic import replacing
from gencore.train import RunFolder, claim
from gencore.train.claim import Claim

pytest.importorskip("lightning_fabric")

RECIPE = ToyRecipe(steps=1)
PID = os.getpid()
NAMES = ("figures/fig1.pdf", "tensorboard/events", "log.csv", "samples.png", "metrics.json")


def contents(folder):
    """Path → bytes of every file below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


# Whose files


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("names", [NAMES, *([name] for name in NAMES), ["config.json"], ["a.txt"]])
def test_a_folder_of_somebody_elses_stays_as_it_is(tmp_path, names, overwrite):
    put(tmp_path, *names)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds files and no run \("):
        train(tmp_path, RECIPE, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_config_of_another_program_is_no_runs(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "fields": {}}')
    before = contents(tmp_path)
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OSError, match=r"holds files and no run|no run to resume"):
            train(tmp_path, RECIPE, **options)
    assert contents(tmp_path) == before


class DrawingRecipe(ToyRecipe):
    name = "drawing"
    drawn = ("a.png", "b.png")

    def build(self, fabric, dataset):
        experiment = super().build(fabric, dataset)

        def figures(folder):
            folder.mkdir(exist_ok=True)
            for name in self.drawn:
                (folder / name).write_text("drawn")

        experiment.figures = figures
        return experiment


def test_overwrite_removes_what_the_run_wrote_and_nothing_else(tmp_path, monkeypatch):
    train(tmp_path, DrawingRecipe(steps=2), checkpoint_every=1, keep_every=1)
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"a.png", "b.png"}
    mine = ["figures/fig1.pdf", "tensorboard/events.out.tfevents.1.host.2.0", "notes/log.csv",
            "checkpoint-best.safetensors", ".tmpabc123", "log.csv.bak"]  # fmt: skip
    put(tmp_path, *mine)
    monkeypatch.setattr(DrawingRecipe, "drawn", ("b.png", "c.png"))
    train(tmp_path, DrawingRecipe(steps=1), overwrite=True)
    assert {str(path.relative_to(tmp_path)) for path in contents(tmp_path)} - {*mine} == {
        "config.json", "log.csv", "loss.png", "samples.png", "metrics.json",
        "checkpoint.safetensors", "figures/b.png", "figures/c.png",
        *(f"tensorboard/{path.name}" for path in (tmp_path / "tensorboard").glob("*.gencore")),
    }  # fmt: skip
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert all((tmp_path / name).read_text() == "mine" for name in mine)
    train(tmp_path, RECIPE, overwrite=True)
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"fig1.pdf"}


def test_folders_behind_links_are_left_alone(tmp_path):
    train(tmp_path / "run", RECIPE)
    shared = tmp_path / "shared"
    (tmp_path / "run/tensorboard").rename(shared)
    (tmp_path / "run/tensorboard").symlink_to(shared)
    before = contents(shared)
    train(tmp_path / "run", RECIPE, overwrite=True)
    assert before.items() <= contents(shared).items()


def test_an_empty_name_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the run's folder has the empty name"):
        train("", RECIPE)
    assert not list(tmp_path.iterdir())
    train(".", RECIPE)  # the same folder, by a name that says so
    assert RunFolder(tmp_path).checkpoint.exists()


def test_a_refused_run_leaves_no_folder(tmp_path):
    class Refused(ToyRecipe):
        def load_data(self):
            raise ValueError("no data")

    (tmp_path / "empty").mkdir()
    for name in ("a/b/c", "empty"):
        with pytest.raises(ValueError, match="no data"):
            train(tmp_path / name, Refused())
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_a_run_whose_first_checkpoint_failed_starts_again(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("gencore.train.loop.save_checkpoint", full)
        with pytest.raises(OSError, match="No space left"):
            train(tmp_path, RECIPE)
    with pytest.raises(FileNotFoundError, match="no checkpoint; start it again without --resume"):
        train(tmp_path, RECIPE, resume=True)
    train(tmp_path, RECIPE)
    with pytest.raises(FileExistsError, match="already holds a run"):
        train(tmp_path, RECIPE)


# Whose turn


def test_a_folder_in_use_is_refused_until_its_run_ends(tmp_path):
    other = Claim(tmp_path)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(FileExistsError, match=rf"in use by another run \(process {PID} on "):
            train(tmp_path, RECIPE, **options)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    other.release()
    train(tmp_path, RECIPE)
    assert not (tmp_path / ".lock").exists()

    other = Claim(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="in use by another run"):
        train(tmp_path, ToyRecipe(steps=2), resume=True)
    assert contents(tmp_path) == before
    other.release()
    train(tmp_path, ToyRecipe(steps=2), resume=True)


def test_the_claim_of_a_killed_process_is_no_claim(tmp_path):
    code = (
        "import pathlib, runpy, sys, time; Claim = runpy.run_path(sys.argv[1])['Claim'];"
        "claim = Claim(pathlib.Path(sys.argv[2])); print('claimed', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, claim.__file__, str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "claimed\n"
        with pytest.raises(FileExistsError, match=f"process {process.pid} on "):
            Claim(tmp_path / "run")
        process.kill()
    assert (tmp_path / "run/.lock").exists()
    train(tmp_path / "run", RECIPE)


def test_a_claim_that_ended_between_opening_and_locking_is_taken_anew(tmp_path, monkeypatch):
    first, flock = Claim(tmp_path), fcntl.flock

    def late(file, flags):
        monkeypatch.setattr(fcntl, "flock", flock)
        first.release()  # removes the file that the second has just opened
        flock(file, flags)

    monkeypatch.setattr(fcntl, "flock", late)
    second = Claim(tmp_path)
    with pytest.raises(FileExistsError, match="in use"):
        Claim(tmp_path)
    second.release()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def unknown(file, flags):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with pytest.warns(UserWarning, match="knows no locks .*nothing keeps a second run out"):
        train(tmp_path, RECIPE)


# What killed processes leave


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_leftovers_of_killed_saves_go_when_the_run_goes_on(tmp_path, options):
    train(tmp_path, RECIPE)
    before = {path.name for path in tmp_path.iterdir()}
    put(tmp_path, ".checkpoint.safetensors.77.tmp/.tmpXYZ", ".figures.8.tmp/a.png",
        ".log.csv.9.tmp/log.csv", ".checkpoint-00000004.safetensors.5.tmp")  # fmt: skip
    put(tmp_path, ".mine.77.tmp", ".checkpoint.safetensors.tmp")
    train(tmp_path, RECIPE, **options)
    mine = {".mine.77.tmp", ".checkpoint.safetensors.tmp"}
    assert {path.name for path in tmp_path.iterdir()} == before | mine


def test_leftovers_make_no_folder_somebody_elses(tmp_path):
    put(tmp_path, ".lock", ".config.json.5.tmp/config.json")
    train(tmp_path, RECIPE)
    assert not list(tmp_path.glob(".*"))


def test_a_writers_own_temporary_files_lie_in_the_folder_that_is_cleared(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        Path(temporary).with_name(".tmp123").write_text("half")
        Path(temporary).write_text("whole")
        (hidden,) = tmp_path.iterdir()
        assert hidden.name == f".a.txt.{os.getpid()}.tmp"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
