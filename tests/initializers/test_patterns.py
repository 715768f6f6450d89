"""The first pattern that a name matches is that of fnmatch, and few patterns are compared with a name."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastkaiming as fk
from fastkaiming.initializers import _patterns
from fastkaiming.initializers._patterns import PatternIndex, first_matches, matched_patterns

# Few characters, so that names match patterns, with all that are special in patterns or in regular expressions.
TEXTS = st.text("ab.", max_size=3)
WILD = st.text("ab.*?[]!^-\\\n", max_size=6)
FAMILIES = st.tuples(st.sampled_from(["", "model.", "*", "?"]), WILD, st.sampled_from(["", ".weight", "*"])).map(
    "".join
)
PATTERNS = st.one_of(
    TEXTS, WILD, FAMILIES, st.sampled_from(["[]a]b", "[!]a]b", "[a]b]a", "[ab", "a[b]*[a]b", "*[a*]b"])
)


@st.composite
def names_and_patterns(draw: Any, most: int) -> tuple[list[str], list[str]]:
    """Return patterns, and names of which many match some of the patterns."""
    patterns = draw(st.lists(PATTERNS, min_size=1, max_size=most))
    names = []
    for template in draw(st.lists(st.sampled_from(patterns), max_size=8)):
        name = template.replace("*", draw(TEXTS)).replace("?", draw(st.sampled_from("ab.")))
        names.append(re.sub(r"\[!?(.)[^]]*\]", r"\1", name) if draw(st.booleans()) else name)
    return names, patterns


def expected(name: str, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


@settings(max_examples=500)
@given(names_and_patterns(most=40))
def test_first_match_is_that_of_fnmatch(case: tuple[list[str], list[str]]) -> None:
    names, patterns = case
    assert first_matches(names, patterns) == {name: expected(name, patterns) for name in names}


@settings(max_examples=500)
@given(names_and_patterns(most=8), st.integers(0, 2), st.integers(1, 4))
def test_first_match_does_not_depend_on_how_patterns_are_stored(
    case: tuple[list[str], list[str]], few: int, length: int
) -> None:
    names, patterns = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_patterns, "_FEW", few)
        patch.setattr(_patterns, "_LENGTH", length)
        index = PatternIndex(patterns)
        for name in names:
            number = index.first_match(name)
            assert (None if number is None else patterns[number]) == expected(name, patterns)


@settings(max_examples=200)
@given(names_and_patterns(most=30))
def test_matched_patterns_are_those_of_fnmatch(case: tuple[list[str], list[str]]) -> None:
    names, patterns = case
    patterns = list(dict.fromkeys(patterns))
    matched = [pattern for pattern in patterns if any(fnmatchcase(name, pattern) for name in names)]
    assert matched_patterns(names, patterns) == matched


@pytest.mark.parametrize("few", [0, 16])
def test_equal_patterns_count_at_their_first_position(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patterns, "_FEW", few)
    assert PatternIndex(["a.b", "a*", "a.b"]).first_match("a.b") == 0
    assert PatternIndex(["*.b", "a.*", "*.b"]).first_match("a.b") == 0
    assert PatternIndex(["b", "a.*", "?.b", "a.b"]).first_match("a.b") == 1


LAYERS = range(300)
PARTS = ("attention.query.weight", "attention.out.bias", "mlp.up.weight", "norm.weight")
MODEL = [f"model.layers.{layer}.{part}" for layer in LAYERS for part in PARTS]


@pytest.mark.parametrize(
    "pattern",
    [
        "model.layers.{}.mlp.up.weight",
        "model.layers.{}.*",
        "*.{}.mlp.up.weight",
        "*.layers.{}.mlp.*",
        "model.*.{}.mlp.*.weight",
        "model.layers.{}.[am]*.weight",
        "?odel.layers.{}.*ight",
    ],
)
def test_names_are_compared_with_few_patterns(pattern: str) -> None:
    patterns = [*(pattern.format(layer) for layer in LAYERS), "*"]
    index = PatternIndex(patterns)
    assert sum(len(list(index.candidates(name))) for name in MODEL) <= 2 * len(MODEL)
    assert len(index._others) == 1
    for name in MODEL[::37]:
        number = index.first_match(name)
        assert number is not None
        assert patterns[number] == expected(name, patterns)


def test_unused_rules_of_a_large_model_are_reported() -> None:
    params = {f"layers.{layer}.weight": np.empty(1, np.float32) for layer in range(30)}
    rules = {"layers.?.*": "ones", **{f"layers.{layer}.*": "zeros" for layer in range(100)}}
    message = (
        r"^some rules filled no array: no name matches 'layers.30.\*', .* and 65 more, and other rules came before "
        r"'layers.0.\*', .* and 5 more$"
    )
    with pytest.warns(UserWarning, match=message):
        report = fk.init_(params, rules=rules)
    assert report.filled["layers.12.weight"] == "layers.12.*"
    assert report.filled["layers.3.weight"] == "layers.?.*"
    assert len(report.unused) == 80
