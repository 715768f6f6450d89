"""The statistical battery: large tests of whether values follow their distribution.

    python tests/statistics/battery.py [--quick] [--only TEXT] [--seed N] [--json FILE]

The program prints a row for each figure, then one for each trial, and its exit status is 1 if a figure fails. Seeds are
fixed, so that the verdict is the same in every run. The whole battery takes half an hour on two cores, and the quick
one, which is part of the unit tests, about a minute.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dependence
import marginals
import numpy as np
import raw_words
from sampling import another_seed, symmetric_uniform_
from verdicts import ALARM, DOUBT, Finding

import fastkaiming as fk

SEED = 20150206
RETRIES = 3


class Trial(NamedTuple):
    """A test, and its number of values in the quick and in the whole battery."""

    name: str
    test: Callable[..., list[Finding]]
    quick: int
    whole: int


class Row(NamedTuple):
    trial: str
    size: int
    seconds: float
    finding: Finding
    retries: list[Finding]  # the same figure with other seeds, if it was in doubt

    @property
    def passed(self) -> bool:
        return self.finding.p > ALARM and all(retry.p > DOUBT for retry in self.retries)


TRIALS = [
    Trial("float32 normal, moments", marginals.moments, 1 << 20, 1 << 30),
    Trial("float64 normal, moments", partial(marginals.moments, dtype=np.float64), 1 << 20, 1 << 30),
    Trial("float32 uniform, moments", partial(marginals.moments, draw=symmetric_uniform_), 1 << 20, 1 << 30),
    Trial(
        "float64 uniform, moments",
        partial(marginals.moments, draw=symmetric_uniform_, dtype=np.float64),
        1 << 20,
        1 << 30,
    ),
    Trial("float32 normal, autocorrelation", dependence.autocorrelation, 1 << 21, 1 << 30),
    Trial(
        "float32 uniform, autocorrelation",
        partial(dependence.autocorrelation, draw=symmetric_uniform_),
        1 << 21,
        1 << 30,
    ),
    Trial("float32 normal, bins", marginals.normal_bins, 1 << 22, 1 << 33),
    Trial("float32 uniform, bins", marginals.uniform_bins, 1 << 22, 1 << 33),
    Trial("float32 normal, pairs", dependence.radius_and_angle, 1 << 22, 1 << 30),
    Trial("float64 normal, pairs", partial(dependence.radius_and_angle, dtype=np.float64), 1 << 22, 1 << 30),
    Trial("float64 normal, radii", dependence.equal_radii, 1 << 25, 1 << 33),
    Trial("float32 normal, tails", marginals.tails, 1 << 24, 1 << 36),
    Trial("float64 normal, tails", partial(marginals.tails, dtype=np.float64), 1 << 22, 1 << 34),
    Trial("float32 normal, repetitions", marginals.repetitions, 1 << 20, 1 << 30),
    Trial("float32 uniform, repetitions", partial(marginals.repetitions, draw=symmetric_uniform_), 1 << 20, 1 << 30),
    Trial("float32 normal, neighbouring keys", dependence.neighbouring_keys, 1 << 10, 1 << 20),
    Trial("float32 normal, borders of chunks", dependence.chunk_borders, 1 << 8, 1 << 18),
    Trial("float32 normal, one index of many seeds", dependence.one_index_of_many_seeds, 1 << 14, 1 << 24),
    Trial("words, bits", raw_words.bits, 1 << 20, 1 << 30),
    Trial("words, bytes", raw_words.bytes_in_pairs, 1 << 20, 1 << 30),
    Trial("words, weights", raw_words.weights, 1 << 20, 1 << 30),
    Trial("words, birthdays", raw_words.birthdays, 1 << 20, 1 << 30),
    Trial("words, ranks", raw_words.ranks, 1 << 18, 1 << 28),
]


def rows_of(trial: Trial, seed: int, quick: bool) -> Iterator[Row]:
    """Yield a row for each finding of a trial, which is repeated with other seeds if it is in doubt."""
    size = trial.quick if quick else trial.whole
    started = time.perf_counter()
    findings = trial.test(seed, size)
    seconds = time.perf_counter() - started
    in_doubt = any(finding.p < DOUBT for finding in findings)
    again = [trial.test(another_seed(seed, k), size) for k in range(1, 1 + RETRIES)] if in_doubt else []
    for number, finding in enumerate(findings):
        retries = [retry[number] for retry in again] if finding.p < DOUBT else []
        yield Row(trial.name, size, seconds, finding, retries)


def printed(row: Row) -> str:
    """Return a row of the table in Markdown."""
    log = int(row.size).bit_length() - 1
    retried = "".join(f", again {retry.p:.2g}" for retry in row.retries)
    verdict = "passed" if row.passed else "FAILED"
    what, figure, p = row.finding
    return f"| {row.trial} | 2^{log} | {what} | {figure} | {p:.2g}{retried} | {verdict} |"


def summary(rows: list[Row]) -> str:
    """Return a Markdown table with a row for each trial and its least probable figure."""
    lines = [
        "| trial | values | figures | least probable figure | result | p | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of_trial in itertools.groupby(rows, key=lambda row: row.trial):
        each = list(of_trial)
        worst = min(each, key=lambda row: row.finding.p)
        retried = "".join(f", again {retry.p:.2g}" for retry in worst.retries)
        size = f"2^{int(worst.size).bit_length() - 1} | {len(each)}"
        found = f"{worst.finding.what} | {worst.finding.figure} | {worst.finding.p:.2g}{retried}"
        lines.append(f"| {name} | {size} | {found} | {worst.seconds:.0f} |")
    return "\n".join(lines)


def record(rows: list[Row], seed: int) -> dict[str, Any]:
    """Return the results for JSON."""
    about = {"fastkaiming": fk.__version__, "stream": fk.STREAM_VERSION, "isa": fk.isa(), "seed": seed}
    found = [
        {
            "trial": row.trial,
            "size": row.size,
            "seconds": round(row.seconds, 3),
            **row.finding._asdict(),
            "retries": [retry.p for retry in row.retries],
            "passed": row.passed,
        }
        for row in rows
    ]
    return about | {"findings": found}


def main(arguments: list[str] | None = None) -> int:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use as few values as the unit tests")
    parser.add_argument("--only", default="", metavar="TEXT", help="run only trials whose name contains this text")
    parser.add_argument("--seed", type=int, default=SEED, help="the seed of all trials (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    options = parser.parse_args(arguments)
    print("| trial | values | figure | result | p | |\n| --- | --- | --- | --- | --- | --- |")
    rows = []
    for trial in TRIALS:
        if options.only in trial.name:
            for row in rows_of(trial, options.seed, options.quick):
                rows.append(row)
                print(printed(row), flush=True)
    failed = [row for row in rows if not row.passed]
    print(f"\n{summary(rows)}\n\n{len(rows)} figures, {len(failed)} failed")
    if options.json:
        options.json.write_text(json.dumps(record(rows, options.seed), indent=1) + "\n")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
