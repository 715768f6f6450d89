"""``plot``: figures of signal propagation and of tensors, and an HTML report about a checkpoint."""

import argparse
import io
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastkaiming import checkpoint
from fastkaiming._fill.context import combined_progress, report_filled
from fastkaiming.checkpoint import _file_writer
from fastkaiming.checkpoint._rules import zero_rows_of_rule
from fastkaiming.cli import _output
from fastkaiming.diagnostics import propagate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "create a figure of signal propagation, a histogram of a tensor, or a report about a checkpoint"
_DEFAULT_INITIALIZERS = ("normal(std=0.01)", "xavier_normal", "he_normal")
_DEFAULT_TEXT = ", ".join(_DEFAULT_INITIALIZERS)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each kind of plot."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    propagation = _add_kind(kinds, "propagation", "plot the mean squares of activations and gradients in each layer")
    propagation.add_argument("out", type=Path, metavar="OUT", help="the new file: .png, .svg or .pdf")
    propagation.add_argument(
        "--init", action="append", metavar="RULE", help=f"the initializer; may be repeated (default: {_DEFAULT_TEXT})"
    )
    propagation.add_argument("--nonlinearity", default="relu", metavar="NAME", help="the activation (default: relu)")
    propagation.add_argument("--depth", type=int, default=30, metavar="N", help="the number of layers (default: 30)")
    propagation.add_argument(
        "--width", type=int, default=256, metavar="N", help="the number of units in a layer (default: 256)"
    )
    histogram = _add_kind(kinds, "histogram", "plot a histogram of a tensor with its expected density")
    histogram.add_argument("checkpoint", metavar="CHECKPOINT", help="a directory with a checkpoint, or one file of it")
    histogram.add_argument("tensor", metavar="TENSOR", help="the name of the tensor")
    histogram.add_argument("out", type=Path, metavar="OUT", help="the new file: .png, .svg or .pdf")
    report = _add_kind(kinds, "report", "write an HTML page that compares every tensor of a checkpoint with its rule")
    report.add_argument("checkpoint", metavar="CHECKPOINT", help="a directory with a checkpoint, or one file of it")
    report.add_argument("out", type=Path, metavar="OUT", help="the new file: .html")


def _add_kind(kinds: Any, name: str, text: str) -> argparse.ArgumentParser:
    kind: argparse.ArgumentParser = kinds.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    # The parser of the whole command has --json, too. Repeat it, so that it can also follow the arguments of a kind.
    kind.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return kind


def run(options: argparse.Namespace) -> int:
    """Write the file. It gets its final name only when it is complete."""
    if options.out.exists():
        raise FileExistsError(f"{options.out}: the file exists and is not overwritten")
    with _output.json_output(options.json) as result:
        data = _KINDS[options.kind](options)
        _file_writer.write_atomically(options.out, data)
        result |= {"file": str(options.out), "bytes": len(data)}
        print(f"{options.out}: {len(data):,} bytes")
    return 0


def _propagation(options: argparse.Namespace) -> bytes:
    from fastkaiming.diagnostics import plot

    sizes = {"depth": options.depth, "width": options.width, "nonlinearity": options.nonlinearity}
    rules = options.init or _DEFAULT_INITIALIZERS
    return _image_bytes(plot.propagation({rule: propagate(initializer=rule, **sizes) for rule in rules}), options.out)


def _histogram(options: argparse.Namespace) -> bytes:
    from fastkaiming.diagnostics import plot

    tensors = {each.name: each for each in checkpoint.stored_tensors(options.checkpoint)}
    tensor = tensors.get(options.tensor)
    if tensor is None:
        similar = get_close_matches(options.tensor, tensors, n=1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(f"{options.checkpoint}: the checkpoint has no tensor {options.tensor!r}{hint}")
    figure = plot.histogram(tensor.array, tensor.distribution)
    figure.suptitle(tensor.name, fontsize="medium", parse_math=False)
    return _image_bytes(figure, options.out)


def _report(options: argparse.Namespace) -> bytes:
    from fastkaiming.diagnostics import report

    if options.out.suffix not in {".html", ".htm"}:
        raise ValueError(f"{options.out}: the name of a report must end in .html")

    def rows() -> Iterator[report.Tensor]:
        for tensor in checkpoint.stored_tensors(options.checkpoint):
            yield report.Tensor(*tensor, zero_rows_of_rule(tensor.rule))
            report_filled(tensor.array.size)

    elements = sum(tensor.array.size for tensor in checkpoint.stored_tensors(options.checkpoint))
    with _output.progress("report"), combined_progress(elements):
        return report.html(Path(options.checkpoint).resolve().name, rows()).encode(errors="backslashreplace")


def _image_bytes(figure: "Figure", path: Path) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix.removeprefix(".") or "png", dpi=120)
    return stream.getvalue()


_KINDS: dict[str, Any] = {"propagation": _propagation, "histogram": _histogram, "report": _report}
