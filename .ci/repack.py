"""The wheel that the installed gencore came from, once more: no need to compile it again.

    python .ci/repack.py FOLDER

Prints the path of the wheel that it writes into FOLDER.
"""

import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

# What pip adds to a distribution, and the list of files, which is made anew.
NOT_IN_A_WHEEL = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    installed = distribution("gencore")
    with tempfile.TemporaryDirectory() as unpacked:
        for file in installed.files or ():
            # Scripts lie outside, and follow from the entry points.
            if ".." in file.parts or file.suffix == ".pyc" or file.name in NOT_IN_A_WHEEL:
                continue
            target = Path(unpacked) / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(installed.locate_file(file), target)
        command = [sys.executable, "-m", "wheel", "pack", unpacked, "--dest-dir", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    print(wheel)


if __name__ == "__main__":
    main()
