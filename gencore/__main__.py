"""``python -m gencore`` is the command ``gencore``."""

import sys

from gencore.cli import main

if __name__ == "__main__":
    sys.exit(main())
