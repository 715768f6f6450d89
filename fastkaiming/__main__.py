"""``python -m fastkaiming``: the command line."""

import sys

from fastkaiming.cli import main

if __name__ == "__main__":
    sys.exit(main())
