"""Run the README's fenced ``bash`` and ``python`` blocks, in order, from the repository's root.

A block is the claim that what stands in it works; this holds the README to it.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    text = (ROOT / "README.md").read_text()
    for language, body in re.findall(
        r"^```(bash|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    ):
        print(f"+ README, {language}:\n{body}", flush=True)
        if language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", body]
        else:
            command = [sys.executable, "-c", body]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
