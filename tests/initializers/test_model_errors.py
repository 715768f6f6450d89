"""Errors of ``init_``: each is raised before anything is written, and names the array and the rule."""

import errno
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from marked_arrays import MARK, marked
from numpy.typing import NDArray

import fastkaiming as fk
from fastkaiming import _core


def one() -> dict[str, NDArray[Any]]:
    return {"w": marked((3, 3))}


def two() -> dict[str, NDArray[Any]]:
    return {"a": marked((3, 3)), "w": marked((3, 3))}


def overlapping() -> dict[str, NDArray[Any]]:
    out = marked((8, 6))
    return {"all": out, "half": out[:4]}


def transposed() -> dict[str, NDArray[Any]]:
    out = marked((6, 6))
    return {"w": out, "w.T": out.T}


REFUSED: dict[str, tuple[Callable[[], Any], Any, Any, type[Exception], str]] = {
    "not a mapping": (
        lambda: [marked((3, 3))],
        0,
        None,
        TypeError,
        r"params must be a mapping of .*, not list",
    ),
    "a name that is not a str": (
        lambda: {3: marked((3, 3))},
        0,
        None,
        TypeError,
        r"a name in params must be .*, not int 3",
    ),
    "not an array": (lambda: {"w": [1.0]}, 0, None, TypeError, r"array 'w': out must be a NumPy array"),
    "a nested mapping": (
        lambda: {"a": {"w": 1}},
        0,
        None,
        TypeError,
        r"array 'a': .*nested mappings",
    ),
    "an argument twice": (one, 0, {"*": "normal(std=1, std=2)"}, ValueError, r"must .*, got 'normal\(std=1, std=2\)'"),
    "an unhashable key": (
        one,
        0,
        {"*": "zeros({[]: 1})"},
        ValueError,
        r"must have only literals as arguments",
    ),
    "a number for rules": (one, 0, 5, TypeError, r"rules must be a mapping or pairs of .*, not int 5"),
    "a dtype": (
        lambda: {"a": marked((3, 3)), "w": np.zeros((3, 3), int)},
        0,
        None,
        TypeError,
        r"array 'w', by the rule '\*': out must be of dtype",
    ),
    "one axis": (
        lambda: {"a": marked((3, 3)), "w": marked((3,))},
        0,
        None,
        ValueError,
        r"array 'w', by the rule '\*': fans need a shape of at least two axes, got \(3,\)",
    ),
    "three axes, by default": (
        lambda: {"a": marked((3, 3)), "experts.w": marked((8, 5, 4))},
        0,
        None,
        ValueError,
        r"array 'experts.w', by the rule '\*': .*\(8, 5, 4\).*layout='BOI'.*layout='BIO'.*layout='OI\*'",
    ),
    "four axes, by the default rules after another one": (
        lambda: {"a": marked((3, 3)), "w": marked((8, 5, 3, 3))},
        0,
        {"a": "zeros", **fk.DEFAULT_RULES},
        ValueError,
        r"array 'w', by the rule '\*': .*\(8, 5, 3, 3\).*layout='BOI'.*layout='BIO'.*layout='OI\*'",
    ),
    "no matching rule": (
        lambda: {f"w{i}": marked((3, 3)) for i in range(7)},
        0,
        {"x*": "zeros"},
        ValueError,
        r"got none for 'w0', 'w1', 'w2', 'w3', 'w4' and 2 more",
    ),
    "a key": (one, fk.Key(3), None, TypeError, r"rng must be .*, not Key\(seed=3, stream=0\)"),
    "a seed": (one, -1, None, ValueError, r"rng must be an integer from 0"),
    "an unknown name": (
        one,
        0,
        {"*": "kaiming_norml"},
        ValueError,
        r"must name one of .*, got 'kaiming_norml'; did you mean 'kaiming_normal'\?",
    ),
    "an expression": (
        one,
        0,
        {"*": "1 + 1"},
        ValueError,
        r"must be the name of an initializer or a call of one.*, got '1 \+ 1'",
    ),
    "a call of a call": (one, 0, {"*": "normal()()"}, ValueError, r"must be the name of an initializer"),
    "not a literal": (
        one,
        0,
        {"*": "normal(std=abs(2))"},
        ValueError,
        r"must have only literals as arguments",
    ),
    "a syntax error": (
        one,
        0,
        {"*": "normal("},
        ValueError,
        r"must be the name of an initializer or a call of one, such as normal\(std=0.02\), got 'normal\('",
    ),
    "keywords of a mapping": (
        one,
        0,
        {"*": "normal(**{})"},
        ValueError,
        r"must pass each keyword argument once, without \*\*",
    ),
    "an unknown argument": (
        one,
        0,
        {"*": "normal(sdt=2)"},
        TypeError,
        r"the rule '\*' has arguments that do not fit, got 'normal\(sdt=2\)': .*'sdt'",
    ),
    "a stream": (
        one,
        0,
        {"*": "normal(rng=2)"},
        ValueError,
        r"the rule '\*' must not set rng",
    ),
    "a bad argument": (
        two,
        0,
        {"a": "zeros", "*": "normal(std=-2)"},
        ValueError,
        r"array 'w', by the rule '\*': std must not be negative, got -2",
    ),
    "a rule that is a number": (one, 0, {"*": 3}, TypeError, r"must be a str or a callable, not int 3"),
    "a pattern": (one, 0, {3: "zeros"}, TypeError, r"a pattern in rules must be a str"),
    "rules that are not pairs": (
        one,
        0,
        "zeros",
        TypeError,
        r"rules must be a mapping or pairs",
    ),
    "an overlap": (
        overlapping,
        0,
        None,
        ValueError,
        r"must not overlap unless they are the same, got 'all' and 'half'",
    ),
    "a transposition": (
        transposed,
        0,
        None,
        ValueError,
        r"must not overlap unless they are the same, got 'w' and 'w.T'",
    ),
}


@pytest.mark.parametrize(("make", "rng", "rules", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_arguments_raise_before_anything_is_written(
    make: Callable[[], Any], rng: Any, rules: Any, error: type[Exception], message: str
) -> None:
    params = make()
    before = [np.array(out).tobytes() for out in (params.values() if isinstance(params, dict) else params)]
    with pytest.raises(error, match=message):
        fk.init_(params, rng, rules)
    assert [np.array(out).tobytes() for out in (params.values() if isinstance(params, dict) else params)] == before


@pytest.mark.parametrize("threads", [0, True, 2.0, "2"])
def test_invalid_threads_raise(threads: Any) -> None:
    out = marked((3, 3))
    with pytest.raises((TypeError, ValueError), match="threads must be an integer"):
        fk.init_({"w": out}, threads=threads)
    assert (out.view(np.uint8) == MARK).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [(["w"], "array 'w': cannot be written"), (["w", "v"], "one of the arrays 'w', 'v': cannot be written")],
)
def test_write_error_names_the_arrays(monkeypatch: pytest.MonkeyPatch, names: list[str], message: str) -> None:
    def fail(*_arguments: Any) -> None:
        raise OSError(errno.EFAULT, "cannot be written")

    monkeypatch.setattr(_core, "fill_all", fail)
    with pytest.raises(OSError, match=message) as raised:
        fk.init_({name: marked((3, 3)) for name in names})
    assert raised.value.errno == errno.EFAULT


def test_write_error_of_a_function_names_the_array() -> None:
    def fail(_out: Any, **_keywords: Any) -> None:
        raise OSError(errno.EFAULT, "cannot be written")

    with pytest.raises(OSError, match=r"array 'w', by the rule '\*': cannot be written") as raised:
        fk.init_({"w": marked((3, 3))}, rules={"*": fail})
    assert raised.value.errno == errno.EFAULT
