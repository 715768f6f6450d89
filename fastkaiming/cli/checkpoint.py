"""``checkpoint``: random weights of a whole architecture as safetensors files."""

import argparse
import re
import time
from pathlib import Path
from typing import Any

from fastkaiming import checkpoint
from fastkaiming.cli import _output

HELP = "write a checkpoint of random weights, larger than memory if need be"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a recipe (.toml, .json), a .safetensors file or an index, whose headers tell names and shapes, "
        "the config.json of a Hugging Face model, or a directory with one of these",
    )
    parser.add_argument("out_dir", metavar="OUT_DIR", help="where the files go")
    parser.add_argument("--seed", type=int, metavar="N", help="which weights (default: the recipe's, or 0)")
    parser.add_argument("--dtype", metavar="NAME", help="float32, bfloat16, ... (default: the source's)")
    parser.add_argument(
        "--rule",
        type=_rule,
        action="append",
        metavar="PATTERN=INIT",
        help='such as "*.bias=zeros", in place of the rules of the source; may be repeated, the first match counts',
    )
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file (default: 5GB)")
    parser.add_argument("--part", type=_part, metavar="K/N", help="make the K-th of N parts alone")
    parser.add_argument("--resume", action="store_true", help="keep the files that stand there whole")
    parser.add_argument("--dry-run", action="store_true", help="show every tensor, and write nothing")


def run(options: argparse.Namespace) -> int:
    """Write the files, or show what would be written."""
    given = {"seed": options.seed, "dtype": options.dtype, "rules": options.rule}
    given["max_shard_size"] = options.max_shard_size
    with _output.json_output(options.json) as result:
        if options.dry_run:
            _show(checkpoint.plan(options.source, **given), result)
        else:
            _write(options, given, result)
    return 0


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"it must be K/N, such as 2/8, got {text!r}")
    return int(match[1]), int(match[2])


def _rule(text: str) -> tuple[str, str]:
    pattern, equals, init = text.partition("=")
    if not (pattern and equals):
        raise argparse.ArgumentTypeError(f"it must be PATTERN=INIT, such as *.bias=zeros, got {text!r}")
    return pattern, init


def _write(options: argparse.Namespace, given: dict[str, Any], result: dict[str, Any]) -> None:
    start = time.perf_counter()
    with _output.progress("checkpoint"):
        report = checkpoint.write(options.source, options.out_dir, part=options.part, resume=options.resume, **given)
    seconds = time.perf_counter() - start
    result |= {"files": report.files, "kept": report.kept, "tensors": report.tensors, "bytes": report.nbytes}
    result["seconds"] = seconds
    for name in report.files:
        print(f"{Path(options.out_dir) / name}{' (kept)' if name in report.kept else ''}")
    print(f"{report.tensors:,} tensors, {report.nbytes:,} bytes in {seconds:.1f} s")


def _show(plan: checkpoint.Plan, result: dict[str, Any]) -> None:
    rows = [_row(file.name, tensor) for file in plan.files for tensor in file.tensors]
    total = sum(file.nbytes for file in plan.files)
    elements = sum(tensor.elements for tensor in plan.tensors)
    result |= {"seed": plan.seed, "files": len(plan.files), "bytes": total, "elements": elements, "tensors": rows}
    _output.table(rows)
    print(f"seed {plan.seed}, {len(plan.files)} files, {len(rows):,} tensors, {elements:,} elements, {total:,} bytes")


def _row(file: str, tensor: checkpoint.Tensor) -> dict[str, Any]:
    drawn = tensor.distribution
    fans = tensor.fans or (None, None)
    return {
        "file": file,
        "tensor": tensor.name,
        "shape": "x".join(map(str, tensor.shape)) or "()",
        "dtype": tensor.dtype.numpy,
        "bytes": tensor.nbytes,
        "fan_in": fans[0],
        "fan_out": fans[1],
        "mean": None if drawn is None else drawn.mean,
        "std": None if drawn is None else drawn.std,
        "rule": tensor.rule,
    }
