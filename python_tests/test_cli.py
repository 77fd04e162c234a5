"""The command line: what it prints, what it returns, and runs in processes of their own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from testing.command_line import QUICK, run
from testing.runs import assert_same
from testing.toy_recipe import ToyRecipe

from gencore import cli
from gencore.recipes import RECIPES, RecipeRegistry
from gencore.train import RunFolder
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("lightning_fabric")


@pytest.fixture(autouse=True)
def _with_toy(monkeypatch):
    recipes = RecipeRegistry(
        {"ebm": "gencore.recipes.ebm.ebm:EBMRecipe", "toy": "testing.toy_recipe:ToyRecipe"}
    )
    monkeypatch.setattr("gencore.recipes.RECIPES", recipes)


# Help and lists


def test_list_shows_recipes_and_data(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^  toy +Fits a Gaussian to noisy images\.$", out, re.MULTILINE)
    assert re.search(r"^  ebm +\w.*\.$", out, re.MULTILINE)
    assert re.search(r"^  digits +1,797 ", out, re.MULTILINE)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_named_and_described_as_they_say(name):
    assert RECIPES[name].name == name
    assert RECIPES.describe(name) == RECIPES[name].__doc__.strip().splitlines()[0]


def test_lists_and_help_import_nothing_heavy(environment):
    code = (
        "import sys, gencore; before = set(sys.modules); from gencore.cli import main;"
        "assert main(['--help']) == main(['list']) == main(['train', '--help']) == 0;"
        "assert main(['list', 'flows']) == 0;"
        "main(['train', 'nothing']);"
        "print({'torch', 'rich', 'lightning_fabric'} & (set(sys.modules) - before))"
    )
    done = run(environment, "-c", code)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def test_output_that_knows_ascii_only_is_no_error(environment):
    done = run({**environment, "PYTHONIOENCODING": "ascii"}, "-m", "gencore", "list")
    assert done.returncode == 0, done.stderr
    assert "exp(?E)/Z" in done.stdout


def test_help_of_each_command(capsys):
    assert cli.main(["--help"]) == 0
    top = capsys.readouterr().out
    for command in ("list", "train", "sample", "evaluate", "compress", "decompress", "info"):
        assert f"\n  {command} " in top
        with_help = [command, "toy", "--help"] if command == "train" else [command, "--help"]
        with pytest.raises(SystemExit) as stop:
            cli.main(with_help)
        assert stop.value.code == 0
        assert "usage: gencore " + command in capsys.readouterr().out
    assert cli.main([]) == 2


def test_help_of_a_recipe_shows_options_defaults_and_docstrings(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "toy", "--help"])
    out = capsys.readouterr().out
    for text in ("--learning-rate FLOAT", "Its learning rate.", "(default: 0.05)", "runs/toy"):
        assert text in out
    assert out.count("Fits a Gaussian") == 1


# Wrong input: one line, status 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("dance", "unknown command 'dance'; the commands are list, train, "),
        ("list --all", "no option --all; the option of gencore list is --json"),
        ("list flwos", "unknown family 'flwos'; the families are "),
        ("info --all", "gencore info takes no options, got '--all'"),
        ("train", "the recipes are ebm, toy"),
        ("train --steps 3", "the recipes are ebm, toy"),
        ("train tyo", "unknown recipe 'tyo'; the recipes are ebm, toy"),
        ("train toy --stepz 3", "toy has no option --stepz (did you mean --steps?) (gencore"),
        ("train toy stray", "no option stray; its options are --steps, --batch-size, "),
        ("train toy --steps", "error: --steps needs a value"),
        ("train toy --steps many", "error: --steps: expected a whole number, got 'many'"),
        ("train toy --learning-rate x", "error: --learning-rate: expected a number, got 'x'"),
        ("train toy --betas 0.9 x", "error: --betas: expected a number, got 'x'"),
        ("train ebm --image-size x", "error: --image-size: expected a whole number, got 'x'"),
        ("train toy --steps 0", "error: --steps must be at least 1, got 0"),
        ("train ebm --learning-rate -1", "error: --learning-rate is -1.0; expected"),
        ("train toy --seed 1" + "0" * 23, "error: --seed: expected a number of 64 bits, got 1"),
        ("train toy --num-samples 1" + "0" * 23, "expected a number of 64 bits"),
        ("sample {tmp} --seed 1" + "0" * 23, "error: --seed: expected a number of 64 bits, got 1"),
        ("evaluate {tmp} --num -1" + "0" * 23, "--num: expected a number of 64 bits, got -1"),
        ("train toy --log-every 0", "error: --log-every must be a positive number"),
        ("train toy --optimizer sgdd", "'adam', 'momentum'"),
        ("train toy --out {tmp}/file/run", "cannot write to the folder {tmp}/file/run: Not a"),
        ("train toy --out {tmp} --resume", "there is no run in {tmp}"),
        ("train ebm --learning-rate inf", "--learning-rate: expected a finite number, got inf"),
        ("train toy --keep-every 3", "--keep-every must be a multiple of --checkpoint-every"),
        ("train ebm --buffer-size 3", "128 chains of a step (--batch-size) (gencore train ebm"),
        ("train toy --preset x", "--preset is 'x', but the recipe has no presets"),
        ("train ebm --preset yan", "--preset is 'yan'; expected one of yan2022-mnist, yan2022-mn"),
        ("train toy --config {tmp}/a.json", "{tmp}/a.json"),
        ("train toy --config {tmp}/file", "a file of options must end in .json or .toml, got"),
        ("--print-completion", "--print-completion needs a shell: bash, zsh or fish"),
        ("--print-completion tcsh", "there is no completion for tcsh; expected bash, zsh, fish"),
        ("train toy --out=", "error: --out needs a value, got an empty one"),
        ("train ebm --data {tmp}/nothing", "{tmp}/nothing does not exist"),
        ("sample", "error: gencore sample needs RUN_DIR: The run's folder."),
        ("sample {tmp}", "there is no run in {tmp}"),
        ("sample {tmp} --num 0", "--num must be at least 1, got 0"),
        ("sample {tmp} --out a.txt", "--out must end in .png, .npy, .gif, .mp4, .mkv, got a.txt"),
        ("evaluate {tmp}/file", "there is no run in {tmp}/file"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(capsys, tmp_path, words, message):
    (tmp_path / "file").touch()
    assert cli.main(words.format(tmp=tmp_path).split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("gencore: error: ")
    assert message.format(tmp=tmp_path) in captured.err


@pytest.mark.parametrize("words", [["train", "toy", "--out", ""], ["sample", ""]])
def test_an_empty_word_is_no_path(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert "needs a value, got an empty one" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_debug_shows_where(capsys, monkeypatch):
    assert cli.main(["train", "tyo", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("GENCORE_DEBUG", "1")
    assert cli.main(["train", "tyo"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_recipes_options_and_values(capsys, shell):
    pytest.importorskip("shtab")
    assert cli.main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("evaluate", "toy", "chain-steps", "momentum", "yan2022-cifar10-noisy", "wandb"):
        assert word in script


def test_help_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([], ["train", "ebm"], ["sample"], ["evaluate"], ["compress"], ["decompress"]):
        with contextlib.suppress(SystemExit):
            cli.main([*words, "--help"])
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("package", ["lightning_fabric", "safetensors", "rich"])
def test_a_missing_package_of_the_extra_is_one_sentence(capsys, monkeypatch, tmp_path, package):
    for name in [package, *(m for m in sys.modules if m.startswith(package + "."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["train", "toy", "--out", str(tmp_path / "run"), *QUICK]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"gencore: error: training needs the package {package}: pip install 'gencore[train]'\n"
    )


# A run from the command line


def test_train_sample_evaluate(tmp_path, capsys):
    run_dir = str(tmp_path / "run")
    assert cli.main(["train", "toy", "--steps", "6", "--out", run_dir, *QUICK]) == 0
    out = capsys.readouterr().out
    assert f"toy: 6 steps done; everything is in {run_dir}" in out
    assert re.search(r"mean +0\.\d", out)

    assert cli.main(["train", "toy", "--out", run_dir, *QUICK]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert cli.main(["train", "toy", "--out", run_dir, "--resume", "--learning-rate", "1"]) == 2
    assert "error: --learning-rate is 0.05 in the checkpoint, 1.0 here" in capsys.readouterr().err
    # Options of the run need not be given again.
    assert cli.main(["train", "toy", "--out", run_dir, "--resume", "--steps", "8", *QUICK]) == 0
    assert read_log(tmp_path / "run/log.csv")["step"] == list(range(1, 9))

    capsys.readouterr()
    assert cli.main(["evaluate", run_dir, "--num", "7"]) == 0
    assert re.search(r"step +8\n +num_samples +7\n", capsys.readouterr().out)
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        out = str(tmp_path / f"{name}.npy")
        assert cli.main(["sample", run_dir, "--num", "5", "--out", out, "--seed", seed]) == 0
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert a.shape == (5, 1, 4, 4)
    assert a.dtype == np.float32
    assert (a == b).all()
    assert (a != c).any()
    assert cli.main(["sample", run_dir]) == 0
    assert f"64 samples of step 8: {run_dir}/samples.png" in capsys.readouterr().out


def test_a_resumed_run_keeps_its_settings_unless_they_are_given(tmp_path):
    words = ["train", "toy", "--steps", "4", "--out", str(tmp_path / "run"), *QUICK]
    assert cli.main([*words, "--amsgrad"]) == 0
    again = ["train", "toy", "--out", str(tmp_path / "run"), "--resume", "--accelerator", "cpu"]
    assert cli.main([*again, "--steps", "6"]) == 0
    folder = RunFolder(tmp_path / "run")
    assert read_log(folder.log)["step"] == [1, 2, 3, 4, 5, 6]
    assert json.loads(folder.metrics.read_text())["num_samples"] == 5
    assert cli.main([*again, "--steps", "8", "--log-every", "2", "--num-evaluate", "7"]) == 0
    assert read_log(folder.log)["step"] == [1, 2, 3, 4, 5, 6, 8]
    assert json.loads(folder.metrics.read_text())["num_samples"] == 7
    assert folder.read_config()["settings"]["num_samples"] == 4
    assert cli.main([*again, "--steps", "9", "--amsgrad"]) == 0
    assert cli.main([*again, "--steps", "9", "--no-amsgrad"]) == 2


def test_a_run_is_repeated_from_its_config(tmp_path):
    words = ["train", "toy", "--steps", "4", "--betas", "0.8", "0.9", "--amsgrad", *QUICK]
    assert cli.main([*words, "--logger", "none", "--out", str(tmp_path / "a")]) == 0
    config = tmp_path / "a/config.json"
    again = ["train", "toy", "--config", str(config), "--accelerator", "cpu"]
    assert cli.main([*again, "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b/log.csv").read_text() == (tmp_path / "a/log.csv").read_text()
    assert json.loads((tmp_path / "b/config.json").read_text()) == json.loads(config.read_text())
    # The command line wins.
    assert cli.main([*again, "--out", str(tmp_path / "c"), "--steps", "5", "--no-amsgrad"]) == 0
    fields = RunFolder(tmp_path / "c").read_config()["fields"]
    assert (fields["steps"], fields["amsgrad"], fields["betas"]) == (5, False, [0.8, 0.9])


def test_a_file_may_be_of_the_users_own(tmp_path, capsys):
    file = tmp_path / "options.toml"
    file.write_text('steps = 3\nlearning-rate = 0.1\nnum_evaluate = 0\nlogger = ["none"]\n')
    words = ["train", "toy", "--config", str(file), "--out", str(tmp_path / "run")]
    assert cli.main([*words, "--accelerator", "cpu"]) == 0
    config = RunFolder(tmp_path / "run").read_config()
    assert config["fields"]["learning_rate"] == 0.1
    assert config["settings"]["logger"] == ["none"]
    file.write_text("step = 3")
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert f"{file}: there is no option step (did you mean steps?)" in error


def test_presets_come_before_files_and_files_before_words(tmp_path, monkeypatch):
    presets = {"quick": {"steps": 3, "learning_rate": 0.1, "batch_size": 4}, "slow": {"steps": 9}}
    monkeypatch.setattr(ToyRecipe, "presets", presets)
    file = tmp_path / "options.json"
    file.write_text('{"preset": "slow", "learning_rate": 0.2}')
    out = tmp_path / "run"
    words = ["train", "toy", "--config", str(file), "--out", str(out), *QUICK]
    assert cli.main([*words, "--preset", "quick", "--batch-size", "10"]) == 0
    config = RunFolder(out).read_config()
    assert config["preset"] == "quick"
    fields = config["fields"]
    assert (fields["steps"], fields["learning_rate"], fields["batch_size"]) == (3, 0.2, 10)
    # A resumed run keeps the name, and its options.
    again = ["train", "toy", "--out", str(out), "--resume", "--steps", "4", *QUICK]
    assert cli.main(again) == 0
    config = RunFolder(out).read_config()
    assert (config["preset"], config["fields"]["learning_rate"]) == ("quick", 0.2)


@pytest.mark.parametrize("name", RECIPES)
def test_presets_are_recipes(name, capsys):
    recipe = RECIPES[name]
    for preset, fields in recipe.presets.items():
        made = recipe.preset(preset, seed=3)
        assert made.seed == 3
        assert made.preset_name == preset
        assert fields.items() <= made.fields().items()
        assert recipe(**made.fields()) == made
    assert recipe().preset_name is None


def test_help_lists_the_presets(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "ebm", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    settings = "--data mnist --image-size 32 --network mnist --chain-steps 40 --steps 8000"
    assert f"yan2022-mnist: {settings}" in out


def test_evaluate_measures_as_the_run_did(tmp_path, capsys):
    run_dir = str(tmp_path / "run")
    assert cli.main(["train", "toy", "--steps", "2", "--out", run_dir, *QUICK]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", run_dir]) == 0
    assert re.search(r"num_samples +5\n", capsys.readouterr().out)


def test_evaluate_may_use_other_test_data(tmp_path, capsys, monkeypatch):
    def evaluate(self, num):
        test = self.recipe.load_test_data(self.recipe.load_data())
        return {"brightness": test.images.sum().item()}

    monkeypatch.setattr("testing.toy_recipe.ToyExperiment.evaluate", evaluate)
    for name, level in (("a", 0), ("b", 2)):
        np.save(tmp_path / f"{name}.npy", np.full((20, 4, 4), level, np.uint8))
    run_dir, a, b = (str(tmp_path / name) for name in ("run", "a.npy", "b.npy"))
    words = ["train", "toy", "--steps", "2", "--out", run_dir, *QUICK, "--num-evaluate", "0"]
    assert cli.main([*words, "--data", a]) == 0
    capsys.readouterr()
    for data, brightness in (([], "0"), (["--data", b], "[1-9]")):
        assert cli.main(["evaluate", run_dir, *data]) == 0
        assert re.search(rf"brightness +{brightness}", capsys.readouterr().out)
    assert json.loads((tmp_path / "run/metrics.json").read_text())["brightness"] == 0


def test_damaged_files_of_a_run_are_one_line(tmp_path, capsys):
    run_dir = tmp_path / "run"
    words = ["train", "toy", "--steps", "3", "--out", str(run_dir), *QUICK]
    assert cli.main(words) == 0
    capsys.readouterr()
    config = RunFolder(run_dir).config
    text = config.read_text()
    for before, after in (('"steps": 3', '"steps": "x"'), ('"log_every": 1', '"log_every": "x"')):
        assert before in text
        config.write_text(text.replace(before, after))
        for command in (["sample", str(run_dir)], ["evaluate", str(run_dir)], [*words, "--resume"]):
            assert cli.main(command) == 2
            error = capsys.readouterr().err
            assert error.startswith(f"gencore: error: {config}")
            assert error.count("\n") == 1


def test_evaluate_shows_its_numbers_where_they_cannot_be_written(tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert cli.main(["train", "toy", "--steps", "2", "--out", str(run_dir), *QUICK]) == 0
    metrics = RunFolder(run_dir).metrics
    metrics.unlink()
    metrics.mkdir()
    capsys.readouterr()
    assert cli.main(["evaluate", str(run_dir), "--num", "7"]) == 2
    shown = capsys.readouterr()
    assert re.search(r"num_samples +7\n +mean +0\.\d", shown.out)
    assert shown.err.startswith(f"gencore: error: cannot write {metrics}: ")
    assert shown.err.count("\n") == 1


def test_sample_uses_the_trained_state(tmp_path):
    run_dir = str(tmp_path / "run")
    words = ["--steps", "30", "--learning-rate", "0.1", "--out", run_dir, *QUICK]
    assert cli.main(["train", "toy", *words]) == 0
    out = tmp_path / "samples.npy"
    assert cli.main(["sample", run_dir, "--num", "2000", "--out", str(out)]) == 0
    saved = read_state(tmp_path / "run/checkpoint.safetensors")["state"]["model"]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, 1, 4, 4, generator=generator)
    expected = (saved["mean"] + saved["log_std"].exp() * noise).clamp(0, 1)
    assert torch.equal(torch.from_numpy(np.load(out)), expected)


def test_divergence_is_status_1(tmp_path, capsys):
    words = ["train", "toy", "--steps", "6", "--diverge-at", "4", "--out", str(tmp_path / "run")]
    assert cli.main([*words, *QUICK]) == 1
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("gencore: error: training diverged at step 4: the toy is broken. ")
    assert error.endswith("Try another toy.")
    assert hint == f"gencore: continue with: gencore train toy --out {tmp_path / 'run'} --resume"


def test_the_way_on_after_a_divergence_names_what_may_change(tmp_path, capsys):
    tiny = ["--steps", "3", "--batch-size", "8", "--chain-steps", "2", "--learning-rate", "1e-6"]
    every = ["--checkpoint-every", "1", "--keep-every", "1", "--num-evaluate", "0"]
    words = ["train", "ebm", "--out", str(tmp_path / "run"), "--num-samples", "0", *every]
    assert cli.main([*words, *tiny]) == 0
    assert cli.main([*words, "--resume", "--steps", "4", "--max-gap", "1e-9"]) == 1
    hint = capsys.readouterr().err.splitlines()[-1]
    assert re.search("--resume and other values of any of .*--energy-penalty, .*--max-gap,", hint)
    assert hint.endswith("; or from a kept checkpoint: --resume-from 1|2|3")
    back = ["--resume-from", "2", "--max-gap", "100", "--learning-rate", "1e-7"]
    assert cli.main([*words, *back]) == 0
    assert read_log(tmp_path / "run/log.csv")["step"] == [4]
    recipe = read_state(tmp_path / "run/checkpoint.safetensors")["recipe"]
    assert recipe["learning_rate"] == 1e-7
    assert cli.main([*words, "--resume", "--network", "mnist"]) == 2
    assert "--network is 'auto' in the checkpoint, 'mnist' here" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_what_may_change_on_resume_is_a_field(name):
    recipe = RECIPES[name]
    assert recipe.changeable | recipe.tunable <= recipe().fields().keys()
    assert not recipe.tunable & {"seed", "batch_size", "steps", "data", "density"}


# Processes of their own


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run in one process."""
    out = tmp_path_factory.mktemp("straight") / "run"
    recipes = RecipeRegistry({"toy": "testing.toy_recipe:ToyRecipe"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gencore.recipes.RECIPES", recipes)
        assert cli.main(["train", "toy", "--steps", "12", "--out", str(out), *QUICK]) == 0
    return out


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(
    tmp_path, environment, straight, number
):
    out = tmp_path / "a run"
    words = ["-m", "gencore", "train", "toy", "--steps", "12", "--out", str(out), *QUICK]
    process = subprocess.Popen(
        [sys.executable, *words, "--pause", "0.1"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = out / "log.csv"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error
    assert "Traceback" not in error
    assert re.search(r"stopped at step \d+; its state is in .*checkpoint\.safetensors", error)
    assert f"continue with: gencore train toy --out '{out}' --resume" in error
    assert not (out / "samples.png").exists()
    assert 2 <= read_state(out / "checkpoint.safetensors")["step"] < 12

    assert cli.main(["train", "toy", "--out", str(out), "--resume", "--pause", "0", *QUICK]) == 0
    assert (out / "log.csv").read_text() == (straight / "log.csv").read_text()
    resumed, whole = (read_state(d / "checkpoint.safetensors") for d in (out, straight))
    assert_same(resumed["state"], whole["state"])
    assert_same(resumed["random"], whole["random"])


def assert_close_runs(a, b):
    """Equal but for the order in which the gradients of the batch are summed."""
    model_a, model_b = (read_state(d / "checkpoint.safetensors")["state"]["model"] for d in (a, b))
    for name in model_a:
        torch.testing.assert_close(model_a[name], model_b[name], rtol=1e-5, atol=1e-6)
    log_a, log_b = read_log(a / "log.csv"), read_log(b / "log.csv")
    assert log_a["step"] == log_b["step"]
    assert log_a["loss"] == pytest.approx(log_b["loss"], rel=1e-5)


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize(
    "launcher",
    [["--devices", "2"], pytest.param(TORCHRUN, marks=pytest.mark.slow)],
    ids=["our own launcher", "torchrun"],
)
def test_two_processes_compute_what_one_computes(tmp_path, environment, straight, launcher):
    out = tmp_path / "run"
    words = ["-m", "gencore", "train", "toy", "--steps", "12", "--out", str(out), *QUICK]
    words = [*launcher, *words] if launcher is TORCHRUN else [*words, *launcher]
    done = run(environment, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("12 steps done") == 1
    assert_close_runs(out, straight)

    # One process can go on where two have stopped.
    again = ["train", "toy", "--out", str(out), "--resume", "--steps", "14", *QUICK]
    assert cli.main(again) == 0
    assert read_log(out / "log.csv")["step"] == list(range(1, 15))


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_fault_with_two_processes_is_reported_once(tmp_path, environment, straight):
    words = ["-m", "gencore", "train", "toy", "--devices", "2", *QUICK]
    done = run(environment, *words, "--out", str(straight))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("already holds a run") == 1
    assert "Traceback" not in done.stderr


def test_the_toy_is_what_the_tests_take_it_for():
    recipe = ToyRecipe()
    assert recipe.batch_size % 2 == 0
    assert len(recipe.load_data()) % recipe.batch_size


def test_a_run_of_another_packages_recipe_is_found_by_its_registered_name(
    monkeypatch, capsys, tmp_path
):
    (tmp_path / "their_recipe.py").write_text(
        "from testing.toy_recipe import ToyRecipe\n"
        'class OtherRecipe(ToyRecipe):\n    """Theirs."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipes = RecipeRegistry({"mine": "their_recipe:OtherRecipe"})
    monkeypatch.setattr("gencore.recipes.RECIPES", recipes)
    out = str(tmp_path / "run")
    assert cli.main(["train", "mine", "--steps", "2", "--out", out, *QUICK]) == 0
    assert cli.main(["sample", out, "--num", "2", "--out", str(tmp_path / "s.npy")]) == 0
    assert cli.main(["evaluate", out, "--num", "5"]) == 0
    assert "mine: 2 steps done" in capsys.readouterr().out
