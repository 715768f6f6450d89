"""``plot``: pictures of what an initialization does, and a page about a whole checkpoint."""

import argparse
import io
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastkaiming import checkpoint
from fastkaiming._fill.fill import combined_progress, report_filled
from fastkaiming.checkpoint import _file_writer
from fastkaiming.cli import _output
from fastkaiming.diagnostics import propagate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "draw signals through deep networks, the histogram of a tensor, or a report on a checkpoint"
_INITIALIZERS = ("normal(std=0.01)", "xavier_normal", "he_normal")
_DEFAULT = ", ".join(_INITIALIZERS)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what can be drawn."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    signals = kinds.add_parser("propagation", help="mean squares of activations and gradients, layer by layer")
    signals.add_argument("out", type=Path, metavar="OUT", help="a .png, .svg or .pdf file")
    signals.add_argument(
        "--init", action="append", metavar="RULE", help=f"an initializer; may be repeated (default: {_DEFAULT})"
    )
    signals.add_argument("--nonlinearity", default="relu", metavar="NAME", help="after each layer (default: relu)")
    signals.add_argument("--depth", type=int, default=30, metavar="N", help="layers (default: 30)")
    signals.add_argument("--width", type=int, default=256, metavar="N", help="units of a layer (default: 256)")
    histogram = kinds.add_parser("histogram", help="a tensor of a checkpoint over its density")
    histogram.add_argument("checkpoint", metavar="CHECKPOINT", help="a directory of one, or a file of it")
    histogram.add_argument("tensor", metavar="TENSOR", help="its name")
    histogram.add_argument("out", type=Path, metavar="OUT", help="a .png, .svg or .pdf file")
    report = kinds.add_parser("report", help="every tensor of a checkpoint against its rule, a page of HTML")
    report.add_argument("checkpoint", metavar="CHECKPOINT", help="a directory of one, or a file of it")
    report.add_argument("out", type=Path, metavar="OUT", help="a .html file")
    for kind in (signals, histogram, report):  # so that --json may come last here, too
        kind.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Write the file, which has its name when it is whole."""
    if options.out.exists():
        raise FileExistsError(f"{options.out}: it exists, and is not overwritten")
    with _output.json_output(options.json) as result:
        data = _KINDS[options.kind](options)
        _file_writer.replace(options.out, data)
        result |= {"file": str(options.out), "bytes": len(data)}
        print(f"{options.out}: {len(data):,} bytes")
    return 0


def _propagation(options: argparse.Namespace) -> bytes:
    from fastkaiming.diagnostics import plot

    sizes = {"depth": options.depth, "width": options.width, "nonlinearity": options.nonlinearity}
    rules = options.init or _INITIALIZERS
    return _saved(plot.propagation({rule: propagate(initializer=rule, **sizes) for rule in rules}), options.out)


def _histogram(options: argparse.Namespace) -> bytes:
    from fastkaiming.diagnostics import plot

    tensors = {each.name: each for each in checkpoint.stored(options.checkpoint)}
    tensor = tensors.get(options.tensor)
    if tensor is None:
        similar = get_close_matches(options.tensor, tensors, n=1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(f"{options.checkpoint}: it has no tensor {options.tensor!r}{hint}")
    figure = plot.histogram(tensor.array, tensor.distribution)
    figure.suptitle(tensor.name, fontsize="medium", parse_math=False)
    return _saved(figure, options.out)


def _report(options: argparse.Namespace) -> bytes:
    from fastkaiming.diagnostics import report

    if options.out.suffix not in {".html", ".htm"}:
        raise ValueError(f"{options.out}: a report must have a name that ends in .html")

    def rows() -> Iterator[report.Tensor]:
        for tensor in checkpoint.stored(options.checkpoint):
            yield report.Tensor(*tensor)
            report_filled(tensor.array.size)

    elements = sum(tensor.array.size for tensor in checkpoint.stored(options.checkpoint))
    with _output.progress("report"), combined_progress(elements):
        return report.html(Path(options.checkpoint).resolve().name, rows()).encode()


def _saved(figure: "Figure", path: Path) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix.removeprefix(".") or "png", dpi=120)
    return stream.getvalue()


_KINDS: dict[str, Any] = {"propagation": _propagation, "histogram": _histogram, "report": _report}
