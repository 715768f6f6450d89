"""``fill``: one array into a file of its own, of any size."""

import argparse
import io
import re
import time
from glob import escape
from pathlib import Path

import numpy as np

import fastkaiming
from fastkaiming import _validation
from fastkaiming._fill.fill import combined_progress
from fastkaiming.checkpoint import _dtypes, _file_writer, _plan
from fastkaiming.cli import _output

HELP = "fill one array of any size into a .npy file, or into a raw one"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="the new file: raw, or NumPy's format if it ends in .npy, which has no name for narrow floats: "
        "np.load(OUT).view(ml_dtypes.bfloat16)",
    )
    describe_array(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which values (default: 0)")
    parser.add_argument("--name", metavar="NAME", help="the values of a name, as a checkpoint has them")


def describe_array(parser: argparse.ArgumentParser) -> None:
    """Add what says which array is meant."""
    parser.add_argument("shape", type=shape, metavar="SHAPE", help="for example 4096x1024")
    parser.add_argument(
        "--init", default="kaiming_normal", metavar="RULE", help='an initializer, such as "normal(std=0.02)"'
    )
    parser.add_argument("--dtype", default="float32", metavar="NAME", help="float32, bfloat16, ... (default: float32)")


def shape(text: str) -> tuple[int, ...]:
    """Return the sizes in a text such as 4096x1024, or with commas."""
    if re.fullmatch(r"[0-9]{1,20}([x,][0-9]{1,20})*", text) is None:
        raise argparse.ArgumentTypeError(f"it must be sizes such as 4096x1024, got {text!r}")
    return tuple(int(size) for size in re.split("[x,]", text))


def run(options: argparse.Namespace) -> int:
    """Write the file, which has its name when it is whole."""
    path: Path = options.out
    file = _file(path, options)
    generator = fastkaiming.Generator(options.seed)
    key = fastkaiming.Key(options.seed) if options.name is None else generator.key(options.name)
    if path.exists():
        raise FileExistsError(f"{path}: it exists, and is not overwritten")
    for partial in _file_writer.leftovers(path.parent, escape(path.name)):
        raise FileExistsError(f"{partial}: another run writes it, or one that was killed left it: remove it then")
    start = time.perf_counter()
    with _output.json_output(options.json) as result:
        with _output.progress("fill"), combined_progress(file.tensors[0].elements):
            reserved = _file_writer.reserve(path.parent, [file])
            try:
                _file_writer.write(lambda _: key, reserved)
            finally:
                _file_writer.discard(reserved)
        seconds = time.perf_counter() - start
        result |= {"file": str(path), "bytes": file.nbytes, "seconds": seconds}
        result["distribution"] = repr(file.tensors[0].distribution)
        print(f"{path}: {file.nbytes:,} bytes of {result['distribution']} in {seconds:.1f} s")
    return 0


def _file(path: Path, options: argparse.Namespace) -> _plan.File:
    """Return what the file will hold; a rule that cannot fill it is refused here."""
    dtype = _dtypes.named("--dtype", options.dtype)
    sizes = _validation.shape("SHAPE", options.shape)
    header = _npy_header(dtype, sizes) if path.suffix == ".npy" else b""
    tensor = _plan.Tensor(path.name, dtype, sizes, options.init, len(header))
    if tensor.distribution is None:
        raise ValueError(f"SHAPE and --dtype must be of something to draw, got {sizes} of {dtype.numpy}")
    return _plan.File(path.name, header, (tensor,))


def _npy_header(dtype: _dtypes.Dtype, sizes: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype.memory())
    np.lib.format.write_array_header_1_0(stream, {"descr": description, "fortran_order": False, "shape": sizes})
    return stream.getvalue()
