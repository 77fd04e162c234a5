"""How a run ends that does not get to its last step: full disks, no memory, signals, lost ranks."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from testing.command_line import QUICK, run
from testing.runs import train
from testing.toy_recipe import ToyRecipe

from gencore import cli
from gencore.recipes import RecipeRegistry
from gencore.train import RunFolder
from gencore.train.devices import launch
from gencore.train.logs import read_log
from gencore.train.signals import StopRequest
from gencore.train.state_file import read_state, write_state

pytest.importorskip("lightning_fabric")


@dataclass(kw_only=True)
class FailingRecipe(ToyRecipe):
    """A toy whose fifth step fails."""

    name = "failing"
    changeable = ToyRecipe.changeable | {"failure"}

    failure: Literal["none", "disk", "torch", "huge", "numpy", "python", "ours"] = "none"
    """How."""

    def build(self, fabric, dataset):
        experiment = super().build(fabric, dataset)
        step = experiment.step

        def failing_step(batch):
            if experiment.steps_done == 4:
                FAILURES[self.failure]()
            return step(batch)

        experiment.step = failing_step
        return experiment


def allow_bytes(size):
    """No file grows beyond `size` any more, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def ours():
    raise RuntimeError("a fault of ours")


FAILURES = {
    "none": lambda: None,
    "disk": lambda: allow_bytes(0),
    "torch": lambda: torch.empty(10**15),
    "huge": lambda: torch.empty(2**62, dtype=torch.float64),
    "numpy": lambda: np.empty(10**15),
    "python": lambda: bytearray(10**15),
    "ours": ours,
}


@pytest.fixture
def disk():
    yield
    allow_bytes(resource.RLIM_INFINITY)


@pytest.fixture(autouse=True)
def _with_recipes(monkeypatch):
    places = {"failing": f"{__name__}:FailingRecipe", "toy": "testing.toy_recipe:ToyRecipe"}
    monkeypatch.setattr("gencore.recipes.RECIPES", RecipeRegistry(places))


def command(out, *words):
    return ["train", "failing", "--steps", "8", "--out", str(out), *QUICK, *words]


# Disk and memory


@pytest.mark.usefixtures("disk")
def test_a_file_that_does_not_fit_on_the_disk_is_named(tmp_path):
    path = tmp_path / "state.safetensors"
    write_state(path, {"a": torch.zeros(3)})
    allow_bytes(1000)
    with pytest.raises(OSError, match=r"cannot write .*/state\.safetensors: .*File too large"):
        write_state(path, {"a": torch.zeros(3000)})
    assert [*tmp_path.iterdir()] == [path]
    assert read_state(path)["a"].shape == (3,)


@pytest.mark.usefixtures("disk")
def test_a_disk_that_fills_is_one_line_and_the_run_goes_on_later(tmp_path, capsys):
    run_dir = tmp_path / "run"
    words = command(run_dir, "--failure", "disk", "--checkpoint-every", "3")
    assert cli.main(words) == 2
    allow_bytes(resource.RLIM_INFINITY)
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"gencore: error: cannot write {run_dir}/")
    assert "File too large. The run stopped at step 5 and can go on (--resume) from" in error[0]
    assert "checkpoint, of step 3, " in error[0]
    assert cli.main(command(run_dir, "--resume", "--failure", "none")) == 0
    assert read_log(run_dir / "log.csv")["step"] == list(range(1, 9))


@pytest.mark.usefixtures("disk")
def test_a_run_that_finds_a_full_disk_at_its_start_can_start_later(tmp_path, capsys):
    allow_bytes(1000)
    assert cli.main(command(tmp_path / "run")) == 2
    allow_bytes(resource.RLIM_INFINITY)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot write" in error
    assert "checkpoint.safetensors: " in error
    assert cli.main(command(tmp_path / "run")) == 0


@pytest.mark.parametrize("failure", ["torch", "huge", "numpy", "python"])
def test_want_of_memory_is_one_line_and_status_2(tmp_path, capsys, failure):
    assert cli.main(command(tmp_path / "run", "--failure", failure)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("gencore: error: not enough memory: ")


def test_faults_of_ours_keep_their_place(tmp_path):
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.main(command(tmp_path / "run", "--failure", "ours"))


# Signals


def test_the_first_signal_is_noted_and_the_second_aborts():
    with StopRequest() as stop:
        assert not stop.number
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)  # the kernel's and the shell's
        signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGHUP
        with pytest.raises(SystemExit) as aborted:
            signal.raise_signal(signal.SIGTERM)
        assert aborted.value.code == 143
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert stop.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_under_nohup_the_end_of_the_terminal_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.number
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@contextmanager
def started(words, **options):
    """A run of the toy that ends with the block, whatever happens there."""
    command = [sys.executable, "-m", "gencore", "train", "toy", *words, *QUICK, "--logger=none"]
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(out):
    log = out / "log.csv"
    return log.read_text().count("\n") if log.exists() else 0


@pytest.mark.slow
def test_a_terminal_that_ends_leaves_a_checkpoint(tmp_path, environment):
    terminal, its_end = os.openpty()
    with started(
        ["--steps", "1000", "--pause", "0.1", "--out", str(tmp_path / "run")],
        env={**environment, "TERM": "xterm"},
        stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(its_end)
        wait_for(lambda: rows(tmp_path / "run") > 2)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(120) == 129
    folder = RunFolder(tmp_path / "run")
    step = read_state(folder.checkpoint)["step"]
    assert step >= 2
    assert read_log(folder.log)["step"][-1] == step


# Processes


def test_more_processes_than_a_cpu_runs_are_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"devices is 1000; expected at most \d+ processes on"):
        launch(1000, "cpu")
    words = ["train", "toy", "--devices", "1000", "--out", str(tmp_path / "run"), *QUICK]
    assert cli.main(words) == 2
    assert "error: --devices is 1000; expected at most" in capsys.readouterr().err
    assert "LOCAL_RANK" not in os.environ


def test_a_program_from_standard_input_cannot_be_started_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-"])
    with pytest.raises(ValueError, match="from standard input cannot be started again"):
        launch(2, "cpu")


SIZE = "from gencore.train.devices import launch; f = launch({}, 'cpu'); print(f.world_size)"


def slurm(**variables):
    given = {"JOB_ID": 7, "JOB_NAME": "train", "NODELIST": "localhost", **variables}
    return {f"SLURM_{name}": str(value) for name, value in given.items()}


@pytest.mark.parametrize("tasks", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_script_of_a_slurm_job_is_one_process(environment, tasks):
    job = slurm(NTASKS=tasks, PROCID=0, LOCALID=0, NODEID=0)
    assert run({**environment, **job}, "-c", SIZE.format(1)).stdout == "1\n"


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_slurm_job_of_one_task_trains_on_the_processes_asked_for(environment):
    job = slurm(NTASKS=1, PROCID=0, LOCALID=0, NODEID=0, STEP_NUM_TASKS=1, STEP_NUM_NODES=1)
    done = run({**environment, **job}, "-c", SIZE.format(2) + "; f.barrier()")
    assert set(done.stdout) == {"2", "\n"}, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_program_may_launch_twice(environment):
    again = SIZE.format(2) + "; f.barrier(); " + SIZE.format(2) + "; f.barrier()"
    done = run(environment, "-c", again)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout) == {"2", "\n"}


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_the_processes_of_srun_are_the_ranks(tmp_path, environment):
    def start(rank, **more):
        job = slurm(NTASKS=2, PROCID=rank, LOCALID=rank, NODEID=0, STEP_NUM_TASKS=2,
                    STEP_NUM_NODES=1, STEP_ID=os.getpid() % 1000, **more)  # fmt: skip
        words = ["-m", "gencore", "train", "toy", "--steps", "4", "--out", str(tmp_path / "run")]
        return subprocess.Popen(
            [sys.executable, *words, *QUICK],
            env={**environment, **job}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    ranks = [start(0), start(1)]
    shown = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert "4 steps done" in shown[0]
    assert shown[1] == ""
    words = ["-c", SIZE.format(3)]
    job = slurm(NTASKS=2, PROCID=0, LOCALID=0, NODEID=0, STEP_NUM_TASKS=2, STEP_NUM_NODES=1)
    done = run({**environment, **job}, *words)
    assert "ValueError: devices is 3, but srun started 2 processes here" in done.stderr


def children(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize("killed", [0, 1])
def test_no_process_outlives_another_that_was_killed(tmp_path, environment, killed):
    words = ["--steps", "10000", "--pause", "0.1", "--devices", "2"]
    with started(
        [*words, "--out", str(tmp_path / "run")], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: rows(tmp_path / "run") > 2)
        (other,) = children(process.pid)
        os.kill([process.pid, other][killed], signal.SIGKILL)
        process.wait(120)
        wait_for(lambda: not is_running(other))
        assert process.returncode != 0
    train(tmp_path / "run", ToyRecipe(steps=1), overwrite=True)
