"""``init_``: fills each array of a model by the first rule whose pattern matches its name, from the name's stream."""

import ast
import errno
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, TypeAlias, cast

from numpy.typing import NDArray

from fastkaiming import _errors, _hints, _validation
from fastkaiming._fill import buffers
from fastkaiming._fill.context import deferred_fills
from fastkaiming.initializers import _basic, _kaiming, _shared_memory, _variance_scaling
from fastkaiming.initializers._patterns import first_matches, matched_patterns
from fastkaiming.rng import Generator, Key, Rng, key_from

Filler: TypeAlias = Callable[..., object]
Rules: TypeAlias = Mapping[str, str | Filler] | Sequence[tuple[str, str | Filler]]

DEFAULT_RULES: Mapping[str, str] = {
    "*bias": "zeros",
    "*running_mean": "zeros",
    "*running_var": "ones",
    "*norm*": "ones",
    "*embed*": "normal(std=0.02)",
    "*": "kaiming_normal(layout='OI')",  # not for three or more axes, because their meaning is not known
}


def keep(out: object, *, rng: object = None, global_shape: object = None, index: object = None) -> None:
    """Leave an array unchanged."""


_INITIALIZERS_BY_NAME: Mapping[str, Filler] = {"keep": keep} | {
    name.removesuffix("_"): function
    for module in (_basic, _kaiming, _variance_scaling)
    for name, function in vars(module).items()
    if name.endswith("_") and not name.startswith("_")
}
_INITIALIZERS = tuple(_INITIALIZERS_BY_NAME.values())
_RESERVED = ("rng", "global_shape", "index", "threads")  # arguments that rules must not set


@dataclass(frozen=True)
class InitReport:
    """The result of :func:`init_`.

    Attributes
    ----------
    filled : dict of str to str
        For each name, the pattern of the rule that applied to its memory.
    shared : dict of str to str
        If several names refer to the same memory, it is filled once, under the name that sorts first. This maps each of
        the other names to that name.
    unused : tuple of str
        The patterns of rules that filled no array.
    kept : tuple of str
        The names whose values were left unchanged. For a module, these are parameters and persistent buffers.
    """

    filled: Mapping[str, str]
    shared: Mapping[str, str]
    unused: tuple[str, ...]
    kept: tuple[str, ...] = ()


def init_(
    params: Mapping[str, Any], rng: Rng = 0, rules: Rules | None = None, *, threads: int | None = None
) -> InitReport:
    """Fill every array of a mapping in place, each from the stream of its own name.

    The values of an array depend on the seed and on its name, shape, dtype and rule, but not on the other arrays. If
    you add, rename, remove or reorder arrays, the values of the others do not change.

    Parameters
    ----------
    params : mapping of str to array
        The arrays by name. Each is an array or another object that :func:`fill_` accepts. Memory with several names is
        filled once.
    rng : int, Generator, numpy.random.Generator, optional
        The seed, or a source of the seed: array ``name`` is filled with ``Generator(seed).key(name)``. With None, the
        seed comes from the operating system's entropy. A numpy.random.Generator is advanced even if an initializer
        raises an error.
    rules : mapping or sequence of pairs, optional
        Patterns and their rules. The rule of the first pattern that a name matches applies. In a pattern, ``*`` matches
        any characters including dots, ``?`` matches one character, and ``[abc]`` matches one of these characters. A
        rule is the name of an initializer, with or without arguments (``"kaiming_uniform(nonlinearity='tanh')"``), or a
        function that is called with the array and ``rng=key``; ``"keep"`` leaves the array unchanged. By default
        (``DEFAULT_RULES``), biases are filled with zeros, arrays with ``norm`` in their names with ones, arrays with
        ``embed`` in their names by ``normal(std=0.02)``, and all others by ``kaiming_normal``, which requires that they
        have two axes, outputs before inputs. The default rules raise an error for other arrays with three or more axes,
        because they may belong to a convolution or to a batch of matrices, such as experts. A rule of your own without
        a layout, such as ``"kaiming_normal"``, reads these axes as torch does, as those of a convolution.
    threads : int, optional
        The maximum number of threads, as in :func:`fill_`. Arrays with fastkaiming's initializers are filled in one
        parallel region. Other functions are called afterwards, one at a time.

    Returns
    -------
    InitReport
        The rule of each array, the names that share memory, and the rules that were not used.

    Raises
    ------
    TypeError
        If an argument, an array or an argument of a rule is of the wrong type.
    ValueError
        If no rule matches an array, a rule is invalid, arrays overlap partly, or an initializer raises ValueError. The
        message contains the name of the array. Nothing is written then, unless a function that is not one of
        fastkaiming's initializers raises the error.
    OSError
        If the memory of an array cannot be written, as for :func:`fill_`.

    Warns
    -----
    UserWarning
        If a rule of ``rules`` filled no array, because its pattern contains a typo or follows a more general one.

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
    with _errors.named("init_"):
        arrays = _check_arrays(params)
        fillers = parse_rules(DEFAULT_RULES if rules is None else rules)
        shared = _shared_memory.find_shared(arrays)
        chosen = _choose_patterns(arrays, fillers)
        chosen = {name: chosen[shared.get(name, name)] for name in chosen}
        tasks = [
            FillTask(name, pattern, fillers[pattern], params[name], ((arrays[name], {}),))
            for name, pattern in chosen.items()
            if name not in shared
        ]
        run_fill_tasks(tasks, rng, threads)
    unused = unused_patterns(fillers, chosen)
    if rules is not None:
        warn_about_unused(unused, chosen)
    kept = tuple(name for name, pattern in chosen.items() if is_keep(fillers[pattern]))
    return InitReport(chosen, shared, unused, kept)


class FillTask(NamedTuple):
    """The memory of one name, and the rule that fills it.

    ``blocks`` are arrays, each with the keyword arguments ``global_shape`` and ``index`` of its position in the whole
    tensor, if it is a part of one. Functions that are not fastkaiming's initializers are called with ``whole`` instead.
    """

    name: str
    rule: str
    filler: Filler
    whole: Any
    blocks: Sequence[tuple[NDArray[Any], Mapping[str, Any]]]


def run_fill_tasks(tasks: Sequence[FillTask], rng: Rng, threads: int | None) -> None:
    """Fill the memory of each task from the stream of its name.

    Fastkaiming's initializers run in one parallel region, and then other functions run in turn.
    """
    fillers = {id(task.filler): task.filler for task in tasks}
    deferrable = {filler_id for filler_id, filler in fillers.items() if is_deferrable(filler)}
    try:
        with deferred_fills(threads):
            streams = generator_from(rng)
            for task in tasks:
                if id(task.filler) in deferrable:
                    for array, shard in task.blocks:
                        _fill(task, array, streams.key(task.name), shard)
    except OSError as error:
        if error.errno == errno.EFAULT:  # the core does not report which array it is
            names = [task.name for task in tasks if id(task.filler) in deferrable]
            prefix = "array" if len(names) == 1 else "one of the arrays"
            raise OSError(errno.EFAULT, f"{prefix} {quote_names(names)}: {error.strerror}") from error
        raise
    for task in tasks:
        if id(task.filler) not in deferrable:
            _fill(task, task.whole, streams.key(task.name), {})


def _check_arrays(params: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    if not isinstance(params, Mapping):
        hint = _hints.for_out(params, "init_") if _hints.is_from(params, "torch") else ""
        raise TypeError(f"params must be a mapping of names to arrays, not {_validation.describe(params)}{hint}")
    arrays = {}
    for name, out in params.items():
        try:
            arrays[_validation.text("a name in params", name)] = buffers.array(out, "init_")
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"array {name!r}: {error}") from error
    return arrays


def generator_from(rng: Rng) -> Generator:
    """Return the generator for the keys of names; raise TypeError for a Key, whose stream is fixed."""
    if isinstance(rng, Key):
        kinds = "None, an integer, a Generator or a numpy.random.Generator"
        raise TypeError(f"rng must be {kinds}, not {rng}, because the streams depend on the names")
    return rng if isinstance(rng, Generator) else Generator(key_from(rng).seed)


def parse_rules(rules: Rules) -> dict[str, Filler]:
    """Return the function that fills the arrays of each pattern, in the order of the patterns."""
    pairs = tuple(rules.items() if isinstance(rules, Mapping) else rules if isinstance(rules, Sequence) else [rules])
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError(f"rules must be a mapping or pairs of patterns and rules, not {_validation.describe(rules)}")
    fillers: dict[str, Filler] = {}
    for pattern, rule in pairs:
        _validation.text("a pattern in rules", pattern)
        if isinstance(rule, str):
            rule = parse_rule(f"the rule {pattern!r:.60}", rule)
        elif not callable(rule):
            raise TypeError(f"the rule {pattern!r} must be a str or a callable, not {_validation.describe(rule)}")
        fillers.setdefault(pattern, rule)
    return fillers


def parse_rule(subject: str, text: str) -> Filler:
    """Return the initializer that a rule names, with its arguments. They must be literals, so no code is executed.

    ``subject`` names the rule in errors, which end with its text.
    """

    def invalid_rule(requirement: str, hint: str = "") -> ValueError:
        return ValueError(f"{subject} must {requirement}, got {text!r:.100}{hint}")

    call = parse_call(text)
    if call is None:
        raise invalid_rule("be the name of an initializer or a call of one, such as normal(std=0.02)")
    name, argument_nodes, keyword_nodes = call
    if name.removesuffix("_") not in _INITIALIZERS_BY_NAME:
        hint = _hints.did_you_mean(name, _INITIALIZERS_BY_NAME)
        raise invalid_rule(f"name one of {', '.join(sorted(_INITIALIZERS_BY_NAME))}", hint)
    try:
        arguments = [ast.literal_eval(node) for node in argument_nodes]
        keywords = {str(node.arg): ast.literal_eval(node.value) for node in keyword_nodes if node.arg}
    except (ValueError, TypeError, RecursionError, MemoryError):
        nodes = [*argument_nodes, *(node.value for node in keyword_nodes)]
        word = next((node.id for node in nodes if isinstance(node, ast.Name)), None)
        hint = "" if word is None else f"; text needs quotes: {word!r}"
        raise invalid_rule("have only literals as arguments (or be a function)", hint) from None
    if len(keywords) < len(keyword_nodes):
        raise invalid_rule("pass each keyword argument once, without **")
    function = _INITIALIZERS_BY_NAME[name.removesuffix("_")]
    parameters = signature(function).parameters
    allowed = [parameter for parameter in parameters if parameter not in _RESERVED]
    try:
        given = signature(function).bind(None, *arguments, **keywords).arguments
    except TypeError as error:
        unknown = next((keyword for keyword in keywords if keyword not in parameters), None)
        hint = "" if unknown is None else _hints.for_argument(unknown, allowed)
        problem = f"has arguments that do not fit, got {text!r:.100}: {error}{hint}"
        raise TypeError(f"{subject} {problem}") from None
    numbers = dict(list(given.items())[1:])
    for reserved in _RESERVED:
        if reserved in numbers:
            raise invalid_rule(f"not set {reserved}")
    return partial(function, **numbers)


def parse_call(text: str) -> tuple[str, list[ast.expr], list[ast.keyword]] | None:
    """Return the name and the arguments of a call, or None if the text is neither a name nor a call of one."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the latter two for deep nesting
        return None
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    return (call.func.id, call.args, call.keywords) if isinstance(call.func, ast.Name) else None


def _choose_patterns(names: Iterable[str], patterns: Iterable[str]) -> dict[str, str]:
    chosen = first_matches(names, patterns)
    unmatched = [name for name, pattern in chosen.items() if pattern is None]
    if unmatched:
        raise ValueError(
            f"rules must match every array, for example with '*' as the last pattern, got none for "
            f"{quote_names(unmatched)}"
        )
    return cast("dict[str, str]", chosen)


def unused_patterns(patterns: Iterable[str], chosen: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the patterns that were not chosen for any name."""
    used = set(chosen.values())
    return tuple(pattern for pattern in patterns if pattern not in used)


def warn_about_unused(unused: Sequence[str], names: Iterable[str]) -> None:
    """Warn about rules that filled no array, and give the reason.

    The warning is reported at the line that called the caller.
    """
    if not unused:
        return
    preceded = matched_patterns(names, unused)
    matched = set(preceded)
    unmatched = [pattern for pattern in unused if pattern not in matched]
    reasons = [f"no name matches {quote_names(unmatched)}"] if unmatched else []
    reasons += [f"other rules came before {quote_names(preceded)}"] if preceded else []
    warnings.warn(f"some rules filled no array: {', and '.join(reasons)}", UserWarning, stacklevel=3)


def is_deferrable(filler: Filler) -> bool:
    """Return whether a function only fills memory, so that its fill can be deferred.

    Initializers with a callable argument are not deferrable, because the callable may fill and read other arrays.
    """
    if isinstance(filler, partial):
        return filler.func in _INITIALIZERS and not any(map(callable, (*filler.args, *filler.keywords.values())))
    return filler in _INITIALIZERS


def is_keep(filler: Filler) -> bool:
    """Return whether a filler leaves its array unchanged."""
    return isinstance(filler, partial) and filler.func is keep


def _fill(task: FillTask, out: Any, key: Key, shard: Mapping[str, Any]) -> None:
    try:
        task.filler(out, rng=key, **shard)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        reason = _errors.without_name(error, name_of(task.filler))
        raise kind(f"array {task.name!r}, by the rule {task.rule!r}: {reason}") from error
    except OSError as error:
        if error.errno == errno.EFAULT:
            message = f"array {task.name!r}, by the rule {task.rule!r}: {error.strerror}"
            raise OSError(errno.EFAULT, message) from error
        raise


def name_of(filler: Filler) -> str:
    """Return the name of the function that a filler calls."""
    return getattr(filler.func if isinstance(filler, partial) else filler, "__name__", "")


def quote_names(names: Sequence[str], shapes: Sequence[tuple[int, ...]] | None = None) -> str:
    """Return the names in quotes, with their shapes if given, or the first five of them and how many others exist."""
    quoted = [f"{name!r:.120}" for name in names[:5]]
    if shapes is not None:
        quoted = [f"{name} of shape {shape}" for name, shape in zip(quoted, shapes[:5], strict=True)]
    shown = ", ".join(quoted)
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
