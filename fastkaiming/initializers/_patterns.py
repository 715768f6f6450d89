"""Patterns of names: which of many patterns a name matches first, without comparing every name with every pattern.

Each pattern is stored under a literal text that every name that matches contains: at its beginning, at its end, or
anywhere. Only the patterns under the texts that a name contains are then compared with the name.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

Place: TypeAlias = Literal["beginning", "end", "anywhere"]

# One regular expression for this number of patterns takes less time than to look up the texts that a name contains.
_FEW = 16
_LENGTH = 8  # of the texts that are looked up anywhere in a name; longer ones are rarely in fewer patterns


class Part(NamedTuple):
    """A literal text, and the place in a name where it must be."""

    place: Place
    text: str


class PatternIndex:
    """Patterns in the syntax of :mod:`fnmatch`, stored under literal texts that the names that match contain."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = patterns
        self._compiled: dict[int, re.Pattern[str]] = {}
        self._names: dict[str, int] = {}  # the first pattern that equals a name and has no special characters
        self._numbers: dict[Place, dict[str, list[int]]] = {"beginning": {}, "end": {}, "anywhere": {}}
        others = []
        for number, pattern in enumerate(patterns):
            if re.search(r"[*?[]", pattern):
                others.append(number)
            else:
                self._names.setdefault(pattern, number)
        if len(others) > _FEW:
            others = self._store(self._store(others, _outer_parts, _FEW), _inner_parts, len(others))
        self._others = others  # they are compared with every name
        self._match_others = re.compile("|".join(f"({translate(patterns[each])})" for each in others) or "(?!)").match
        self._lengths = {place: sorted(set(map(len, numbers))) for place, numbers in self._numbers.items()}

    def _store(self, numbers: Iterable[int], parts_of: Callable[[str], set[Part]], most: int) -> list[int]:
        """Store each pattern under its rarest part, and return those that have no part of at most ``most`` patterns."""
        parts = {number: parts_of(self.patterns[number]) for number in numbers}
        frequency = Counter(part for each in parts.values() for part in each)
        rest = []
        for number, each in parts.items():
            rarest = min(each, key=lambda part: (frequency[part], part), default=None)
            if rarest is not None and frequency[rarest] <= most:
                self._numbers[rarest.place].setdefault(rarest.text, []).append(number)
            else:
                rest.append(number)
        return rest

    def first_match(self, name: str) -> int | None:
        """Return the number of the first pattern that a name matches, or None."""
        match = self._match_others(name)
        first = self._others[(match.lastindex or 0) - 1] if match else len(self.patterns)
        first = min(first, self._names.get(name, first))
        for number in sorted(self.candidates(name)):
            if number >= first:
                break
            if self._matches(name, number):
                return number
        return first if first < len(self.patterns) else None

    def all_matches(self, names: Iterable[str]) -> set[int]:
        """Return the numbers of all patterns that any of the names matches."""
        names = list(names)
        found = {number for number in self._others if any(self._matches(name, number) for name in names)}
        found |= {self._names[name] for name in names if name in self._names}
        for name in names:
            found |= {each for each in self.candidates(name) if each not in found and self._matches(name, each)}
        return found

    def candidates(self, name: str) -> Iterator[int]:
        """Yield the numbers of the patterns that are stored under a text of a name, which may not all match."""
        for length in self._lengths["beginning"]:
            yield from self._numbers["beginning"].get(name[:length], ())
        for length in self._lengths["end"]:
            yield from self._numbers["end"].get(name[-length:], ())
        anywhere = self._numbers["anywhere"]
        for length in self._lengths["anywhere"]:
            texts = {name[begin : begin + length] for begin in range(len(name) - length + 1)}
            for text in texts & anywhere.keys():
                yield from anywhere[text]

    def _matches(self, name: str, number: int) -> bool:
        compiled = self._compiled.get(number)
        if compiled is None:
            compiled = self._compiled[number] = re.compile(translate(self.patterns[number]))
        return compiled.match(name) is not None


def _outer_parts(pattern: str) -> set[Part]:
    """Return the literal texts at the beginning and the end of a pattern."""
    texts = _literal_texts(pattern)
    return {part for part in (Part("beginning", texts[0]), Part("end", texts[-1])) if part.text}


def _inner_parts(pattern: str) -> set[Part]:
    """Return short literal texts of a pattern, which a name can contain anywhere."""
    return {
        Part("anywhere", text[begin : begin + _LENGTH])
        for text in _literal_texts(pattern)
        for begin in range(max(1, len(text) - _LENGTH + 1))
        if text
    }


def _literal_texts(pattern: str) -> list[str]:
    """Return the literal texts between the special characters of a pattern; the first and the last can be empty.

    Brackets can enclose any characters, so the text from the first ``[`` to the last ``]`` is left out.
    """
    before, bracket, rest = pattern.partition("[")
    texts = re.split(r"[*?]", before)
    return [*texts, *re.split(r"[*?[]", rest.rpartition("]")[2])] if bracket else texts


def first_matches(names: Iterable[str], patterns: Iterable[str]) -> dict[str, str | None]:
    """Return the first pattern that each name matches, or None."""
    index = _index(tuple(patterns))
    numbers = ((name, index.first_match(name)) for name in names)
    return {name: None if number is None else index.patterns[number] for name, number in numbers}


def matched_patterns(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Return the patterns that any of the names matches, in the order of the patterns."""
    index = _index(tuple(patterns))
    return [index.patterns[number] for number in sorted(index.all_matches(names))]


@lru_cache(maxsize=64)
def _index(patterns: tuple[str, ...]) -> PatternIndex:
    return PatternIndex(patterns)
