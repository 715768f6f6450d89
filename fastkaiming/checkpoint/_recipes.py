"""Recipes: the names and shapes of a checkpoint, and what its tensors are filled with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastkaiming import _validation
from fastkaiming.checkpoint import _headers, _parse
from fastkaiming.checkpoint._dtypes import Dtype, named

_LAST_SEED = 2**64 - 1


class Spec(NamedTuple):
    """A tensor as its source tells of it; None is what it does not tell."""

    shape: tuple[int, ...]
    dtype: Dtype | None = None
    init: str | None = None  # what this very tensor is filled by
    layer: str | None = None  # what its layer has for it, where no rule of the recipe speaks
    stored: Dtype | None = None  # the dtype that it has where it comes from, and keeps if nobody tells another


class Rule(NamedTuple):
    """What the tensors of a pattern are filled by, and their dtype where the rule tells it."""

    init: str
    dtype: Dtype | None = None


@dataclass(frozen=True)
class Recipe:
    """What a source says: tensors by name, in order, and what it has to say of how they are filled.

    ``companions`` are files that belong beside the checkpoint, a model's config.json for example.
    """

    tensors: Mapping[str, Spec]
    rules: Mapping[str, Rule] | None = None
    dtype: Dtype | None = None
    seed: int | None = None
    companions: Sequence[Path] = ()


def recipe_from_table(origin: str, given: Any) -> Recipe:
    """Return the recipe that a TOML or JSON document is; ``origin`` is where it stands."""
    table = _parse.table(origin, given)
    _parse.check_fields(origin, table, ("seed", "dtype", "rules", "tensors"))
    if "tensors" not in table:
        raise ValueError(f"{origin}: tensors must be a table of names and shapes, got none")
    tensors = _parse.table(f"{origin}: tensors", table["tensors"])
    seed, dtype, rules = table.get("seed"), table.get("dtype"), table.get("rules")
    return Recipe(
        {name: _spec(f"{origin}: tensors.{name!r}", name, each) for name, each in tensors.items()},
        None if rules is None else rules_from_table(f"{origin}: rules", rules),
        None if dtype is None else named(f"{origin}: dtype", dtype),
        None if seed is None else _validation.integer(f"{origin}: seed", seed, 0, _LAST_SEED),
    )


def rules_from_table(origin: str, given: Any) -> dict[str, Rule]:
    """Return rules: texts, or tables of a text and a dtype."""
    pairs = list(given.items() if isinstance(given, Mapping) else given if isinstance(given, list | tuple) else [given])
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            f"{origin} must be a table of patterns and rules, or pairs of these, not {_validation.shown(given)}"
        )
    found: dict[str, Rule] = {}
    for name, each in pairs:
        found.setdefault(_validation.text(f"{origin}: a pattern", name), _rule(f"{origin}.{name!r}", each))
    return found


def _rule(where: str, given: Any) -> Rule:
    if isinstance(given, str):
        return Rule(given)
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{where} must be a text, which the files can record, or a table, got {_validation.shown(given)}"
        )
    _parse.check_fields(where, dict(given), ("init", "dtype"))
    if not isinstance(given.get("init"), str):
        raise ValueError(f"{where}.init must be a text, got {_validation.shown(given.get('init'))}")
    dtype = given.get("dtype")
    return Rule(given["init"], None if dtype is None else named(f"{where}.dtype", dtype))


def _spec(where: str, name: str, given: Any) -> Spec:
    _headers.check_name(where, name)
    if isinstance(given, list | tuple):
        return Spec(_headers.shape(where, given))
    table = _parse.table(where, dict(given) if isinstance(given, Mapping) else given)
    _parse.check_fields(where, table, ("shape", "dtype", "init"))
    dtype, init = table.get("dtype"), table.get("init")
    if init is not None and not isinstance(init, str):
        raise ValueError(f"{where}.init must be a text, got {_validation.shown(init)}")
    shape = _headers.shape(f"{where}.shape", table.get("shape"))
    return Spec(shape, None if dtype is None else named(f"{where}.dtype", dtype), init)
