"""``verify``: compares a checkpoint with the seed and the rules in its headers."""

import argparse
from pathlib import Path

from fastkaiming import checkpoint
from fastkaiming.cli import _output

HELP = "compare every value of a checkpoint with its expected value; exit with 1 if one differs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "out_dir", type=Path, metavar="OUT_DIR", help="a directory with a checkpoint, or one file of it"
    )


def run(options: argparse.Namespace) -> int:
    """Compare the values, and return 1 if one differs."""
    with _output.json_output(options.json) as result:
        with _output.progress("verify"):
            verification = checkpoint.verify(options.out_dir)
        difference = verification.difference
        result |= {"files": verification.files, "tensors": verification.tensors, "bytes": verification.nbytes}
        result["difference"] = None if difference is None else difference._asdict()
        if difference is None:
            print(
                f"{verification.files} files, {verification.tensors} tensors, {verification.nbytes:,} bytes: "
                "all values are as expected"
            )
        else:
            element = "" if difference.element is None else f", first at [{', '.join(map(str, difference.element))}]"
            file, tensor = _output.format_value(difference.file), _output.format_value(difference.tensor)
            print(f"{file}: {tensor} differs{element}")
            print("To repair damaged files, run the same checkpoint command again with --resume.")
    return 0 if difference is None else 1
