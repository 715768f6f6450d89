"""Recipes: the names and shapes of the tensors in a checkpoint, and the rules that fill them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastkaiming import _validation
from fastkaiming.checkpoint import _headers, _parse
from fastkaiming.checkpoint._dtypes import Dtype, dtype_from_name

_MAX_SEED = 2**64 - 1


class TensorSpec(NamedTuple):
    """What a source specifies about a tensor; None if it does not specify a field."""

    shape: tuple[int, ...]
    dtype: Dtype | None = None
    init: str | None = None  # the initializer of this tensor, which takes precedence over all rules
    layer_init: str | None = None  # the initializer of its layer or of its model, which applies if no rule matches
    stored_dtype: Dtype | None = None  # the dtype in the source, which applies if nothing else gives a dtype
    no_default: str = ""  # the reason why no default rule fits
    beside: str | None = None  # an earlier tensor that must be in the same file
    values: Callable[[Dtype], bytes] | None = None  # computes the data in a dtype; applies if there is no initializer


class Rule(NamedTuple):
    """The initializer of the tensors that match a pattern, and their dtype if the rule gives one."""

    init: str
    dtype: Dtype | None = None


class Companion(NamedTuple):
    """A small file that belongs to a checkpoint, such as a model's config.json, and where its content comes from."""

    name: str
    data: bytes
    origin: str


@dataclass(frozen=True)
class Recipe:
    """The content of a source: its tensors by name, in order, and the rules, dtype and seed that it gives.

    ``initialization`` is "model" if the tensors have the values that the code of the model gives them, unless a rule
    matches, and "rules" if all values follow from rules. ``parameters`` is their number, which the index records for a
    model, and ``max_shard_size`` is the default size of a file.
    """

    tensors: Mapping[str, TensorSpec]
    rules: Mapping[str, Rule] | None = None
    dtype: Dtype | None = None
    seed: int | None = None
    companions: Sequence[Companion] = ()
    initialization: str = "rules"
    parameters: int | None = None
    max_shard_size: int | str = "5GB"


def recipe_from_table(origin: str, value: Any) -> Recipe:
    """Return the recipe in a parsed TOML or JSON document; ``origin`` names the document in errors."""
    table = _parse.check_table(origin, value)
    _parse.check_fields(origin, table, ("seed", "dtype", "rules", "tensors"))
    if "tensors" not in table:
        raise ValueError(f"{origin}: tensors must be a table of names and shapes, got none")
    tensors = _parse.check_table(f"{origin}: tensors", table["tensors"])
    seed, dtype, rules = table.get("seed"), table.get("dtype"), table.get("rules")
    return Recipe(
        {name: _parse_spec(f"{origin}: tensors.{name!r}", name, each) for name, each in tensors.items()},
        None if rules is None else rules_from_table(f"{origin}: rules", rules),
        None if dtype is None else dtype_from_name(f"{origin}: dtype", dtype),
        None if seed is None else _validation.integer(f"{origin}: seed", seed, 0, _MAX_SEED),
    )


def rules_from_table(origin: str, value: Any) -> dict[str, Rule]:
    """Return the rules by pattern; each rule is a string, or a table with ``init`` and optionally ``dtype``."""
    pairs = list(value.items() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value])
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            f"{origin} must be a table of patterns and rules, or a list of such pairs, "
            f"not {_validation.describe(value)}"
        )
    rules: dict[str, Rule] = {}
    for pattern, each in pairs:
        rules.setdefault(_validation.text(f"{origin}: a pattern", pattern), _parse_rule(f"{origin}.{pattern!r}", each))
    return rules


def _parse_rule(field: str, value: Any) -> Rule:
    if isinstance(value, str):
        return Rule(value)
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{field} must be a string or a table, because files record the rule, got {_validation.describe(value)}"
        )
    _parse.check_fields(field, dict(value), ("init", "dtype"))
    if not isinstance(value.get("init"), str):
        raise ValueError(f"{field}.init must be a string, got {_validation.describe(value.get('init'))}")
    dtype = value.get("dtype")
    return Rule(value["init"], None if dtype is None else dtype_from_name(f"{field}.dtype", dtype))


def _parse_spec(field: str, name: str, value: Any) -> TensorSpec:
    _headers.check_name(field, name)
    if isinstance(value, list | tuple):
        return TensorSpec(_headers.check_shape(field, value))
    table = _parse.check_table(field, dict(value) if isinstance(value, Mapping) else value)
    _parse.check_fields(field, table, ("shape", "dtype", "init"))
    dtype, init = table.get("dtype"), table.get("init")
    if init is not None and not isinstance(init, str):
        raise ValueError(f"{field}.init must be a string, got {_validation.describe(init)}")
    shape = _headers.check_shape(f"{field}.shape", table.get("shape"))
    return TensorSpec(shape, None if dtype is None else dtype_from_name(f"{field}.dtype", dtype), init)
