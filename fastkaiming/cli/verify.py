"""``verify``: a checkpoint compared with what its own headers say that it should be."""

import argparse
from pathlib import Path

from fastkaiming import checkpoint
from fastkaiming.cli import _output

HELP = "draw the values of a checkpoint anew, and name the first that differs; exit code 1 if one does"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="a directory of a checkpoint, or one file of it")


def run(options: argparse.Namespace) -> int:
    """Compare, and return 1 where something differs."""
    with _output.json_output(options.json) as result:
        with _output.progress("verify"):
            found = checkpoint.verify(options.out_dir)
        difference = found.difference
        result |= {"files": found.files, "tensors": found.tensors, "bytes": found.nbytes}
        result["difference"] = None if difference is None else difference._asdict()
        if difference is None:
            print(
                f"{found.files} files, {found.tensors} tensors, {found.nbytes:,} bytes: every value is as it should be"
            )
        else:
            element = ", ".join(map(str, difference.element))
            print(f"{_output.shown(difference.file)}: {_output.shown(difference.tensor)} differs, first at [{element}]")
            print("checkpoint --resume, with the same arguments as before, makes damaged files anew")
    return 0 if difference is None else 1
