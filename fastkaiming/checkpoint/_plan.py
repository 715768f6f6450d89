"""From a recipe to files: what each tensor is filled by, which file it stands in, and where.

Files are laid out as Hugging Face's save_pretrained lays them out: tensors in their order, a new file where the next
one does not fit, a tensor that is larger than a file in one of its own.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from fastkaiming import _core, _validation
from fastkaiming._fill.fill import distribution_of
from fastkaiming.checkpoint import _headers, _recipes, _sources
from fastkaiming.checkpoint._dtypes import OF_FILES, Dtype, named
from fastkaiming.checkpoint._recipes import Recipe, Rule, Spec
from fastkaiming.distributions import Distribution
from fastkaiming.initializers import _model
from fastkaiming.initializers._fans import Fans, fans
from fastkaiming.initializers._model import warn_about_unused

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
SINGLE = "model.safetensors"
SEED, STREAM, RULES = "fastkaiming.seed", "fastkaiming.stream_version", "fastkaiming.rules"


class Tensor(NamedTuple):
    """A tensor of a file.

    Attributes
    ----------
    name, rule : str
        Its name, and the rule by which it is filled.
    dtype : object
        Its dtype; ``dtype.numpy`` is the name that NumPy and ml_dtypes have for it.
    shape : tuple of int
        Its shape.
    begin : int
        The byte of the file at which its data begins.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    rule: str
    begin: int

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.elements * self.dtype.nbytes

    @property
    def fans(self) -> Fans | None:
        """The fans that its rule counts; None for fewer than two axes."""
        return fans_of(self.rule, self.shape) if len(self.shape) > 1 else None

    @property
    def distribution(self) -> Distribution | None:
        """What its values are drawn from; None where nothing is drawn, for integers and for tensors of no elements."""
        return (
            distribution(self.rule, self.shape, self.dtype) if self.elements and self.dtype.is_fillable_dtype else None
        )


class File(NamedTuple):
    """A file of a checkpoint.

    Attributes
    ----------
    name : str
        Its name in the directory.
    header : bytes
        What stands before its data.
    tensors : tuple of Tensor
        What stands in it, in order.
    """

    name: str
    header: bytes
    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.tensors[-1].begin + self.tensors[-1].nbytes if self.tensors else len(self.header)

    @property
    def drawn_elements(self) -> int:
        """How many of its elements are drawn."""
        return sum(tensor.elements for tensor in self.tensors if tensor.dtype.is_fillable_dtype)


@dataclass(frozen=True)
class Plan:
    """A checkpoint before a byte of it is written.

    Attributes
    ----------
    seed : int
        The seed of every tensor; its stream is that of its name.
    files : tuple of File
        The files and what stands in each.
    index : bytes or None
        What model.safetensors.index.json will say, where there is more than one file.
    recipe : object
        The names, shapes and rules that the plan was made of.
    unused : tuple of str
        The patterns of the rules that no name matches first.
    """

    seed: int
    files: tuple[File, ...]
    index: bytes | None
    recipe: Recipe
    unused: tuple[str, ...]

    @property
    def tensors(self) -> Iterator[Tensor]:
        """All tensors, file by file."""
        return (tensor for file in self.files for tensor in file.tensors)


def plan(
    source: Any,
    *,
    seed: int | None = None,
    dtype: Any = None,
    rules: Any = None,
    max_shard_size: int | str = "5GB",
) -> Plan:
    """Return what :func:`write` would write: every argument and every tensor is checked, and nothing is drawn.

    Parameters
    ----------
    source, seed, dtype, rules, max_shard_size
        As in :func:`write`.

    Returns
    -------
    Plan
        Its ``files`` hold ``tensors``, each with ``name``, ``shape``, ``dtype``, ``rule`` and ``distribution``.

    Raises
    ------
    TypeError, ValueError, OSError
        As :func:`write` does.

    Warns
    -----
    UserWarning
        A rule whose pattern no name matches first.

    Examples
    --------
    >>> from fastkaiming import checkpoint
    >>> made = checkpoint.plan({"tensors": {"fc.weight": [64, 32], "fc.bias": [64]}}, dtype="bfloat16")
    >>> [(tensor.name, tensor.rule, tensor.nbytes) for tensor in made.tensors]
    [('fc.bias', 'zeros', 128), ('fc.weight', 'kaiming_normal', 4096)]
    """
    made = make_plan(source, seed, dtype, rules, max_shard_size)
    warn_about_unused(made.unused, made.recipe.tensors)
    return made


def make_plan(source: Any, seed: Any, dtype: Any, rules: Any, max_shard_size: Any) -> Plan:
    """Return the plan, and tell nobody of rules that fill nothing."""
    recipe = _sources.read(source)
    seed = _validation.integer("seed", recipe.seed or 0 if seed is None else seed, 0, 2**64 - 1)
    converted = None if dtype is None else named("dtype", dtype)
    given = recipe.rules if rules is None else _recipes.rules_from_table("rules", rules)
    try:
        found, unused = _resolved(recipe, given or {}, converted)
        _check(found)
    except (TypeError, ValueError) as error:
        if isinstance(source, str | os.PathLike):
            raise type(error)(f"{os.fspath(source)}: {error}") from None
        raise
    limit = _bytes("max_shard_size", max_shard_size)
    groups = _groups(found, limit)
    names = _file_names(len(groups))
    files = tuple(_file(name, group, seed) for name, group in zip(names, groups, strict=True))
    return Plan(seed, files, _index(files, found) if len(files) > 1 else None, recipe, unused)


# ---- what each tensor is ----


def _resolved(
    recipe: Recipe, given: Mapping[str, Rule], converted: Dtype | None
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Return the tensors in the order of the recipe, their place in a file still to be found, and rules of no use."""
    for each, rule in given.items():
        _model.parse_rule(each, rule.init)  # a typing error is told also where no name matches
    patterns = _model.first_matches(recipe.tensors, given)
    defaults = _model.first_matches(recipe.tensors, _model.DEFAULT_RULES)
    tensors: list[Tensor] = []
    untold: list[str] = []
    for name, spec in recipe.tensors.items():
        pattern, default = patterns[name], str(defaults[name])
        dtype = _dtype(spec, None if pattern is None else given[pattern].dtype, recipe, converted)
        _headers.nbytes_of(f"tensor {name!r}", dtype, spec.shape)
        by_rule = spec.layer if pattern is None else given[pattern].init
        told = by_rule if spec.init is None else spec.init
        text = _model.DEFAULT_RULES[default] if told is None else told
        tensors.append(Tensor(name, dtype, spec.shape, text if dtype.is_fillable_dtype else "zeros", 0))
        if told is None and default == "*" and len(spec.shape) < 2 and 0 not in spec.shape and dtype.is_fillable_dtype:
            untold.append(name)
    if untold:
        example = f"{'*' + untold[0].rpartition('.')[2]!r:.60} = 'ones'"
        names = _model.quote_names(untold)
        raise ValueError(
            f"tensors of fewer than two axes must have a rule, {example} for example, got none for {names}"
        )
    return tensors, _model.unused_patterns(given, patterns)


def _dtype(spec: Spec, of_rule: Dtype | None, recipe: Recipe, converted: Dtype | None) -> Dtype:
    """Return a tensor's dtype: the nearest that anybody tells; nothing makes drawn numbers of stored integers."""
    if spec.stored is not None and not spec.stored.is_fillable_dtype:
        return spec.stored
    return spec.dtype or of_rule or converted or spec.stored or recipe.dtype or OF_FILES["F32"]


def _check(tensors: Sequence[Tensor]) -> None:
    """Refuse what an initializer refuses, before any byte is written."""
    for tensor in tensors:
        try:
            _ = tensor.distribution
        except (TypeError, ValueError) as error:
            raise ValueError(f"tensor {tensor.name!r}, by the rule {tensor.rule!r:.60}: {error}") from None


@cache
def filler(text: str) -> _model.Filler:
    """Return what fills a tensor by the text of a rule."""
    found = _model.parse_rule(text, text)
    if _model.is_keep(found):
        raise ValueError("a new file has no values to keep")
    return found


@cache
def distribution(text: str, shape: tuple[int, ...], dtype: Dtype) -> Distribution:
    """Return what a rule draws a whole tensor from, for which nobody has to have the memory."""
    whole = shape or (1,)  # a part of no axes would have an element
    nothing = np.empty((0,) * len(whole), dtype.memory())
    return distribution_of(filler(text), nothing, rng=0, global_shape=whole, index=(slice(0),) * len(whole))


def fans_of(text: str, shape: tuple[int, ...]) -> Fans:
    """Return the fans of a shape as the arguments of a rule have them counted."""
    found = filler(text)
    given = found.keywords if isinstance(found, partial) else {}
    return fans(shape, **{name: given[name] for name in ("layout", "groups", "transposed") if name in given})


# ---- where each tensor stands ----


def _bytes(name: str, value: int | str) -> int:
    """Return a size in bytes, given as such or as a text such as 5GB or 512MiB."""
    if not isinstance(value, str):
        return _validation.integer(name, value, 1, 2**63 - 1, "an integer or a text such as '5GB'")
    match = re.fullmatch(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([KMGT]i?B)?\s*", value, re.IGNORECASE | re.ASCII)
    if match is None:
        raise ValueError(f"{name} must be a number of bytes or a text such as '5GB' or '512MiB', got {value!r:.60}")
    return _validation.integer(name, int(Fraction(match[1]) * _UNITS[(match[2] or "B").upper()]), 1, 2**63 - 1)


def _groups(tensors: Sequence[Tensor], limit: int) -> list[list[Tensor]]:
    """Share tensors out between files as huggingface_hub.split_state_dict_into_shards_factory does."""
    groups: list[list[Tensor]] = []
    current: list[Tensor] = []
    nbytes = 0
    for tensor in tensors:
        if tensor.nbytes > limit:
            groups.append([tensor])
            continue
        if nbytes + tensor.nbytes > limit:
            groups.append(current)
            current, nbytes = [], 0
        current.append(tensor)
        nbytes += tensor.nbytes
    return [*groups, current] if current or not groups else groups


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _file(name: str, group: Sequence[Tensor], seed: int) -> File:
    in_order = sorted(group, key=lambda tensor: (-tensor.dtype.rank, tensor.name.encode()))
    entries: dict[str, _headers.Entry] = {}
    by_rule: dict[str, list[str]] = {}
    end = 0
    for tensor in in_order:
        entries[tensor.name] = _headers.Entry(tensor.dtype, tensor.shape, end, end + tensor.nbytes)
        by_rule.setdefault(tensor.rule, []).append(tensor.name)
        end += tensor.nbytes
    metadata = {
        "format": "pt",  # without which transformers loads nothing
        SEED: str(seed),
        STREAM: str(_core.STREAM_VERSION),
        RULES: json.dumps(by_rule, separators=(",", ":"), ensure_ascii=False),
    }
    header = _headers.encoded(entries, metadata)
    placed = (tensor._replace(begin=len(header) + entries[tensor.name].begin) for tensor in in_order)
    return File(name, header, tuple(placed))


def _index(files: Sequence[File], tensors: Sequence[Tensor]) -> bytes:
    weight_map = {tensor.name: file.name for file in files for tensor in file.tensors}
    total = sum(tensor.nbytes for tensor in tensors)
    table = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return (json.dumps(table, indent=2, sort_keys=True) + "\n").encode()
