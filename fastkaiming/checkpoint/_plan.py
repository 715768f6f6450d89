"""Plans a checkpoint: chooses the rule, the dtype, the file and the offset of each tensor.

The files have the layout of Hugging Face's save_pretrained: tensors keep their order, a new file begins if the next
tensor does not fit, and a tensor that is larger than the limit has a file of its own.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

from fastkaiming import _core, _errors, _validation
from fastkaiming.checkpoint import _headers, _identity, _recipes, _rules, _sources
from fastkaiming.checkpoint._dtypes import DTYPES, Dtype, dtype_from_name
from fastkaiming.checkpoint._identity import Recorded
from fastkaiming.checkpoint._recipes import Recipe, Rule, TensorSpec
from fastkaiming.checkpoint._rules import Values
from fastkaiming.distributions import Distribution
from fastkaiming.initializers import _model
from fastkaiming.initializers._fans import Fans
from fastkaiming.initializers._model import warn_about_unused
from fastkaiming.initializers._patterns import first_matches

SINGLE_FILE_NAME = "model.safetensors"


class Tensor(NamedTuple):
    """A tensor in a planned file.

    Attributes
    ----------
    name, rule : str
        The name of the tensor, and the rule that fills it.
    dtype : object
        The dtype of the tensor; ``dtype.numpy`` is its name in NumPy and ml_dtypes.
    shape : tuple of int
        The shape of the tensor.
    begin : int
        The byte of the file at which the data of the tensor begins.
    values : object
        The data of the tensor if code of a model computed it, and otherwise None.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    rule: str
    begin: int
    values: Values | None = None

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the data in bytes."""
        return self.elements * self.dtype.nbytes

    @property
    def fans(self) -> Fans | None:
        """The fan_in and fan_out under the rule; None with fewer than two axes, or if their meaning is not known."""
        return _rules.fans_of_rule(self.rule, self.shape)

    @property
    def is_sampled(self) -> bool:
        """Whether the rule generates the values, as for all floating-point tensors unless code computed them."""
        return self.dtype.is_fillable and _rules.sha256_of_rule(self.rule) is None

    @property
    def distribution(self) -> Distribution | None:
        """The distribution of the values; None if they are not sampled, as for integers, and for empty tensors."""
        if not self.elements or not self.is_sampled:
            return None
        return _rules.distribution_of_rule(self.rule, self.shape, self.dtype)

    @property
    def row(self) -> _identity.Row:
        """What determines the values of the tensor, apart from the seed."""
        return self.name, self.dtype.name, self.shape, self.rule


class File(NamedTuple):
    """A planned file of a checkpoint.

    Attributes
    ----------
    name : str
        The name of the file in its directory.
    header : bytes
        The bytes that precede the data.
    tensors : tuple of Tensor
        The tensors in the file, in order.
    """

    name: str
    header: bytes
    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """The size of the file in bytes."""
        return self.tensors[-1].begin + self.tensors[-1].nbytes if self.tensors else len(self.header)

    @property
    def sampled_elements(self) -> int:
        """The number of elements that rules generate; integer, boolean and complex tensors do not count."""
        return sum(tensor.elements for tensor in self.tensors if tensor.is_sampled)


@dataclass(frozen=True)
class Plan:
    """A description of a checkpoint that has not been written yet.

    Attributes
    ----------
    recorded : object
        What each file records about the whole plan, with the digest that identifies it.
    files : tuple of File
        The files, with the tensors in each.
    index : bytes or None
        The content of model.safetensors.index.json, or None if there is only one file.
    recipe : object
        The names, shapes and rules from which the plan was made.
    unused : tuple of str
        The patterns that are not the first match of any name.
    """

    recorded: Recorded
    files: tuple[File, ...]
    index: bytes | None
    recipe: Recipe
    unused: tuple[str, ...]

    @property
    def seed(self) -> int:
        """The seed of the checkpoint; each tensor has the key ``Generator(seed).key(name)``."""
        return self.recorded.seed

    @property
    def tensors(self) -> Iterator[Tensor]:
        """An iterator over all tensors, file by file."""
        return (tensor for file in self.files for tensor in file.tensors)


def plan(
    source: Any,
    *,
    seed: int | None = None,
    dtype: Any = None,
    rules: Any = None,
    max_shard_size: int | str | None = None,
) -> Plan:
    """Return the plan of the checkpoint that :func:`write` would write, without generating values or writing files.

    All arguments and all tensors are checked.

    Parameters
    ----------
    source, seed, dtype, rules, max_shard_size
        As in :func:`write`.

    Returns
    -------
    Plan
        The plan; each of its ``tensors`` has a ``name``, ``shape``, ``dtype``, ``rule`` and ``distribution``.

    Raises
    ------
    TypeError, ValueError, OSError
        In the same cases as :func:`write`.

    Warns
    -----
    UserWarning
        If a pattern is not the first match of any name.

    Examples
    --------
    >>> from fastkaiming import checkpoint
    >>> planned = checkpoint.plan({"tensors": {"fc.weight": [64, 32], "fc.bias": [64]}}, dtype="bfloat16")
    >>> [(tensor.name, tensor.rule, tensor.nbytes) for tensor in planned.tensors]
    [('fc.bias', 'zeros', 128), ('fc.weight', "kaiming_normal(layout='OI')", 4096)]
    """
    planned = make_plan(source, seed, dtype, rules, max_shard_size)
    warn_about_unused(planned.unused, planned.recipe.tensors)
    return planned


def make_plan(source: Any, seed: Any, dtype: Any, rules: Any, max_shard_size: Any) -> Plan:
    """Return the plan, without warnings about unused rules."""
    seed = None if seed is None else _validation.integer("seed", seed, 0, 2**64 - 1)
    requested_dtype = None if dtype is None else dtype_from_name("dtype", dtype)
    recipe = _sources.read_source(source, seed or 0, requested_dtype)
    seed = recipe.seed or 0 if seed is None else seed
    rule_table = recipe.rules if rules is None else _recipes.rules_from_table("rules", rules)
    try:
        tensors, unused = _resolve_tensors(recipe, rule_table or {}, requested_dtype)
        recipe = _without_models(recipe)
        _check_distributions(tensors)
    except (TypeError, ValueError) as error:
        if isinstance(source, str | os.PathLike):
            raise type(error)(f"{os.fspath(source)}: {error}") from None
        raise
    limit = _parse_size("max_shard_size", recipe.max_shard_size if max_shard_size is None else max_shard_size)
    groups = [_sorted_tensors(group) for group in _split_into_shards(tensors, recipe, limit)]
    companions = _identity.companions_text({companion.name: companion.data for companion in recipe.companions})
    recorded = Recorded(seed, recipe.initialization, companions)
    identity = _identity.digest(recorded, ((tensor.row for tensor in group) for group in groups))
    recorded = recorded._replace(identity=identity)
    names = _file_names(len(groups))
    files = tuple(_build_file(name, group, recorded) for name, group in zip(names, groups, strict=True))
    index = _index_json(files, tensors, recipe.parameters) if len(files) > 1 else None
    return Plan(recorded, files, index, recipe, unused)


def _without_models(recipe: Recipe) -> Recipe:
    """Return a recipe that does not refer to the model that computed its values, so that its memory is released."""
    return replace(recipe, tensors={name: spec._replace(values=None) for name, spec in recipe.tensors.items()})


# ---- the rule and the dtype of each tensor ----


def _resolve_tensors(
    recipe: Recipe, rules: Mapping[str, Rule], requested_dtype: Dtype | None
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Return the tensors in the order of the recipe, with a provisional offset of 0, and the unused patterns."""
    for pattern, rule in rules.items():
        _rules.check_rule(pattern, rule.init)  # reports a typo even if no name matches the pattern
    patterns = first_matches(recipe.tensors, rules)
    default_patterns = first_matches(recipe.tensors, _model.DEFAULT_RULES)
    tensors: list[Tensor] = []
    without_rule: list[str] = []
    no_default: dict[str, list[str]] = {}
    for name, spec in recipe.tensors.items():
        matched, default_pattern = patterns[name], str(default_patterns[name])
        dtype = _choose_dtype(spec, None if matched is None else rules[matched].dtype, recipe, requested_dtype)
        _headers.checked_nbytes(f"tensor {name!r}", dtype, spec.shape)
        rule_init = spec.layer_init if matched is None else rules[matched].init
        explicit = rule_init if spec.init is None else spec.init
        if spec.values is not None and (explicit is None or not dtype.is_fillable):
            values = _rules.values_from_data(spec.values(dtype))
            tensors.append(Tensor(name, dtype, spec.shape, values.rule, 0, values))
            continue
        init = _model.DEFAULT_RULES[default_pattern] if explicit is None else explicit
        tensors.append(Tensor(name, dtype, spec.shape, init if dtype.is_fillable else "zeros", 0))
        needs_rule = len(spec.shape) < 2 and 0 not in spec.shape and dtype.is_fillable
        if matched is None and spec.no_default and dtype.is_fillable:
            no_default.setdefault(spec.no_default, []).append(name)
        elif explicit is None and default_pattern == "*" and needs_rule:
            without_rule.append(name)
    for reason, names in no_default.items():
        raise ValueError(f"tensors must have a rule, because {reason}, got none for {_model.quote_names(names)}")
    if without_rule:
        quoted = _model.quote_names(without_rule, [recipe.tensors[name].shape for name in without_rule])
        raise ValueError(
            f"tensors with fewer than two axes must have a rule if their names do not determine one, got none for "
            f"{quoted}: add a rule whose pattern matches them"
        )
    return tensors, _model.unused_patterns(rules, patterns)


def _choose_dtype(spec: TensorSpec, rule_dtype: Dtype | None, recipe: Recipe, requested_dtype: Dtype | None) -> Dtype:
    """Return the most specific dtype that is given; integers and booleans in the source keep their dtype."""
    if spec.stored_dtype is not None and not spec.stored_dtype.is_fillable:
        return spec.stored_dtype
    return spec.dtype or rule_dtype or requested_dtype or spec.stored_dtype or recipe.dtype or DTYPES["F32"]


def _check_distributions(tensors: Sequence[Tensor]) -> None:
    """Raise ValueError for a tensor that its initializer rejects, before any file is written."""
    for tensor in tensors:
        if tensor.values is not None:
            continue
        try:
            filler = _rules.filler_of_rule(tensor.rule)
        except (TypeError, ValueError) as error:  # the message contains the rule
            raise ValueError(f"tensor {tensor.name!r}: {error}") from None
        try:
            _ = tensor.distribution
        except (TypeError, ValueError) as error:
            reason = _errors.without_name(error, _model.name_of(filler))
            raise ValueError(f"tensor {tensor.name!r}, by the rule {tensor.rule!r:.60}: {reason}") from None


# ---- the file and the offset of each tensor ----


def _parse_size(name: str, value: int | str) -> int:
    """Return a size in bytes, given as an integer or as a string such as 5GB, 5G or 512MiB.

    >>> [_parse_size("size", text) for text in ("7", "7B", "1.5kb", "2 M", "1Gi", "1GiB")]
    [7, 7, 1500, 2000000, 1073741824, 1073741824]
    """
    if not isinstance(value, str):
        return _validation.integer(name, value, 1, 2**63 - 1, "an integer or a string such as '5GB'")
    pattern = r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(?:([KMGT])(I)?)?B?\s*"
    match = re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ValueError(f"{name} must be a number of bytes or a string such as '5GB' or '512MiB', got {value!r:.60}")
    unit = (1024 if match[3] else 1000) ** " KMGT".index((match[2] or " ").upper())
    return _validation.integer(name, int(Fraction(match[1]) * unit), 1, 2**63 - 1)


def _split_into_shards(tensors: Sequence[Tensor], recipe: Recipe, limit: int) -> list[list[Tensor]]:
    """Split tensors into the same files as huggingface_hub.split_state_dict_into_shards_factory."""
    groups: list[list[Tensor]] = []
    current: list[Tensor] = []
    nbytes = 0
    for block in _undivided_blocks(tensors, recipe):
        block_nbytes = sum(tensor.nbytes for tensor in block)
        if block_nbytes > limit:
            groups.append(block)
            continue
        if nbytes + block_nbytes > limit:
            groups.append(current)
            current, nbytes = [], 0
        current.extend(block)
        nbytes += block_nbytes
    return [*groups, current] if current or not groups else groups


def _undivided_blocks(tensors: Sequence[Tensor], recipe: Recipe) -> list[list[Tensor]]:
    """Return the tensors, with those together that must be in one file."""
    blocks: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        blocks.setdefault(recipe.tensors[tensor.name].beside or tensor.name, []).append(tensor)
    return [*blocks.values()]


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE_FILE_NAME]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _sorted_tensors(group: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of a file in the order of the safetensors library."""
    return sorted(group, key=lambda tensor: (-tensor.dtype.sort_rank, tensor.name.encode()))


def _build_file(name: str, in_order: Sequence[Tensor], recorded: Recorded) -> File:
    entries: dict[str, _headers.Entry] = {}
    by_rule: dict[str, list[str]] = {}
    end = 0
    for tensor in in_order:
        entries[tensor.name] = _headers.Entry(tensor.dtype, tensor.shape, end, end + tensor.nbytes)
        by_rule.setdefault(tensor.rule, []).append(tensor.name)
        end += tensor.nbytes
    metadata = {
        "format": "pt",  # transformers does not load files without it
        _identity.SEED_KEY: str(recorded.seed),
        _identity.STREAM_VERSION_KEY: str(_core.STREAM_VERSION),
        _identity.IDENTITY_KEY: recorded.identity,
        _identity.INITIALIZATION_KEY: recorded.initialization,
        _identity.COMPANIONS_KEY: recorded.companions,
        _identity.RULES_KEY: json.dumps(by_rule, separators=(",", ":"), ensure_ascii=False),
    }
    header = _headers.encode_header(entries, metadata)
    with_offsets = (tensor._replace(begin=len(header) + entries[tensor.name].begin) for tensor in in_order)
    return File(name, header, tuple(with_offsets))


def _index_json(files: Sequence[File], tensors: Sequence[Tensor], parameters: int | None) -> bytes:
    weight_map = {tensor.name: file.name for file in files for tensor in file.tensors}
    total = sum(tensor.nbytes for tensor in tensors)
    metadata = {"total_size": total} | ({} if parameters is None else {"total_parameters": parameters})
    table = {"metadata": metadata, "weight_map": weight_map}
    return (json.dumps(table, indent=2, sort_keys=True) + "\n").encode()
