"""Run every script of examples/; each has to be short and to leave a picture.

``GENCORE_EXAMPLES=nuts_posterior,log_z python .ci/examples.py`` runs some of them.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 40


def check(script: Path, folder: Path) -> None:
    lines = len(script.read_text().splitlines())
    if lines > MAX_LINES:
        sys.exit(f"{script.name} has {lines} lines; at most {MAX_LINES} are an example")
    picture = folder / f"{script.stem}.png"
    started = time.monotonic()
    subprocess.run(
        [sys.executable, str(script), str(picture)],
        cwd=folder,  # where no folder is called gencore: the installed package runs
        env={**os.environ, "MPLBACKEND": "Agg"},
        check=True,
    )
    if not picture.exists():
        sys.exit(f"{script.name} left no picture at the path that it was given")
    with Image.open(picture) as image:
        levels = len(image.convert("L").getcolors())
        width, height = image.size
    if levels < 16 or min(width, height) < 200:
        sys.exit(f"{script.name}: a picture of {width}x{height} with {levels} grey levels is blank")
    print(f"+ {script.name}: {time.monotonic() - started:.0f} s, {width}x{height}\n", flush=True)


def main() -> None:
    wanted = os.environ.get("GENCORE_EXAMPLES", "")
    scripts = sorted((ROOT / "examples").glob("*.py"))
    if wanted:
        scripts = [ROOT / "examples" / f"{name}.py" for name in wanted.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        for script in scripts:
            check(script, Path(folder))


if __name__ == "__main__":
    main()
