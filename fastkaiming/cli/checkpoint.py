"""``checkpoint``: writes random weights of a whole architecture to safetensors files."""

import argparse
import re
import time
from pathlib import Path
from typing import Any

from fastkaiming import checkpoint
from fastkaiming.cli import _output

HELP = "write a checkpoint of random weights, which may be larger than memory"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="the source of names and shapes: a recipe (.toml or .json), a .safetensors file or an index, of which "
        "only headers are read, the config.json of a Hugging Face model, or a directory with model.safetensors, an "
        "index or config.json",
    )
    parser.add_argument("out_dir", metavar="OUT_DIR", help="the directory for the files")
    parser.add_argument("--seed", type=int, metavar="N", help="the seed (default: the recipe's, or 0)")
    parser.add_argument(
        "--dtype",
        metavar="NAME",
        help="the dtype of floating-point tensors: float32, bfloat16, ... (default: the source's)",
    )
    parser.add_argument(
        "--rule",
        type=_parse_rule,
        action="append",
        metavar="PATTERN=INIT",
        help='a rule such as "*.bias=zeros", which replaces all rules of the source; may be repeated, and the first '
        "matching pattern applies",
    )
    parser.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        help="the maximum size of the tensors in a file, in bytes or with a unit: 5GB or 5G is 5 * 10**9 bytes, and "
        "5GiB is 5 * 2**30 bytes (default: 5GB, or that of save_pretrained for a config)",
    )
    parser.add_argument("--part", type=_parse_part, metavar="K/N", help="write only the K-th of N parts of the files")
    parser.add_argument(
        "--resume", action="store_true", help="keep complete files of an earlier run of this checkpoint"
    )
    parser.add_argument("--dry-run", action="store_true", help="list all tensors without writing files")


def run(options: argparse.Namespace) -> int:
    """Write the files, or list the tensors that would be written."""
    arguments = {"seed": options.seed, "dtype": options.dtype, "rules": options.rule}
    arguments["max_shard_size"] = options.max_shard_size
    with _output.json_output(options.json) as result:
        if options.dry_run:
            _show_plan(checkpoint.plan(options.source, **arguments), result)
        else:
            _write(options, arguments, result)
    return 0


def _parse_part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"the part must be K/N, for example 2/8, got {text!r}")
    return int(match[1]), int(match[2])


def _parse_rule(text: str) -> tuple[str, str]:
    pattern, equals, init = text.partition("=")
    if not (pattern and equals):
        raise argparse.ArgumentTypeError(f"the rule must be PATTERN=INIT, for example *.bias=zeros, got {text!r}")
    return pattern, init


def _write(options: argparse.Namespace, arguments: dict[str, Any], result: dict[str, Any]) -> None:
    start = time.perf_counter()
    with _output.progress("checkpoint"):
        report = checkpoint.write(
            options.source, options.out_dir, part=options.part, resume=options.resume, **arguments
        )
    seconds = time.perf_counter() - start
    result |= {"files": report.files, "kept": report.kept, "tensors": report.tensors, "bytes": report.nbytes}
    result["seconds"] = seconds
    for name in report.files:
        print(f"{Path(options.out_dir) / name}{' (kept)' if name in report.kept else ''}")
    print(f"{report.tensors:,} tensors, {report.nbytes:,} bytes in {seconds:.1f} s")


def _show_plan(plan: checkpoint.Plan, result: dict[str, Any]) -> None:
    rows = [_plan_row(file.name, tensor) for file in plan.files for tensor in file.tensors]
    total = sum(file.nbytes for file in plan.files)
    elements = sum(tensor.elements for tensor in plan.tensors)
    result |= {"seed": plan.seed, "files": len(plan.files), "bytes": total, "elements": elements, "tensors": rows}
    _output.table(rows)
    print(f"seed {plan.seed}, {len(plan.files)} files, {len(rows):,} tensors, {elements:,} elements, {total:,} bytes")


def _plan_row(file: str, tensor: checkpoint.Tensor) -> dict[str, Any]:
    distribution = tensor.distribution
    fans = tensor.fans or (None, None)
    return {
        "file": file,
        "tensor": tensor.name,
        "shape": "x".join(map(str, tensor.shape)) or "()",
        "dtype": tensor.dtype.numpy,
        "bytes": tensor.nbytes,
        "fan_in": fans[0],
        "fan_out": fans[1],
        "mean": None if distribution is None else distribution.mean,
        "std": None if distribution is None else distribution.std,
        "rule": tensor.rule,
    }
