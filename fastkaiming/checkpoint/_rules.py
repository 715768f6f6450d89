"""The rules that files record, and what they mean: the initializer, the distribution and the fans of a tensor.

Apart from the initializers, there are two rules for the values of models: ``zero_rows(normal(std=0.02), [0])`` fills
some rows, such as that of the padding token of an embedding, with zeros, and ``values(sha256='...')`` is the digest of
values that code of the model computed.
"""

import ast
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from inspect import signature
from typing import Any

import numpy as np

from fastkaiming._fill.fill import distribution_of
from fastkaiming.checkpoint._dtypes import Dtype
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.initializers import _model
from fastkaiming.initializers._fans import Fans, fans, torch_layout

_VALUES_RULE = re.compile(r"values\(sha256='([0-9a-f]{64})'\)")


@dataclass(frozen=True)
class Values:
    """The data of a tensor whose values code computed, and the rule that files record for it."""

    rule: str
    data: bytes = field(repr=False, compare=False)


def values_from_data(data: bytes) -> Values:
    """Return the values of a tensor from its bytes in a file."""
    return Values(f"values(sha256='{hashlib.sha256(data).hexdigest()}')", data)


def rule_of_distribution(value: Distribution | float, zero_rows: Iterable[int]) -> str:
    """Return the rule for a distribution or a constant, with some rows of zeros."""
    if isinstance(value, Normal):
        rule = f"normal(mean={value.mean!r}, std={value.std!r})"
    elif isinstance(value, Uniform):
        rule = f"uniform(low={value.low!r}, high={value.high!r})"
    elif isinstance(value, TruncatedNormal):
        rule = f"trunc_normal(mean={value.loc!r}, std={value.scale!r}, a={value.low!r}, b={value.high!r})"
    else:
        rule = {0.0: "zeros", 1.0: "ones"}.get(value, f"constant(val={value!r})")
    rows = [*zero_rows]
    return zero_rows_rule(rule, rows) if rows else rule


def zero_rows_rule(rule: str, rows: Iterable[int]) -> str:
    """Return the rule that fills some rows with zeros, and the others by a rule."""
    return f"zero_rows({rule}, {sorted(rows)})"


def sha256_of_rule(rule: str) -> str | None:
    """Return the digest of the values of a tensor if code computed them, and otherwise None."""
    match = _VALUES_RULE.fullmatch(rule)
    return None if match is None else match[1]


@cache
def zero_rows_of_rule(rule: str) -> tuple[int, ...]:
    """Return the rows that a rule fills with zeros."""
    return _split_rule(rule)[1]


def _split_rule(rule: str) -> tuple[str, tuple[int, ...]]:
    """Return the rule of an initializer, and the rows of zeros."""
    call = _model.parse_call(rule)
    if call is None or call[0] != "zero_rows":
        return rule, ()
    _, arguments, keywords = call
    try:
        initializer, rows = ast.unparse(arguments[0]), ast.literal_eval(arguments[1])
        is_valid = len(arguments) == 2 and not keywords and all(type(row) is int and row >= 0 for row in rows)
    except (ValueError, TypeError, IndexError, RecursionError, MemoryError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"zero_rows must have an initializer and a list of rows as arguments, got {rule!r:.100}")
    return initializer, tuple(rows)


def check_rule(pattern: str, rule: str) -> None:
    """Raise an error if a rule that a user wrote for a pattern is not valid."""
    _model.parse_rule(f"the rule {pattern!r:.60}", _split_rule(rule)[0])


@cache
def filler_of_rule(rule: str) -> _model.Filler:
    """Return the function that fills a tensor by a rule."""
    initializer, _ = _split_rule(rule)
    filler = _model.parse_rule("the rule", initializer)
    if _model.is_keep(filler):
        raise ValueError("the rule must not be 'keep', because a new file has no values to keep")
    return filler


@cache
def distribution_of_rule(rule: str, shape: tuple[int, ...], dtype: Dtype) -> Distribution:
    """Return the distribution of a tensor under a rule, without allocating the tensor."""
    beyond = [row for row in zero_rows_of_rule(rule) if len(shape) < 2 or row >= shape[0]]
    if beyond:
        raise ValueError(f"zero_rows must name rows of the tensor, got {beyond[0]} for the shape {shape}")
    global_shape = shape or (1,)  # an empty shard must have an axis, because a shard without axes has one element
    empty = np.empty((0,) * len(global_shape), dtype.numpy_dtype())
    index = (slice(0),) * len(global_shape)
    return distribution_of(filler_of_rule(rule), empty, rng=0, global_shape=global_shape, index=index)


def layout_of_rule(rule: str, shape: tuple[int, ...]) -> str | None:
    """Return the layout by which a rule reads the axes of a shape.

    The result is None if the shape has fewer than two axes. It is also None if it has more than two and the rule does
    not depend on fans, or if it is a digest, because the rule does not say then what they mean.
    """
    if sha256_of_rule(rule) is not None:
        return None
    filler = filler_of_rule(rule)
    if len(shape) < 2 or (len(shape) > 2 and "layout" not in signature(filler).parameters):
        return None
    arguments = _fan_arguments(filler)
    return arguments.get("layout") or torch_layout(arguments.get("transposed", False))


def fans_of_rule(rule: str, shape: tuple[int, ...]) -> Fans | None:
    """Return the fans of a shape, counted with the layout, groups and transposed arguments of a rule.

    The result is None if :func:`layout_of_rule` is None.
    """
    return None if layout_of_rule(rule, shape) is None else fans(shape, **_fan_arguments(filler_of_rule(rule)))


def _fan_arguments(filler: _model.Filler) -> dict[str, Any]:
    keywords = filler.keywords if isinstance(filler, partial) else {}
    return {name: keywords[name] for name in ("layout", "groups", "transposed") if name in keywords}
