"""The loop: a run that stops and goes on is the run that never stopped."""

import json
import signal
import time

import pytest
import torch
from testing.runs import assert_same, train
from testing.toy_recipe import ToyRecipe

from gencore.train import Diverged, Interrupted, Recipe, RunFolder, fit, recipe_from_config
from gencore.train.batches import BatchOrder
from gencore.train.figures import image_grid, plot_log, save_image_grid
from gencore.train.logs import CsvLog, read_log
from gencore.train.run_folder import describe
from gencore.train.state_file import read_state, write_state

Image = pytest.importorskip("PIL.Image")


def assert_same_runs(a, b):
    """Two folders: same state in every bit (so also same parameters and moments), same rows."""
    state_a, state_b = (read_state(d / "checkpoint.safetensors") for d in (a, b))
    for state in (state_a, state_b):
        for field in ToyRecipe.changeable:
            del state["recipe"][field]
    assert_same(state_a, state_b)
    assert (a / "log.csv").read_text() == (b / "log.csv").read_text()


# Order of the data


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (12, 4), (3, 7), (1, 2)])
def test_each_epoch_shows_every_image_once(size, batch_size):
    order = BatchOrder(size, batch_size, seed=1)
    epochs = 8
    stream = torch.cat([order.indices(step) for step in range(epochs * size // batch_size + 1)])
    rows = stream[: epochs * size].reshape(epochs, size)
    assert torch.equal(rows.sort(1).values, torch.arange(size).expand(epochs, size))
    if size > 9:
        assert len({tuple(row.tolist()) for row in rows}) == epochs


def test_order_depends_on_seed_and_step_alone():
    order, other = BatchOrder(100, 8, seed=1), BatchOrder(100, 8, seed=2)
    later_first = [BatchOrder(100, 8, seed=1).indices(step) for step in (40, 3)]
    assert torch.equal(order.indices(3), later_first[1])
    assert torch.equal(order.indices(40), later_first[0])
    # Neighbouring seeds share no epoch: not the next one's, either.
    assert not torch.equal(order.indices(25)[:4], other.indices(12)[4:])
    assert not torch.equal(order.indices(0), other.indices(0))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_batch_of_one_process(world_size):
    whole = BatchOrder(25, 6, seed=0)
    ranks = [BatchOrder(25, 6, seed=0, rank=r, world_size=world_size) for r in range(world_size)]
    for step in range(12):
        parts = [rank.indices(step) for rank in ranks]
        assert all(len(part) == 6 // world_size for part in parts)
        assert torch.equal(torch.cat(parts), whole.indices(step))


def test_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="data set is empty"):
        BatchOrder(0, 4, seed=0)
    with pytest.raises(ValueError, match=r"multiple of the 3 processes .* got 4"):
        BatchOrder(10, 4, seed=0, world_size=3)


# Stop and go on


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_ten_steps_and_ten_more_are_twenty(tmp_path, optimizer):
    train(tmp_path / "straight", ToyRecipe(steps=20, optimizer=optimizer))
    train(tmp_path / "two", ToyRecipe(steps=10, optimizer=optimizer))
    torch.manual_seed(99)
    experiment = train(tmp_path / "two", ToyRecipe(steps=20, optimizer=optimizer), resume=True)
    assert experiment.steps_done == 20
    assert_same_runs(tmp_path / "straight", tmp_path / "two")
    assert (tmp_path / "straight/samples.png").read_bytes() == (
        tmp_path / "two/samples.png"
    ).read_bytes()
    assert len(read_log(tmp_path / "two/log.csv")["loss"]) == 20


def test_an_interrupted_run_goes_on(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(tmp_path / "straight")
    with pytest.raises(Interrupted, match="stopped at step 10") as stop:
        train(tmp_path / "stopped", ToyRecipe(steps=20, interrupt_at=10))
    assert stop.value.step == 10
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "stopped/samples.png").exists()
    train(tmp_path / "stopped", resume=True)
    assert_same_runs(tmp_path / "straight", tmp_path / "stopped")


def test_a_crashed_run_goes_on_from_its_last_checkpoint(tmp_path):
    train(tmp_path / "straight", checkpoint_every=4)
    with pytest.raises(Diverged):
        train(tmp_path / "crashed", ToyRecipe(steps=20, diverge_at=11), checkpoint_every=4)
    log = tmp_path / "crashed/log.csv"
    assert read_log(log)["step"][-1] == 10
    assert read_state(tmp_path / "crashed/checkpoint.safetensors")["step"] == 8
    log.write_text(log.read_text() + "11,0.1")  # a row that was being written
    train(tmp_path / "crashed", ToyRecipe(steps=20), checkpoint_every=4, resume=True)
    assert_same_runs(tmp_path / "straight", tmp_path / "crashed")


def test_stopping_at_any_step_changes_nothing(tmp_path):
    train(tmp_path / "straight", ToyRecipe(steps=9), log_every=3)
    run = tmp_path / "stopped"
    for stop in range(1, 9):
        with pytest.raises(Interrupted):
            train(run, ToyRecipe(steps=9, interrupt_at=stop), log_every=3, resume=stop > 1)
    train(run, ToyRecipe(steps=9), log_every=3, resume=True)
    assert_same_runs(tmp_path / "straight", run)


# What a resumed run may change, and where a run may go


class TunableRecipe(ToyRecipe):
    tunable = frozenset({"learning_rate", "betas"})


def test_a_diverged_run_goes_on_with_what_its_message_advises(tmp_path):
    recipe = TunableRecipe(steps=12, diverge_at=7)
    with pytest.raises(Diverged):
        train(tmp_path, recipe, checkpoint_every=4)
    recipe = TunableRecipe(steps=12, learning_rate=0.01)
    experiment = train(tmp_path, recipe, checkpoint_every=4, resume=True)
    assert experiment.steps_done == 12
    # The scheduler halves at the steps 5 and 12.
    assert experiment.scheduler.get_last_lr() == [0.01 / 4]
    assert read_log(tmp_path / "log.csv")["step"] == list(range(1, 13))
    config = RunFolder(tmp_path).read_config()
    assert config["changes"] == [{"step": 4, "learning_rate": [0.05, 0.01]}]
    again = TunableRecipe(steps=13, learning_rate=0.01, betas=(0.5, 0.9))
    train(tmp_path, again, resume=True)
    change = {"step": 12, "betas": [[0.9, 0.99], [0.5, 0.9]]}
    assert RunFolder(tmp_path).read_config()["changes"] == [*config["changes"], change]
    with pytest.raises(ValueError, match="amsgrad is False in the checkpoint, True here"):
        train(tmp_path, TunableRecipe(steps=13, amsgrad=True), resume=True)


def test_a_run_goes_back_to_a_kept_checkpoint(tmp_path):
    train(tmp_path / "straight", ToyRecipe(steps=9))
    run = tmp_path / "back"
    train(run, ToyRecipe(steps=12), checkpoint_every=2, keep_every=4)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 6 in .* those of 4, 8, 12"):
        train(run, ToyRecipe(steps=9), resume_from=6)
    recipe = ToyRecipe(steps=9, interrupt_at=5)
    with pytest.raises(Interrupted):
        train(run, recipe, resume_from=4, checkpoint_every=100)
    assert read_state(run / "checkpoint.safetensors")["step"] == 5
    assert RunFolder(run).kept_steps() == [4]  # those of the run that it was are gone
    train(run, ToyRecipe(steps=9), resume=True)
    assert_same_runs(tmp_path / "straight", run)


def test_what_is_gone_back_to_is_the_latest_state(tmp_path):
    train(tmp_path, ToyRecipe(steps=8), checkpoint_every=4, keep_every=4)
    with pytest.raises(Diverged, match="last good checkpoint, of step 4"):
        train(tmp_path, ToyRecipe(steps=8, diverge_at=5), resume_from=4)
    assert read_state(tmp_path / "checkpoint.safetensors")["step"] == 4


def test_resume_refuses_another_recipe(tmp_path):
    train(tmp_path, ToyRecipe(steps=3))
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.*")}
    for recipe, message in [
        (ToyRecipe(steps=3, learning_rate=0.1), r"learning_rate is 0\.05 in .*, 0\.1 here"),
        (ToyRecipe(steps=3, betas=(0.8, 0.99)), "betas is"),
        (ToyRecipe(steps=3, seed=1), "seed is 0 in the checkpoint, 1 here"),
        (ToyRecipe(steps=2), "steps is 2, but the checkpoint to go on from is of step 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(tmp_path, recipe, resume=True)
    assert before == {file.name: file.read_bytes() for file in tmp_path.glob("*.*")}
    train(tmp_path, ToyRecipe(steps=3), resume=True)  # nothing left to do is no error


def test_a_run_from_before_a_field_existed_goes_on_with_its_default(tmp_path):
    train(tmp_path / "run", ToyRecipe(steps=3))
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    state = read_state(checkpoint)
    del state["recipe"]["amsgrad"], state["recipe"]["betas"]
    write_state(checkpoint, state)
    with pytest.raises(ValueError, match="amsgrad is False in the checkpoint, True here"):
        train(tmp_path / "run", ToyRecipe(steps=5, amsgrad=True), resume=True)
    train(tmp_path / "run", ToyRecipe(steps=5), resume=True)
    train(tmp_path / "whole", ToyRecipe(steps=5))
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


def test_a_folder_with_a_run_is_not_overwritten_unasked(tmp_path):
    train(tmp_path, ToyRecipe(steps=6), checkpoint_every=2, keep_every=2)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="already holds a run"):
        train(tmp_path)
    with pytest.raises(ValueError, match="exclude each other"):
        train(tmp_path, resume=True, overwrite=True)
    train(tmp_path, ToyRecipe(steps=2), overwrite=True)
    assert read_log(tmp_path / "log.csv")["step"] == [1, 2]
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["checkpoint.safetensors"]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_folders_that_do_not_serve(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run to resume in"):
        train(tmp_path / "none", resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to the folder .*/run: Not a directory"):
        train(tmp_path / "file/run")
    assert not (tmp_path / "none").exists()


def test_a_damaged_checkpoint_stops_a_resume(tmp_path):
    train(tmp_path, ToyRecipe(steps=2))
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged"):
        train(tmp_path, ToyRecipe(steps=4), resume=True)


@pytest.mark.parametrize(
    "options", [{"log_every": 0}, {"checkpoint_every": 0}, {"keep_every": 7}, {"num_samples": -1}]
)
def test_wrong_options_are_named(tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_wrong_machines_are_named(tmp_path):
    with pytest.raises(ValueError, match="devices must be a positive number"):
        fit(ToyRecipe(), tmp_path, devices=0)
    with pytest.raises(ValueError, match="'abacus'"):
        fit(ToyRecipe(), tmp_path, accelerator="abacus")


@pytest.mark.parametrize("field", ["steps", "batch_size"])
def test_recipe_numbers_are_checked(field):
    with pytest.raises(ValueError, match=f"ToyRecipe: {field} must be at least 1, got 0"):
        ToyRecipe(**{field: 0})
    with pytest.raises(TypeError, match=rf"{field} must be an integer, got 1\.5"):
        ToyRecipe(**{field: 1.5})


def test_a_seed_has_64_bits():
    torch.manual_seed(ToyRecipe(seed=2**64 - 1).seed)
    with pytest.raises(ValueError, match=r"ToyRecipe: seed must be below 2\*\*64, got 18446"):
        ToyRecipe(seed=2**64)


# Divergence


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", r"step 7: the toy is broken\. .* of step 4, .* Try another toy"),
        ("loss", r"step 7: loss is not finite \(nan\)\. .* of step 4,"),
        ("parameter", r"step 8: .* not finite.* of step 4, .* Try a smaller learning rate"),
    ],
)
def test_divergence_keeps_the_last_good_checkpoint(tmp_path, fault, message):
    recipe = ToyRecipe(steps=12, diverge_at=7, fault=fault)
    with pytest.raises(Diverged, match=message):
        train(tmp_path, recipe, checkpoint_every=4)
    good = read_state(tmp_path / "checkpoint.safetensors")
    assert good["step"] == 4
    assert all(value.isfinite().all() for value in good["state"]["model"].values())


def test_a_broken_state_is_not_saved_even_if_nothing_was_logged(tmp_path):
    recipe = ToyRecipe(steps=12, diverge_at=8, fault="parameter")
    with pytest.raises(Diverged, match="model has parameters that are not finite"):
        train(tmp_path, recipe, checkpoint_every=4, log_every=100)
    assert read_state(tmp_path / "checkpoint.safetensors")["step"] == 4


# What a run leaves behind


def test_the_files_of_a_run(tmp_path):
    recipe = ToyRecipe(steps=6, betas=(0.8, 0.9))
    train(tmp_path, recipe, log_every=4, checkpoint_every=2, keep_every=4)
    assert {file.name for file in tmp_path.iterdir()} == {
        "checkpoint.safetensors", "checkpoint-00000004.safetensors", "config.json", "log.csv",
        "loss.png", "metrics.json", "samples.png", "tensorboard",
    }  # fmt: skip
    config = RunFolder(tmp_path).read_config()
    assert config["recipe"] == "toy"
    assert config["versions"]["torch"] == torch.__version__
    assert recipe_from_config(ToyRecipe, config) == recipe
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["step"] == 6
    mean = read_state(tmp_path / "checkpoint.safetensors")["state"]["model"]["mean"]
    assert metrics["mean"] == mean.mean().item()
    assert read_log(tmp_path / "log.csv")["step"] == [4, 6]
    assert read_state(tmp_path / "checkpoint-00000004.safetensors")["step"] == 4


def test_tensorboard_holds_the_rows_of_the_log(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tmp_path, ToyRecipe(steps=4))
    train(tmp_path, ToyRecipe(steps=6), resume=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    log = read_log(tmp_path / "log.csv")
    assert [event.step for event in events.Scalars("loss")] == log["step"]
    assert [event.value for event in events.Scalars("loss")] == log["loss"]


def test_config_of_another_recipe_or_damaged(tmp_path):
    class OtherRecipe(Recipe):
        def build(self, fabric, dataset): ...

    config = describe(ToyRecipe())
    with pytest.raises(ValueError, match="run is of the recipe toy, not other"):
        recipe_from_config(OtherRecipe, config)
    config["fields"]["colour"] = 3
    with pytest.raises(ValueError, match="toy has no field colour"):
        recipe_from_config(ToyRecipe, config)
    folder = RunFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no run in"):
        folder.read_config()
    for damaged in ("{", "[]", '{"recipe": "toy"}'):
        folder.config.write_text(damaged)
        with pytest.raises(ValueError, match=r"config\.json is damaged"):
            folder.read_config()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", "many", "steps is 'many'; expected int"),
        ("steps", True, "steps is True; expected int"),
        ("steps", 0, "ToyRecipe: steps must be at least 1, got 0"),
        ("learning_rate", "x", "learning_rate is 'x'; expected float"),
        ("learning_rate", None, "learning_rate is None; expected float"),
        ("betas", [0.9], r"betas is \[0.9\]; expected tuple\[float, float\]"),
        ("betas", [0.9, "x"], "betas is 'x'; expected float"),
        ("betas", 0.9, "betas is 0.9; expected tuple"),
        ("optimizer", "sgd", "optimizer is 'sgd'; expected Literal"),
        ("amsgrad", 1, "amsgrad is 1; expected bool"),
        ("data", 3, "data is 3; expected str"),
    ],
)
def test_a_damaged_value_of_a_config_names_the_file(tmp_path, field, value, message):
    folder = RunFolder(tmp_path)
    description = describe(ToyRecipe(learning_rate=1))
    folder.config.write_text(json.dumps(description))
    assert folder.read_recipe(ToyRecipe) == ToyRecipe(learning_rate=1)
    description["fields"][field] = value
    folder.config.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=rf"config\.json: {message}"):
        folder.read_recipe(ToyRecipe)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"recipe": "toy", "fields": {}, "settings": {"log_every": "x"}}',
     '{"recipe": "toy", "fields": {}, "settings": {"log_every": -1}}',
     '{"recipe": "toy", "fields": {}, "settings": [1]}',
     '{"recipe": "toy", "fields": {}, "figures": "a.png"}', "\udcff"],
)  # fmt: skip
def test_a_damaged_config_names_the_file(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.config.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        folder.read_config()


@pytest.mark.parametrize(
    ("row", "message"),
    [("x,0.5", "invalid literal for int.* 'x'"), ("2,x", "could not convert string to float: 'x"),
     ("2", "line 3 does not have 2 columns"), ("2,1,1", "line 3 does not have 2 columns"),
     ("", "invalid literal"), ("\udcff,1", "can't decode")],
)  # fmt: skip
def test_a_damaged_log_names_the_file_before_a_step_is_made(tmp_path, row, message):
    train(tmp_path, ToyRecipe(steps=3))
    log = tmp_path / "log.csv"
    lines = log.read_text().splitlines()
    damaged = "\n".join([*lines[:2], row, *lines[3:], ""]).encode(errors="surrogateescape")
    log.write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"log\.csv is damaged: .*{message}"):
        train(tmp_path, ToyRecipe(steps=5), resume=True)
    assert log.read_bytes() == damaged
    assert read_state(tmp_path / "checkpoint.safetensors")["step"] == 3
    log.write_text("loss,step\n1,2\n")
    with pytest.raises(ValueError, match=r"log\.csv is damaged: its first line is 'loss,step"):
        read_log(log)


def test_a_log_that_goes_on_with_other_columns_fills_the_gaps(tmp_path):
    path = tmp_path / "log.csv"
    log = CsvLog(path)
    log.write(1, {"loss": 0.5, "norm": 1.0})
    log.close()
    log = CsvLog(path, after=1)
    log.write(2, {"energy": 0.25, "loss": 0.5})
    log.write(3, {"loss": 0.125, "norm": 2.0, "energy": 0.5})
    log.close()
    assert path.read_text().splitlines() == [
        "step,loss,norm,energy", "1,0.5,1.0,nan", "2,0.5,nan,0.25", "3,0.125,2.0,0.5",
    ]  # fmt: skip


def test_progress_on_a_file_is_a_line_at_the_end(tmp_path, capfd):
    fit(ToyRecipe(steps=5), tmp_path, accelerator="cpu", num_evaluate=0, num_samples=0)
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("toy  step 5/5  ")


def test_the_loop_reads_scalars_only_when_it_logs(tmp_path, monkeypatch):
    reads = []
    to_list = torch.Tensor.tolist
    monkeypatch.setattr(
        torch.Tensor, "tolist", lambda self: reads.append(time.monotonic()) or to_list(self)
    )
    train(tmp_path, ToyRecipe(steps=20), log_every=10, num_evaluate=0, num_samples=0)
    assert len(reads) == 2


# Pictures


def test_grid_places_every_image():
    images = torch.arange(1.0, 6.0)[:, None, None, None].expand(5, 3, 2, 2)
    grid = image_grid(images, columns=3)
    assert grid.shape == (3, 7, 10)
    assert torch.equal(grid[0, 1::3, 1::3], torch.tensor([[1.0, 2, 3], [4, 5, 0.5]]))
    assert (grid[:, ::3] == 0.5).all()
    with pytest.raises(ValueError, match=r"got \(0, 1, 8, 8\)"):
        image_grid(torch.zeros(0, 1, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_shows_whole_pixels(tmp_path, channels):
    path = tmp_path / "grid.png"
    images = torch.linspace(-0.5, 1.5, 4)[:, None, None, None].expand(4, channels, 8, 8)
    save_image_grid(images, path, min_side=100)
    with Image.open(path) as picture:
        picture.load()
    assert picture.size == (114, 114)  # 2·8 pixels and 3 gaps, six times as large
    assert picture.mode == {1: "L", 3: "RGB"}[channels]
    shown = [picture.getpixel(at) for at in ((6, 6), (59, 6), (60, 6), (53, 107), (107, 107))]
    grey = [value if channels == 1 else value[0] for value in shown]
    assert grey == [0, 128, 43, 212, 255]
    assert list(tmp_path.iterdir()) == [path]


def test_plot_of_a_log(tmp_path):
    path = tmp_path / "loss.png"
    plot_log({"step": [1, 2], "a": [1, 2], "b": [1, 2], "c": [3, 4], "d": [5, 6]}, path)
    with Image.open(path) as picture:
        assert picture.size == (1008, 672)
    plot_log({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
