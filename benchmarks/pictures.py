"""Create docs/propagation.png, which shows signals in a deep ReLU network after three initializations.

python benchmarks/pictures.py [DIRECTORY]
"""

import sys
from pathlib import Path

from fastkaiming import diagnostics
from fastkaiming.diagnostics import plot

RULES = {
    "N(0, 0.01²)": "normal(std=0.01)",
    "Xavier": "xavier_normal",
    "Kaiming": "kaiming_normal(nonlinearity='relu')",
}


def main(directory: Path) -> None:
    results = {name: diagnostics.propagate(initializer=rule) for name, rule in RULES.items()}
    path = directory / "propagation.png"
    plot.propagation(results).savefig(path, dpi=100, metadata={"Software": None})
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs"))
