"""``fill``: fills one array of any size and writes it to a file."""

import argparse
import io
import re
import sys
import time
from glob import escape
from pathlib import Path

import numpy as np

import fastkaiming
from fastkaiming import _validation
from fastkaiming._fill import dtypes
from fastkaiming._fill.context import combined_progress
from fastkaiming.checkpoint import _dtypes, _file_writer, _headers, _plan, _rules
from fastkaiming.cli import _output
from fastkaiming.initializers import DEFAULT_RULES

CONFIRMED_BYTES = 10 * 10**9  # larger files need --yes on a terminal

HELP = "fill one array of any size, and write it to a .npy file or a raw binary file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="the new file, in NumPy's format if its name ends in .npy, and raw otherwise; a .npy file does not record "
        "dtypes such as bfloat16, so load it with np.load(OUT).view(ml_dtypes.bfloat16)",
    )
    add_array_arguments(parser, DEFAULT_RULES["*"])  # which reads two axes: with more, --init has to name them
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the seed (default: 0)")
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="use the key of this tensor name, as in a checkpoint (default: the key of the seed)",
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help=f"write a file of more than {CONFIRMED_BYTES:,} bytes; on a terminal, such a file is an error without it",
    )


def add_array_arguments(parser: argparse.ArgumentParser, default_init: str) -> None:
    """Add the arguments that describe an array."""
    parser.add_argument("shape", type=shape, metavar="SHAPE", help="the shape, for example 4096x1024")
    parser.add_argument(
        "--init",
        default=default_init,
        metavar="RULE",
        help=f'the initializer, for example "normal(std=0.02)" (default: {default_init})',
    )
    parser.add_argument(
        "--dtype", default="float32", metavar="NAME", help="the dtype: float32, bfloat16, ... (default: float32)"
    )


def shape(text: str) -> tuple[int, ...]:
    """Return the shape in a text such as 4096x1024 or 4096,1024."""
    if re.fullmatch(r"[0-9]{1,1000}([x,][0-9]{1,1000})*", text) is None:
        raise argparse.ArgumentTypeError(f"it must be sizes such as 4096x1024, got {text!r:.60}")
    return tuple(int(size) for size in re.split("[x,]", text))


def checked_array(options: argparse.Namespace) -> tuple[_dtypes.Dtype, tuple[int, ...]]:
    """Return the dtype and the shape of the array that the arguments describe, if it can be filled."""
    dtype = _dtypes.dtype_from_name("--dtype", options.dtype)
    if not dtype.is_fillable:
        raise ValueError(f"--dtype must be {dtypes.NAMES}, got {dtype.numpy}")
    sizes = _validation.shape("SHAPE", options.shape)
    _headers.check_axes("SHAPE", sizes)
    return dtype, sizes


def run(options: argparse.Namespace) -> int:
    """Write the file. It gets its final name only when it is complete."""
    path: Path = options.out
    file = _planned_file(path, options)
    generator = fastkaiming.Generator(options.seed)
    key = fastkaiming.Key(options.seed) if options.name is None else generator.key(options.name)
    if path.exists():
        raise FileExistsError(f"{path}: the file exists and is not overwritten")
    for temporary_path in _file_writer.temporary_files(path.parent, escape(path.name)):
        raise FileExistsError(
            f"{temporary_path}: another run is writing this file, or a killed run left it; if so, remove it"
        )
    if file.nbytes > CONFIRMED_BYTES and not options.yes and _is_interactive():
        raise ValueError(
            f"{path}: a file of more than {CONFIRMED_BYTES:,} bytes must be confirmed with --yes, got "
            f"{file.nbytes:,} bytes"
        )
    start = time.perf_counter()
    with _output.json_output(options.json) as result:
        reserved = _file_writer.reserve(path.parent, [file])
        try:
            if not options.json:
                print(f"{_output.one_line(str(path))}: writing {file.nbytes:,} bytes", file=sys.stderr)
            with _output.progress("fill"), combined_progress(file.tensors[0].elements):
                _file_writer.write_files(lambda _: key, reserved)
        finally:
            _file_writer.discard(reserved)
        seconds = time.perf_counter() - start
        result |= {"file": str(path), "bytes": file.nbytes, "seconds": seconds}
        result["distribution"] = repr(file.tensors[0].distribution)
        print(f"{path}: {file.nbytes:,} bytes of {result['distribution']} in {seconds:.1f} s")
    return 0


def _planned_file(path: Path, options: argparse.Namespace) -> _plan.File:
    """Return the plan of the file, after checking that the rule can fill the array."""
    dtype, sizes = checked_array(options)
    if not _headers.checked_nbytes("SHAPE", dtype, sizes):
        raise ValueError(f"SHAPE must have at least one element, got {sizes}")
    header = _npy_header(dtype, sizes) if path.suffix == ".npy" else b""
    tensor = _plan.Tensor(path.name, dtype, sizes, options.init, len(header))
    _rules.filler_of_rule(options.init)  # raises an error for a digest of values
    _ = tensor.distribution  # raises an error if the rule cannot fill the array
    return _plan.File(path.name, header, (tensor,))


def _is_interactive() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _npy_header(dtype: _dtypes.Dtype, sizes: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype.numpy_dtype())
    np.lib.format.write_array_header_1_0(stream, {"descr": description, "fortran_order": False, "shape": sizes})
    return stream.getvalue()
