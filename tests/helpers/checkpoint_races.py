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
from typing import Any, NamedTuple

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
    "a part, resumed beside the others": [
        {"seed": 1, "part": (number, 3), "resume": number == 2} for number in (1, 2, 3)
    ],
}


class KillScenario(NamedTuple):
    """Runs that start together, of which the first one is killed, and groups of runs that follow one another."""

    together: Sequence[Run]
    later: Sequence[Sequence[Run]]


RESUMED: Run = {"seed": 1, "resume": True}
PARTS = SCENARIOS["parts"]
KILL_SCENARIOS = {
    "kill": KillScenario([{"seed": 1}], [[RESUMED]]),
    "kill, another seed": KillScenario([{"seed": 1}], [[{"seed": 2}], [RESUMED]]),
    "kill, two resumed": KillScenario([{"seed": 1}], [[RESUMED, RESUMED]]),
    "kill, another seed at once": KillScenario([{"seed": 1}, {"seed": 2}], [[RESUMED]]),
    "kill a part": KillScenario(PARTS, [[RESUMED | {"part": (1, 3)}]]),
    "kill a part, resume all": KillScenario(PARTS, [[RESUMED]]),
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


def start_together(directory: Path, runs: Sequence[Run]) -> list[int]:
    """Start runs at the same instant, and return the IDs of their processes."""
    start = time.monotonic() + 0.01

    def run_at_start(arguments: Run) -> int:
        while time.monotonic() < start:
            pass
        return run(directory, arguments)

    return [forked(partial(run_at_start, each)) for each in runs]


def race(runs: Sequence[Run]) -> str:
    """Return the exit codes of runs that start at the same instant, and the state of the directory."""
    with new_directory() as directory:
        codes = sorted(map(exit_code, start_together(directory, runs)))
        return f"{codes} {state(directory)}"


def kill(scenario: KillScenario, seconds: float) -> str:
    """Kill the first of some runs, and return the exit codes of the other ones and of later runs, and the state."""
    with new_directory() as directory:
        killed, *others = start_together(directory, scenario.together)
        time.sleep(seconds)
        os.kill(killed, signal.SIGKILL)
        exit_code(killed)
        codes = [sorted(map(exit_code, others))]
        codes.extend(sorted(map(exit_code, start_together(directory, runs))) for runs in scenario.later)
        return f"{codes} {state(directory)}"


def longest_run() -> float:
    """Return the time from the start to the end of a run, with the time until it starts."""
    with new_directory() as directory:
        start = time.monotonic()
        exit_code(*start_together(directory, [{"seed": 1}]))
        return time.monotonic() - start


def main(scenario: str, rounds: int) -> None:
    if scenario in KILL_SCENARIOS:
        seconds, delays = longest_run(), random.Random(rounds)
        outcomes = Counter(kill(KILL_SCENARIOS[scenario], delays.uniform(0, seconds)) for _ in range(rounds))
    else:
        outcomes = Counter(race(SCENARIOS[scenario]) for _ in range(rounds))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
