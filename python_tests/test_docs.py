"""The Python in the documentation works, block after block in one program."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


PAGES = [
    "adaptive-density.md",
    "adversarial.md",
    "agave.md",
    "autoencoder-energies.md",
    "autoregressive.md",
    "autoregressive-vectors.md",
    "batch-gan.md",
    "captioning.md",
    "compression.md",
    "data.md",
    "diffusion-recovery-likelihood.md",
    "diffusion-recovery.md",
    "diffusion.md",
    "disentangling.md",
    "dynamic-generators.md",
    "ebgan-grid.md",
    "faces.md",
    "flow-contrastive.md",
    "flows.md",
    "gan-networks.md",
    "generative-latent-flow.md",
    "grid-cells.md",
    "latent-ebm.md",
    "latent-oracles.md",
    "linearizing.md",
    "metrics.md",
    "motion-generators.md",
    "multi-grid.md",
    "out-of-distribution.md",
    "pixelrnn.md",
    "recipes.md",
    "representations.md",
    "samplers.md",
    "transport.md",
    "v1-cells.md",
    "vae.md",
    "video-prediction.md",
    "vqvae.md",
    "warping.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text()
    names = {"__name__": page}
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match[1], page, "exec"), names)
