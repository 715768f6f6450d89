"""A whole model at once: every array of a mapping by the first rule that its name matches, from a stream of its own."""

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import translate
from functools import lru_cache, partial
from inspect import signature
from typing import Any, NamedTuple, TypeAlias, cast

from numpy.typing import NDArray

from fastkaiming import _validation
from fastkaiming._fill import buffers
from fastkaiming._fill.fill import deferred_fills
from fastkaiming.initializers import _basic, _kaiming, _shared_memory, _variance_scaling
from fastkaiming.rng import Generator, Key, Rng, key_from

Filler: TypeAlias = Callable[..., object]
Rules: TypeAlias = Mapping[str, str | Filler] | Sequence[tuple[str, str | Filler]]

DEFAULT_RULES: Mapping[str, str] = {
    "*bias": "zeros",
    "*running_mean": "zeros",
    "*running_var": "ones",
    "*norm*": "ones",
    "*embed*": "normal(std=0.02)",
    "*": "kaiming_normal",
}


def keep(out: object, *, rng: object = None, global_shape: object = None, index: object = None) -> None:
    """Leave an array as it is."""


_NAMED: Mapping[str, Filler] = {"keep": keep} | {
    name.removesuffix("_"): function
    for module in (_basic, _kaiming, _variance_scaling)
    for name, function in vars(module).items()
    if name.endswith("_") and not name.startswith("_")
}
_OURS = tuple(_NAMED.values())


@dataclass(frozen=True)
class InitReport:
    """What :func:`init_` did.

    Attributes
    ----------
    filled : dict of str to str
        The pattern of the rule by which the memory of each name was filled.
    shared : dict of str to str
        Names of memory that has another name as well, under which it was filled: the first of them in the order of
        strings.
    unused : tuple of str
        The patterns that no array was filled by.
    """

    filled: Mapping[str, str]
    shared: Mapping[str, str]
    unused: tuple[str, ...]


def init_(
    params: Mapping[str, Any], rng: Rng = 0, rules: Rules | None = None, *, threads: int | None = None
) -> InitReport:
    """Fill every array of a mapping in place, each from the stream of its own name.

    What an array gets depends on the seed, its name, its shape and its rule, and not on the other arrays: one can be
    added, renamed or left out, or all come in another order, and the rest stay as they are.

    Parameters
    ----------
    params : mapping of str to array
        The arrays, as :func:`fill_` takes them, by name. Memory that has two names is filled once.
    rng : int, Generator, numpy.random.Generator, optional
        The seed, or what gives it: array ``name`` is filled with ``Generator(seed).key(name)``. None is fresh entropy.
        A numpy.random.Generator has given its seed also where an initializer refuses an array.
    rules : mapping or sequence of pairs, optional
        Patterns and rules; the first pattern that a name matches gives its rule. In a pattern, ``*`` stands for any
        characters, dots too, ``?`` for one, ``[abc]`` for one of these. A rule is the name of an initializer, with or
        without arguments (``"kaiming_uniform(nonlinearity='tanh')"``), or a function that is called with the array and
        ``rng=key``; ``"keep"`` leaves the array as it is. By default biases are zeros, what has ``norm`` in its name is
        ones, what has ``embed`` is ``normal(std=0.02)``, and all else ``kaiming_normal``.
    threads : int, optional
        At most so many threads, as in :func:`fill_`. All arrays are filled in one parallel region; those of functions
        that are not fastkaiming's come after it, one by one.

    Returns
    -------
    InitReport
        By which rule each array was filled, which names share memory, and which rules were not used.

    Raises
    ------
    TypeError
        An argument of the wrong kind, an array or a rule's argument among them.
    ValueError
        An array that no rule matches, a rule that is none, arrays that overlap in part, or what an initializer refuses,
        with the name of the array. Nothing is written then, unless a function that is not fastkaiming's raises.

    Warns
    -----
    UserWarning
        A rule of ``rules`` that filled no array: its pattern has a typing error, or stands behind a wider one.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> params = {"fc.weight": np.empty((64, 32), np.float32), "fc.bias": np.empty(64, np.float32)}
    >>> fk.init_(params, rng=42, rules={"*.bias": "zeros", "*": "kaiming_uniform(nonlinearity='relu')"}).filled
    {'fc.weight': '*', 'fc.bias': '*.bias'}
    >>> alone = fk.kaiming_uniform((64, 32), nonlinearity="relu", rng=fk.Generator(42).key("fc.weight"))
    >>> np.array_equal(params["fc.weight"], alone)
    True
    """
    arrays = _arrays(params)
    fillers = read(DEFAULT_RULES if rules is None else rules)
    shared = _shared_memory.shared(arrays)
    chosen = _chosen(arrays, fillers)
    chosen = {name: chosen[shared.get(name, name)] for name in chosen}
    jobs = [
        Job(name, pattern, fillers[pattern], params[name], ((arrays[name], {}),))
        for name, pattern in chosen.items()
        if name not in shared
    ]
    run_jobs(jobs, rng, threads)
    unused = unused_patterns(fillers, chosen)
    if rules is not None:
        warn_about_unused(unused, chosen)
    return InitReport(chosen, shared, unused)


class Job(NamedTuple):
    """What is filled under one name, and by which rule.

    ``blocks`` are arrays, each with the keywords that tell where it stands in the whole; ``whole`` is what a function
    that is not fastkaiming's gets instead.
    """

    name: str
    rule: str
    filler: Filler
    whole: Any
    blocks: Sequence[tuple[NDArray[Any], Mapping[str, Any]]]


def run_jobs(jobs: Sequence[Job], rng: Rng, threads: int | None) -> None:
    """Fill what the jobs name, each from the stream of its name: ours in one parallel region, and then the others."""
    ours = {id(filler) for filler in {id(job.filler): job.filler for job in jobs}.values() if is_deferrable(filler)}
    with deferred_fills(threads):
        streams = generator_from(rng)
        for job in jobs:
            if id(job.filler) in ours:
                for array, place in job.blocks:
                    _fill(job, array, streams.key(job.name), place)
    for job in jobs:
        if id(job.filler) not in ours:
            _fill(job, job.whole, streams.key(job.name), {})


def _arrays(params: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of names to arrays, not {_validation.shown(params)}")
    arrays = {}
    for name, out in params.items():
        try:
            arrays[_validation.text("a name in params", name)] = buffers.array(out)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"array {name!r}: {error}; nested mappings have to be flattened first") from error
    return arrays


def generator_from(rng: Rng) -> Generator:
    """Return the generator whose streams are those of names."""
    if isinstance(rng, Key):
        kinds = "None, an integer, a Generator or a numpy.random.Generator"
        raise TypeError(f"rng must be {kinds}, not {rng}: the streams are those of the names")
    return rng if isinstance(rng, Generator) else Generator(key_from(rng).seed)


def read(rules: Rules) -> dict[str, Filler]:
    """Return what fills the arrays of each pattern, in the order in which they are tried."""
    pairs = tuple(rules.items() if isinstance(rules, Mapping) else rules if isinstance(rules, Sequence) else [rules])
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(f"rules must be a mapping or pairs of patterns and rules, not {_validation.shown(rules)}")
    fillers: dict[str, Filler] = {}
    for pattern, rule in pairs:
        _validation.text("a pattern in rules", pattern)
        if isinstance(rule, str):
            rule = parsed(pattern, rule)
        elif not callable(rule):
            raise TypeError(f"the rule {pattern!r} must be a text or a function, not {_validation.shown(rule)}")
        fillers.setdefault(pattern, rule)
    return fillers


def parsed(pattern: str, text: str) -> Filler:
    """Return the initializer that a text names, with the arguments that it gives: literals, of which nothing is run."""

    def refused(rule: str, hint: str = "") -> ValueError:
        return ValueError(f"the rule {pattern!r:.60} must {rule}, got {text!r:.100}{hint}")

    call = _call(text)
    if call is None:
        raise refused("be the name of an initializer or a call of one, such as normal(std=0.02)")
    name, argument_nodes, keyword_nodes = call
    if name.removesuffix("_") not in _NAMED:
        similar = get_close_matches(name, _NAMED, n=1)
        hint = f"; did you mean {similar[0]!r}?" if similar else ""
        raise refused(f"name one of {', '.join(sorted(_NAMED))}", hint)
    try:
        arguments = [ast.literal_eval(node) for node in argument_nodes]
        keywords = {str(node.arg): ast.literal_eval(node.value) for node in keyword_nodes if node.arg}
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise refused("have literals for arguments, which a function of your own need not") from None
    if len(keywords) < len(keyword_nodes):
        raise refused("give each argument once and by its name")
    function = _NAMED[name.removesuffix("_")]
    try:
        given = signature(function).bind(None, *arguments, **keywords).arguments
    except TypeError as error:
        raise TypeError(f"the rule {pattern!r:.60} has arguments that do not fit, got {text!r:.100}: {error}") from None
    numbers = dict(list(given.items())[1:])
    for reserved in ("rng", "global_shape", "index", "threads"):
        if reserved in numbers:
            raise refused(f"not give {reserved}")
    return partial(function, **numbers)


def _call(text: str) -> tuple[str, list[ast.expr], list[ast.keyword]] | None:
    """Return the name in a text and the arguments that stand behind it, or None where it is neither name nor call."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # of nesting too deep for the parser
        return None
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    return (call.func.id, call.args, call.keywords) if isinstance(call.func, ast.Name) else None


def first_matches(names: Iterable[str], patterns: Iterable[str]) -> dict[str, str | None]:
    """Return the first pattern that each name matches."""
    in_order = tuple(patterns)
    first = _any_of(in_order).match
    matches = ((name, first(name)) for name in names)
    return {name: in_order[(match.lastindex or 0) - 1] if match else None for name, match in matches}


@lru_cache(maxsize=64)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches the names that any of the patterns does, the number of the first one as its last group's."""
    return re.compile("|".join(f"({translate(pattern)})" for pattern in patterns) or "(?!)")


def _chosen(names: Iterable[str], patterns: Iterable[str]) -> dict[str, str]:
    chosen = first_matches(names, patterns)
    lost = [name for name, pattern in chosen.items() if pattern is None]
    if lost:
        raise ValueError(f"rules must have one for every array, a last '*' for example, got none for {listed(lost)}")
    return cast("dict[str, str]", chosen)


def unused_patterns(patterns: Iterable[str], chosen: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the patterns that were chosen for no name."""
    used = set(chosen.values())
    return tuple(pattern for pattern in patterns if pattern not in used)


def warn_about_unused(unused: Sequence[str], names: Iterable[str]) -> None:
    """Tell who calls the caller of rules that filled nothing, and why they did not."""
    if not unused:
        return
    came_late = [pattern for pattern in unused if any(map(re.compile(translate(pattern)).match, names))]
    nameless = [pattern for pattern in unused if pattern not in came_late]
    reasons = [f"no name matches {listed(nameless)}"] if nameless else []
    reasons += [f"other rules came before {listed(came_late)}"] if came_late else []
    warnings.warn(f"some rules filled no array: {', and '.join(reasons)}", UserWarning, stacklevel=3)


def is_deferrable(filler: Filler) -> bool:
    """Tell whether a function does nothing but fill: then its fill can wait for the others'.

    A function among its arguments may fill arrays of its own, and look at them.
    """
    if isinstance(filler, partial):
        return filler.func in _OURS and not any(map(callable, (*filler.args, *filler.keywords.values())))
    return filler in _OURS


def is_keep(filler: Filler) -> bool:
    """Tell whether a filler leaves its array as it is."""
    return isinstance(filler, partial) and filler.func is keep


def _fill(job: Job, out: Any, key: Key, place: Mapping[str, Any]) -> None:
    try:
        job.filler(out, rng=key, **place)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"array {job.name!r}, by the rule {job.rule!r}: {error}") from error


def listed(names: Sequence[str]) -> str:
    """Return the names, or the first few of many."""
    shown = ", ".join(f"{name!r:.60}" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
