"""gencore compress and decompress."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from testing.coder_recipe import CoderRecipe
from testing.command_line import run
from testing.runs import train

from gencore import cli
from gencore.compression import write_exact_images
from gencore.recipes import RecipeRegistry
from gencore.recipes.autoregressive.agave import AGAVERecipe
from gencore.recipes.autoregressive.nade import NADERecipe
from gencore.recipes.autoregressive.pixelcnn import PixelCNNRecipe
from gencore.recipes.autoregressive.pixelrnn import PixelRNNRecipe
from gencore.recipes.autoregressive.vqvae import VQVAERecipe

pytest.importorskip("constriction")
pytest.importorskip("lightning_fabric")


@pytest.fixture(autouse=True)
def _with_coder(monkeypatch):
    recipes = {"coder": "testing.coder_recipe:CoderRecipe", "toy": "testing.toy_recipe:ToyRecipe"}
    monkeypatch.setattr("gencore.recipes.RECIPES", RecipeRegistry(recipes))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(path, CoderRecipe(steps=5))
    return path


@pytest.fixture
def images(tmp_path):
    x = torch.randint(16, (12, 1, 4, 4), generator=torch.Generator().manual_seed(4))
    write_exact_images(x, 16, tmp_path / "images")
    return x


def trained(recipe, folder, monkeypatch):
    """A run of one of our own recipes."""
    place = f"{type(recipe).__module__}:{type(recipe).__name__}"
    monkeypatch.setattr("gencore.recipes.RECIPES", RecipeRegistry({recipe.name: place}))
    train(folder / "run", recipe, num_samples=0, num_evaluate=0)
    return folder / "run"


def pixels(folder):
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.iterdir())])


def test_images_come_back_in_another_process(run_dir, images, tmp_path, capsys, environment):
    file, back = tmp_path / "images.gencore", tmp_path / "back"
    assert cli.main(["compress", str(run_dir), str(tmp_path / "images")]) == 0
    size = file.stat().st_size
    said = capsys.readouterr().out
    assert said == (
        f"12 images with the model of step 5: {size} bytes, {8 * size / images.numel():.4g} bits a "
        f"value: {file}\n"
    )
    done = run(
        environment, "-m", "gencore", "decompress", str(run_dir), str(file), "--out", str(back)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"12 images: {back}\n"
    assert (pixels(back) == pixels(tmp_path / "images")).all()


def test_images_may_be_named_one_by_one_and_come_back_as_an_array(run_dir, images, tmp_path):
    np.save(tmp_path / "more.npy", 17 * images[:3, 0].numpy().astype(np.uint8))
    words = [tmp_path / "images" / "11.png", tmp_path / "more.npy", "--out", tmp_path / "file"]
    assert cli.main(["compress", *map(str, [run_dir, *words]), "--images-per-stream", "3"]) == 0
    words = [run_dir, tmp_path / "file", "--out", tmp_path / "back.npy"]
    assert cli.main(["decompress", *map(str, words)]) == 0
    expected = 17 * images[[11, 0, 1, 2]].numpy()
    assert (np.load(tmp_path / "back.npy") == expected).all()


@pytest.mark.parametrize(
    ("recipe", "bits"),
    [
        (NADERecipe(steps=2, hidden_widths=(8,)), 1),
        (PixelCNNRecipe(steps=2, channels=6, num_layers=1, bits=4), 4),
        (PixelRNNRecipe(steps=2, channels=4, num_layers=1, bits=3, model="row_lstm"), 3),
        (
            PixelRNNRecipe(steps=2, channels=4, num_layers=1, bits=3, model="multiscale"),
            3,
        ),
        (NADERecipe(steps=2, model="darn", latents=(8,), order="random"), 1),
        (AGAVERecipe(steps=2, channels=6, vae_channels=6), 4),
        (AGAVERecipe(steps=2, channels=6, model="auxiliary-pixelcnn", target="small"), 4),
        (AGAVERecipe(steps=2, channels=6, model="pixelcnn"), 4),
    ],
    ids=[
        "nade", "pixelcnn", "pixelrnn", "multiscale", "darn", "agave", "auxiliary-pixelcnn",
        "plain pixelcnn",
    ],
)  # fmt: skip
def test_runs_of_our_recipes_compress(recipe, bits, tmp_path, monkeypatch):
    run = trained(recipe, tmp_path, monkeypatch)
    values = torch.randint(256, (5, 8, 8), dtype=torch.uint8).numpy()
    np.save(tmp_path / "x.npy", values)
    words = [run, tmp_path / "x.npy", "--reduce", "--out", tmp_path / "file"]
    assert cli.main(["compress", *map(str, words)]) == 0
    words = [run, tmp_path / "file", "--out", tmp_path / "back.npy"]
    assert cli.main(["decompress", *map(str, words)]) == 0
    back = np.load(tmp_path / "back.npy")[:, 0]
    assert (back >> 8 - bits == values >> 8 - bits).all()  # as the recipe reads them


def test_runs_that_know_classes_say_them_in_the_file(tmp_path, monkeypatch, capsys):
    recipe = PixelCNNRecipe(steps=3, channels=6, num_layers=1, bits=4, class_conditional=True)
    run = trained(recipe, tmp_path, monkeypatch)
    values = 17 * torch.randint(16, (5, 8, 8), dtype=torch.uint8).numpy()
    np.save(tmp_path / "x.npy", values)
    sizes = []
    for number, words in enumerate([[], ["--label", "9"], ["--label", "0", "1", "2", "3", "4"]]):
        file, back = str(tmp_path / f"file{number}"), str(tmp_path / f"back{number}.npy")
        x = str(tmp_path / "x.npy")
        assert cli.main(["compress", str(run), x, "--out", file, *words]) == 0
        assert cli.main(["decompress", str(run), file, "--out", back]) == 0
        assert (np.load(back)[:, 0] == values).all()
        sizes.append((tmp_path / f"file{number}").stat().st_size)
    assert sizes[0] <= min(sizes) + 4
    capsys.readouterr()
    for words, message in (
        (["--label", "10"], "--label names no class 10; the classes of the run are 0 1 2 3 4 5"),
        (["--label", "1", "2"], "--label has 2 classes; expected one, or 5"),
    ):
        assert cli.main(["compress", str(run), x, "--out", str(tmp_path / "y"), *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("vq_steps", [2, 4], ids=["with a prior", "without"])
def test_a_vq_vae_compresses_with_loss_and_says_so(vq_steps, tmp_path, monkeypatch, capsys):
    recipe = VQVAERecipe(
        steps=4, vq_steps=vq_steps, hidden_channels=8, num_codes=5, prior_channels=4, prior_layers=1
    )
    no_prior = pytest.warns(UserWarning, match="no prior of the codes is trained: the run has 4 st")
    with no_prior if vq_steps == 4 else nullcontext():
        run = trained(recipe, tmp_path, monkeypatch)
    values = torch.randint(256, (5, 8, 8), dtype=torch.uint8).numpy()
    np.save(tmp_path / "x.npy", values)
    capsys.readouterr()
    words = [run, tmp_path / "x.npy", "--out", tmp_path / "file"]
    assert cli.main(["compress", *map(str, words)]) == 0
    assert ", lossy: " in capsys.readouterr().out
    # 16 codes an image, of log2 5 bits under a prior that knows nothing.
    assert (tmp_path / "file").stat().st_size < 35 + 5 * 16 * 3.5 / 8
    out = tmp_path / "back.npy"
    words = [run, tmp_path / "file", "--out", out]
    assert cli.main(["decompress", *map(str, words)]) == 0
    said = capsys.readouterr().out
    assert said == f"5 images, lossy: like those that were compressed: {out}\n"
    assert np.load(out).shape == (5, 1, 8, 8)
    words = [run, tmp_path / "x.npy", "--label", "1", "--out", tmp_path / "y"]
    assert cli.main(["compress", *map(str, words)]) == 2
    assert "--label is for class-conditional runs, which this is not" in capsys.readouterr().err


def test_the_plain_vae_does_not_compress(tmp_path, monkeypatch, capsys):
    run = trained(AGAVERecipe(steps=1, model="vae", vae_channels=4), tmp_path, monkeypatch)
    capsys.readouterr()
    assert cli.main(["compress", str(run), "x.npy"]) == 2
    assert "the plain VAE gives its pixels no probabilities" in capsys.readouterr().err


def test_images_of_more_levels_are_reduced_if_that_is_asked_for(run_dir, tmp_path):
    values = torch.randint(256, (3, 4, 4), dtype=torch.uint8).numpy()
    np.save(tmp_path / "x.npy", values)
    words = ["compress", str(run_dir), str(tmp_path / "x.npy"), "--out", str(tmp_path / "file")]
    assert cli.main(words) == 2
    assert cli.main([*words, "--reduce"]) == 0
    back = tmp_path / "back"
    assert cli.main(["decompress", str(run_dir), str(tmp_path / "file"), "--out", str(back)]) == 0
    assert (pixels(back) == values // 16 * 17).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compress", "error: gencore compress needs RUN_DIR: The run's folder."),
        ("compress {run}", "error: gencore compress needs IMAGES: Image files, folders"),
        ("compress {run} {tmp}/images {tmp}/images", "--out is needed for 2 paths of images"),
        ("compress {run} {tmp}/images --out {tmp}", "--out must be a file other than the images"),
        ("compress {run} {tmp}/a.png --out {tmp}/a.png", "--out must be a file other than the"),
        ("compress {run} {tmp}/images --images-per-stream 0", "--images-per-stream must be at"),
        ("compress {run} {tmp}/nothing.png", "error: {tmp}/nothing.png does not exist"),
        ("compress {run} {tmp}/large.png", "{tmp}/large.png has 5 x 5 pixels; the model's im"),
        ("compress {run} {tmp}/odd.png", "{tmp}/odd.png has the value 3, which is none"),
        ("compress {tmp} {tmp}/images", "there is no run in {tmp}"),
        ("compress {toy} {tmp}/images", "the recipe toy trains no model that compresses images"),
        ("decompress {run}", "error: gencore decompress needs FILE: The compressed file."),
        ("decompress {run} {tmp}/nothing", "error: there is no file {tmp}/nothing"),
        ("decompress {run} {tmp}/large.png", "{tmp}/large.png: no file of gencore compress: it st"),
        ("decompress {run} {tmp}/cut --out {tmp}/o", "error: {tmp}/cut: the file is cut short"),
        ("decompress {other} {tmp}/file --out {tmp}/o", "{tmp}/file: the file was compressed with"),
        ("decompress {run} {tmp}/file --out {tmp}", "--out must be a folder that is new or empty"),
        (
            "decompress {run} {tmp}/file --out {tmp}/e.jpg",
            "--out must be a folder, without a suffix",
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(run_dir, images, tmp_path, capsys, words, message):
    toy, other = run_dir.with_name("toy"), run_dir.with_name("other")
    if "{toy}" in words:
        train(toy, None, overwrite=True)
    if "{other}" in words:
        train(other, CoderRecipe(steps=6), overwrite=True)
    Image.new("L", (5, 5)).save(tmp_path / "large.png")
    Image.new("L", (4, 4), 3).save(tmp_path / "odd.png")
    if "{tmp}/cut" in words or "{tmp}/file" in words:
        assert (
            cli.main(
                [
                    "compress",
                    str(run_dir),
                    str(tmp_path / "images"),
                    "--out",
                    str(tmp_path / "file"),
                ]
            )
            == 0
        )
        (tmp_path / "cut").write_bytes((tmp_path / "file").read_bytes()[:-9])
        capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    names = {"run": run_dir, "tmp": tmp_path, "toy": toy, "other": other}
    assert cli.main(words.format(**names).split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("gencore: error: ")
    assert message.format(**names) in captured.err
    assert sorted(tmp_path.rglob("*")) == before
