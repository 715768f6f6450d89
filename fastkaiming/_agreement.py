"""Comparisons between the processes of one call, which must have the same key and equal arguments.

Every process sends its key and a digest of its facts, which are lines of text about the call. The lines themselves are
only sent if they differ, so that the error can quote them.
"""

import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import blake2b
from itertools import count
from types import TracebackType
from typing import NamedTuple, Self

from fastkaiming.rng import Key

_DIGEST_BYTES = 8  # of a line
_LINE_BYTES = 1000  # a longer line is cut off in error messages
_SHOWN = 5  # values, and processes for each value, in error messages


class Group(NamedTuple):
    """Processes that can communicate, among them the current one."""

    name: Hashable
    kind: str  # "rank" or "process", for error messages
    numbers: Sequence[int]  # of the processes
    gather: Callable[[bytes], Sequence[bytes]]  # returns what each process passes, always the same number of bytes


class Fact(NamedTuple):
    """A line of text that must be the same in every process of a group, or of all groups if ``group`` is None."""

    text: str
    group: Hashable = None


class _Statement(NamedTuple):
    """What a process sends in any case."""

    has_failed: bool
    groups: int  # of which the process is a member
    seed: int
    stream: int
    lines: int
    digest: bytes

    @property
    def key(self) -> str:
        return f"seed {self.seed}" + (f", stream {self.stream}" if self.stream else "")


_STATEMENT = struct.Struct("<?IQQQ16s")


class Agreement:
    """A ``with`` block in which a process determines its key and its facts, which are compared at the end of the block.

    If they differ, a ValueError is raised in all processes. If the block raises an error in some processes, it is
    raised there, and a ValueError is raised in the others. Therefore no process waits for another one that has failed.
    The groups must be in an order that all processes share. Without groups, nothing is compared.
    """

    def __init__(self, groups: Sequence[Group], hint: str) -> None:
        self._groups, self._hint = groups, hint
        self.key = Key(0)
        self.facts: Sequence[Fact] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):  # for example KeyboardInterrupt
            return
        problem = self._compare(None if error is None else f"{type(error).__name__}: {error}")
        if error is None and problem is not None:
            raise ValueError(problem)

    def _compare(self, problem: str | None) -> str | None:
        """Return what is wrong in this process or in any other process of the groups, or None.

        A process reports what it learned in one group to its other groups. If any member of a group is also a member of
        other groups, a single round would not be enough, because the groups communicate one after the other.
        """
        rounds = [1] * len(self._groups)
        for done in count():
            remaining = [number for number, total in enumerate(rounds) if total > done]
            if not remaining:
                return problem
            for number in remaining:
                rounds[number], found = self._exchange(self._groups[number], problem)
                problem = problem or found
        raise AssertionError

    def _exchange(self, group: Group, problem: str | None) -> tuple[int, str | None]:
        """Return the number of rounds that the group needs, and what is wrong in any of its processes, or None."""
        lines = [fact.text for fact in self.facts if fact.group in (None, group.name)]
        digest = blake2b("\n".join(lines).encode(), digest_size=16).digest()
        own = _Statement(problem is not None, len(self._groups), self.key.seed, self.key.stream, len(lines), digest)
        statements = [_Statement(*_STATEMENT.unpack(each)) for each in group.gather(_STATEMENT.pack(*own))]
        rounds = max(each.groups for each in statements)
        if any(each.has_failed for each in statements):
            return rounds, _failure(group, statements, problem)
        if len({each.digest for each in statements}) > 1:
            return rounds, _difference(group, lines, max(each.lines for each in statements))
        if len({each.key for each in statements}) > 1:
            keys = _by_value(group, [each.key for each in statements])
            return rounds, f"every {group.kind} must use the same seed, got {keys}: {self._hint}"
        return rounds, None


def _failure(group: Group, statements: Sequence[_Statement], problem: str | None) -> str:
    """Return a message with the first error of the processes."""
    messages = _gather_line(group, problem or "")
    number = next(number for number, each in enumerate(statements) if each.has_failed)
    return (
        f"the call must succeed on every {group.kind}, got an error on {group.kind} {group.numbers[number]}: "
        f"{messages[number]}"
    )


def _difference(group: Group, lines: Sequence[str], most: int) -> str:
    """Return a message with the first line that differs; ``most`` is the largest number of lines of a process."""
    digests = b"".join(blake2b(line.encode(), digest_size=_DIGEST_BYTES).digest() for line in lines)
    all_digests = group.gather(digests.ljust(most * _DIGEST_BYTES, b"\0"))
    positions = range(0, most * _DIGEST_BYTES, _DIGEST_BYTES)
    number = next(
        number
        for number, begin in enumerate(positions)
        if len({each[begin : begin + _DIGEST_BYTES] for each in all_digests}) > 1
    )
    texts = _gather_line(group, lines[number] if number < len(lines) else "nothing")
    return f"every {group.kind} must have the same arguments and tensors, got {_by_value(group, texts)}"


def _gather_line(group: Group, line: str) -> list[str]:
    data = line.encode()[:_LINE_BYTES].ljust(_LINE_BYTES, b"\0")
    return [each.rstrip(b"\0").decode(errors="ignore") for each in group.gather(data)]


def _by_value(group: Group, values: Iterable[str]) -> str:
    """Return the different values with the processes that have them, the most frequent value first."""
    numbers: dict[str, list[int]] = {}
    for value, number in zip(values, group.numbers, strict=True):
        numbers.setdefault(value, []).append(number)
    frequent = sorted(numbers.items(), key=lambda each: -len(each[1]))
    shown = [f"{value} on {_plural(group.kind, each)}" for value, each in frequent[:_SHOWN]]
    return _joined(shown, len(frequent) - _SHOWN, "more values")


def _plural(kind: str, numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{kind} {numbers[0]}"
    kinds = "processes" if kind == "process" else f"{kind}s"
    return f"{kinds} {_joined([*map(str, numbers[:_SHOWN])], len(numbers) - _SHOWN, 'more')}"


def _joined(texts: Sequence[str], hidden: int, unit: str) -> str:
    *first, last = [*texts, f"{hidden} {unit}"] if hidden > 0 else texts
    return f"{', '.join(first)} and {last}" if first else last
