"""Runs of `checkpoint.write` that start at the same instant in one directory, or that are killed, again and again.

Each round forks the runs of a scenario from a process that has imported everything. Afterwards it examines the
directory: which seeds its files have, whether `verify` accepts it, and which names are left. The counts of the
outcomes are printed as JSON. Run it as `python tests/helpers/checkpoint_races.py SCENARIO ROUNDS [--pauses]`. With
`--pauses`, every run is stopped once at a random instant for a random time, so that the others can overtake it between
any two of its operations.
"""

import argparse
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


class Signal(NamedTuple):
    """A signal, and the time at which a process gets it."""

    seconds: float
    child: int
    number: int


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


class Rounds:
    """Rounds of scenarios, with or without pauses of the runs at random instants."""

    def __init__(self, *, pauses: bool) -> None:
        self.pauses = pauses
        self.random = random.Random(1)
        self.seconds = longest_run()

    def race(self, runs: Sequence[Run]) -> str:
        """Return the exit codes of runs that start at the same instant, and the state of the directory."""
        with new_directory() as directory:
            return f"{self.exit_codes(directory, runs)} {state(directory)}"

    def kill(self, scenario: KillScenario) -> str:
        """Kill the first of some runs; return the exit codes of the other ones and of later runs, and the state."""
        with new_directory() as directory:
            codes = [self.exit_codes(directory, scenario.together, kills_first=True)]
            codes.extend(self.exit_codes(directory, runs) for runs in scenario.later)
            return f"{codes} {state(directory)}"

    def exit_codes(self, directory: Path, runs: Sequence[Run], *, kills_first: bool = False) -> list[int]:
        """Start runs at the same instant, and return their sorted exit codes, without that of a killed run."""
        children = start_together(directory, runs)
        signals: list[Signal] = []
        if kills_first:
            signals.append(Signal(self.random.uniform(0, self.seconds), children[0], signal.SIGKILL))
        if self.pauses:
            signals.extend(each for child in children for each in self.pause(child))
        send(signals, children)
        codes = list(map(exit_code, children))
        return sorted(codes[kills_first:])

    def pause(self, child: int) -> tuple[Signal, Signal]:
        """Return the signals that stop a process and let it continue after 1 to 400 ms; short pauses are frequent."""
        begin, seconds = self.random.uniform(0, self.seconds), 0.001 * 400 ** self.random.random()
        return Signal(begin, child, signal.SIGSTOP), Signal(begin + seconds, child, signal.SIGCONT)


def send(signals: Sequence[Signal], children: Sequence[int]) -> None:
    """Send signals to children whose exit codes have not been read, each at its time from now on.

    Time in which no child can change the directory is skipped.
    """
    start = time.monotonic()
    for each in sorted(signals):
        while time.monotonic() < start + each.seconds and any(map(is_running, children)):
            time.sleep(0.0005)
        os.kill(each.child, each.number)


def is_running(child: int) -> bool:
    """Return whether a child has neither ended nor been stopped."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None


def longest_run() -> float:
    """Return the time from the start to the end of a run, with the time until it starts."""
    with new_directory() as directory:
        start = time.monotonic()
        exit_code(*start_together(directory, [{"seed": 1}]))
        return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=[*SCENARIOS, *KILL_SCENARIOS])
    parser.add_argument("count", type=int)
    parser.add_argument("--pauses", action="store_true")
    arguments = parser.parse_args()
    rounds, scenario = Rounds(pauses=arguments.pauses), arguments.scenario
    if scenario in KILL_SCENARIOS:
        outcomes = Counter(rounds.kill(KILL_SCENARIOS[scenario]) for _ in range(arguments.count))
    else:
        outcomes = Counter(rounds.race(SCENARIOS[scenario]) for _ in range(arguments.count))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
