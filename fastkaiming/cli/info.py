"""``info``: what this installation is, and what it runs on."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

import fastkaiming
from fastkaiming._system.memory import available_memory
from fastkaiming.cli import _output

HELP = "show the versions, the instruction sets, the threads and the memory that a fill has"
_COMPANIONS = ("numpy", "ml_dtypes", "torch", "transformers", "jax", "dask", "safetensors", "matplotlib", "rich")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def run(options: argparse.Namespace) -> int:
    """Print it."""
    with _output.json_output(options.json) as result:
        result |= {
            "fastkaiming": fastkaiming.__version__,
            "stream_version": fastkaiming.STREAM_VERSION,
            "isa": fastkaiming.isa(),
            "available_isas": list(fastkaiming.available_isas()),
            "threads": fastkaiming.get_num_threads(),
            "available_memory": available_memory(),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        }
        result |= {name: _version(name) for name in _COMPANIONS}
        for name, value in result.items():
            print(
                f"{name.replace('_', ' '):<17} {', '.join(value) if isinstance(value, list) else _output.shown(value)}"
            )
    return 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
