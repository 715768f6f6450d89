"""Runs of `checkpoint.write` that start at the same instant in one directory, or that are killed, again and again.

Each round forks the runs of a scenario from a process that has imported everything. Afterwards it examines the
directory: which seeds its files have, whether `verify` accepts it, and which names are left. The counts of the
outcomes are printed as JSON. Run it as `python tests/helpers/checkpoint_races.py SCENARIO ROUNDS`.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastkaiming import checkpoint
from fastkaiming.checkpoint import _headers

SOURCE: dict[str, Any] = {"dtype": "bfloat16", "tensors": {f"{name}.weight": [64, 64] for name in "abcdefgh"}}
SHARD_SIZE = "10KB"  # a file for each tensor
DONE, DECLINED, OTHER_ERROR, LOST = 0, 2, 3, 4  # exit codes of a run

Run = dict[str, Any]  # the keyword arguments of a run
SCENARIOS: dict[str, Sequence[Run]] = {
    "two seeds": [{"seed": 1}, {"seed": 2}],
    "two seeds, resumed": [{"seed": 1, "resume": True}, {"seed": 2, "resume": True}],
    "three seeds": [{"seed": 1}, {"seed": 2}, {"seed": 3, "resume": True}],
    "one seed": [{"seed": 1}, {"seed": 1}],
    "one seed, resumed": [{"seed": 1, "resume": True}, {"seed": 1, "resume": True}],
    "parts": [{"seed": 1, "part": (number, 3)} for number in (1, 2, 3)],
    "parts of two seeds": [{"seed": seed, "part": (seed, 2)} for seed in (1, 2)],
}


def run(directory: Path, arguments: Run) -> int:
    """Return the exit code of a run."""
    try:
        checkpoint.write(SOURCE, directory, max_shard_size=SHARD_SIZE, **arguments)
    except FileExistsError as error:
        return DECLINED if str(directory) in str(error) else OTHER_ERROR
    except FileNotFoundError:
        return LOST
    return DONE


def forked(function: Callable[[], int]) -> int:
    """Return the ID of a child that exits with the result of a function."""
    child = os.fork()
    if not child:
        try:
            os._exit(function())
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(OTHER_ERROR)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def state(directory: Path) -> str:
    """Return what a directory holds: the seeds of its files, whether it is complete, and what else there is."""
    if not directory.exists():
        return "no directory"
    files = sorted(directory.glob("*.safetensors"))
    seeds = {_headers.read_header(path).metadata["fastkaiming.seed"] for path in files}
    hidden = "" if not list(directory.glob(".*")) else ", hidden files"
    if not files:
        return f"no files{hidden}"
    is_complete = len(files) == len(SOURCE["tensors"]) and (directory / "model.safetensors.index.json").exists()
    kind = "mixture" if len(seeds) > 1 else "complete" if is_complete else "incomplete"
    if is_complete and checkpoint.verify(directory).difference is not None:
        kind = "wrong values"
    return f"{kind}{hidden}"


@contextmanager
def new_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as parent:
        yield Path(parent) / "out" / "model"


def race(runs: Sequence[Run]) -> str:
    """Start runs at the same instant, and return their exit codes and the state of the directory."""
    with new_directory() as directory:
        start = time.monotonic() + 0.01

        def run_at_start(arguments: Run) -> int:
            while time.monotonic() < start:
                pass
            return run(directory, arguments)

        children = [forked(partial(run_at_start, each)) for each in runs]
        codes = sorted(exit_code(child) for child in children)
        return f"{codes} {state(directory)}"


def kill(others: Sequence[Run], seconds: float) -> str:
    """Kill a run after some time, start other runs, resume it, and return what became of all that."""
    with new_directory() as directory:
        child = forked(partial(run, directory, {"seed": 1}))
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        exit_code(child)
        codes = [exit_code(forked(partial(run, directory, each))) for each in others]
        if DONE not in codes:  # otherwise, the killed run had not written anything that another seed must not mix with
            codes.append(exit_code(forked(partial(run, directory, {"seed": 1, "resume": True}))))
        return f"{codes} {state(directory)}"


def longest_run() -> float:
    with new_directory() as directory:
        start = time.monotonic()
        exit_code(forked(partial(run, directory, {"seed": 1})))
        return time.monotonic() - start


def main(scenario: str, rounds: int) -> None:
    if scenario == "kill":
        seconds = longest_run()
        delays = random.Random(rounds)
        outcomes = Counter(kill([{"seed": 2}], delays.uniform(0, seconds)) for _ in range(rounds))
    else:
        outcomes = Counter(race(SCENARIOS[scenario]) for _ in range(rounds))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
