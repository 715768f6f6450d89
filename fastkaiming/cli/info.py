"""``info``: shows the installed versions, the instruction sets and the resources of the machine."""

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

import fastkaiming
from fastkaiming._system.memory import available_memory
from fastkaiming.cli import _output

HELP = "show the installed versions, the instruction sets, the number of threads and the available memory"
_PACKAGES = ("numpy", "ml_dtypes", "torch", "transformers", "jax", "dask", "safetensors", "matplotlib", "rich")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no arguments, because this command has none."""


def run(options: argparse.Namespace) -> int:
    """Print the information."""
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
        result |= {name: _installed_version(name) for name in _PACKAGES}
        for name, value in result.items():
            text = ", ".join(value) if isinstance(value, list) else _output.format_value(value)
            print(f"{name.replace('_', ' '):<17} {text}")
    return 0


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
