"""The checkpoint that transformers' save_pretrained would write for a Hugging Face config.

The model is constructed as :func:`transformers.AutoModel.from_config` does, but only computed values take memory. Its
tensors get the names and shapes of the checkpoint, which may combine, divide or transpose the tensors of the model.
"""

import json
import math
import tempfile
import warnings
from collections.abc import Mapping
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from fastkaiming import _validation
from fastkaiming.checkpoint import _parse
from fastkaiming.checkpoint._dtypes import Dtype, dtype_from_name
from fastkaiming.checkpoint._headers import check_name
from fastkaiming.checkpoint._recipes import Companion, Recipe, TensorSpec
from fastkaiming.checkpoint._rules import rule_of_distribution

try:
    import torch
    from torch.utils import _pytree as pytree
    from torch.utils._python_dispatch import TorchDispatchMode

    from fastkaiming.torch._named_writes import returns_view
    from fastkaiming.torch._recorded_construction import (
        COMPUTED,
        Initialization,
        RecordedConstruction,
        recorded_construction,
    )
except ModuleNotFoundError as error:
    raise _validation.missing_dependency_error("torch", "torch", error) from error
try:
    import transformers
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict
except ImportError as error:
    raise ImportError(
        f"a Hugging Face config needs transformers 5 or later (pip install transformers): {error}"
    ) from error

_CONFIG_NAME, _GENERATION_CONFIG_NAME = "config.json", "generation_config.json"
_UNWRITTEN = "no code of the model initializes them"
# Integers of the size of an element, by which torch passes the elements of any dtype to NumPy.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Operations that put elements in other places. Views do so, too.
_MOVES = (
    *(torch.ops.aten.cat.default, torch.ops.aten.stack.default, torch.ops.aten.clone.default),
    *(torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default),
    *(torch.ops.aten.index.Tensor, torch.ops.aten._unsafe_view.default),
)


def from_config(path: Path, seed: int, dtype: Dtype | None) -> Recipe:
    """Return the tensors of the checkpoint of a model, with the values that the code of the model gives them.

    ``dtype`` is the one that the user requests for floating-point tensors.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
        with torch.device("cpu"), recorded_construction(seed) as construction, torch.no_grad():
            model = _construct(config)
        specs = _SavedModel(model, construction).specs()
        if not specs:
            raise ValueError(f"architectures must name a model with tensors, got {type(model).__name__!r}")
        generation_config = _generation_config(path, model)
    except Exception as error:  # values in an untrusted config can raise any exception anywhere in transformers
        reason = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in reason:
            reason = "the code of the model does not belong to transformers, and other code is not run"
        raise ValueError(f"{path}: transformers cannot build its model: {reason}") from error
    for name in specs:
        check_name(str(path), name)
    companions = (Companion(_CONFIG_NAME, _config_data(path, model, dtype), str(path)), *generation_config)
    default_size = signature(type(model).save_pretrained).parameters["max_shard_size"].default
    return Recipe(
        specs,
        companions=companions,
        initialization="model",
        parameters=model.num_parameters(),
        max_shard_size=default_size,
    )


def _construct(config: Any) -> Any:
    """Return the model of a config.

    Its class is the one that the config names. If that is a model of which the config describes only a part, such as
    the text model of a multimodal one, or if it names none, the class is the one that transformers chooses.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError("quantization_config must not be set, because the weights are not quantized: remove it")
    # Values do not depend on the implementation of attention, which may need other libraries.
    arguments = {"attn_implementation": "eager", "dtype": getattr(config, "dtype", None) or torch.float32}
    named = _named_class(config)
    if named is not None and isinstance(config, named.config_class):
        return named._from_config(config, **arguments)
    if named is not None and type(config) not in named.config_class.sub_configs.values():
        raise ValueError(f"architectures must name a model for {type(config).__name__}, got {named.__name__!r}")
    causal: Any = transformers.AutoModelForCausalLM
    factory: Any = causal if type(config) in causal._model_mapping else transformers.AutoModel
    return factory.from_config(config, trust_remote_code=False, **arguments)


def _named_class(config: Any) -> Any:
    """Return the model class that a config names, or None if it names none of transformers."""
    names = getattr(config, "architectures", None)
    if not names:
        return None
    found = getattr(transformers, names[0], None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    warnings.warn(
        f"architectures names {names[0]!r:.60}, which transformers does not have, so it chooses the model", stacklevel=2
    )
    return None


def _config_data(path: Path, model: Any, dtype: Dtype | None) -> bytes:
    """Return the config with the class of the model, and with the dtype that the user requests.

    Without these, programs that load the checkpoint would choose another class, or convert it to another dtype.
    """
    data = path.read_bytes()
    table = changed = _parse.check_table(str(path), _parse.parse(str(path), data))
    name = type(model).__name__
    if next(iter(table.get("architectures") or ()), None) != name:
        changed = changed | {"architectures": [name]}
    if dtype is not None:
        changed = _with_dtype({"dtype": None} | changed, dtype.numpy)
    return data if changed == table else (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()


def _with_dtype(table: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return a config in which all dtypes are replaced, those of the parts of a model too."""
    return {
        name: dtype
        if name in {"dtype", "torch_dtype"}
        else _with_dtype(value, dtype)
        if isinstance(value, dict) and name.endswith("_config")
        else value
        for name, value in table.items()
    }


def _generation_config(path: Path, model: Any) -> tuple[Companion, ...]:
    """Return the file that save_pretrained writes beside the config for a model that generates text."""
    given = path.with_name(_GENERATION_CONFIG_NAME)
    if given.is_file():
        _parse.check_table(str(given), _parse.read_document(given))
        return (Companion(_GENERATION_CONFIG_NAME, given.read_bytes(), str(given)),)
    if not model.can_generate():
        return ()
    with tempfile.TemporaryDirectory() as directory:
        model.generation_config.save_pretrained(directory)
        data = (Path(directory) / _GENERATION_CONFIG_NAME).read_bytes()
    return (Companion(_GENERATION_CONFIG_NAME, data, f"that of {path}"),)


class _Saved(NamedTuple):
    """A tensor of a checkpoint, and the names of the tensors of the model from which it is made."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    sources: tuple[str, ...]
    is_unchanged: bool  # whether it has the elements of its only source in their order
    is_moved: bool  # whether it has only elements of its sources
    storage: int


class _SavedModel:
    """The checkpoint that save_pretrained would write for a model."""

    def __init__(self, model: Any, construction: RecordedConstruction) -> None:
        self._model, self._construction = model, construction
        tensors = {
            name: each for name, each in model.state_dict(keep_vars=True).items() if isinstance(each, torch.Tensor)
        }
        kept = _without_tied_and_ignored(model, {name: each.detach().to("meta") for name, each in tensors.items()})
        self._tensors = {name: tensors[name].detach() for name in kept}
        self._initializations = {name: construction.initialization_of(each) for name, each in self._tensors.items()}
        sources = _SourceMode(kept)
        with sources:
            saved = revert_weight_conversion(model, dict(kept))
        self._saved = {name: sources.describe(each) for name, each in saved.items()}

    def specs(self) -> dict[str, TensorSpec]:
        """Return the shape and the initialization of each tensor."""
        specs: dict[str, TensorSpec] = {}
        first_by_storage: dict[int, str] = {}
        for name, saved in self._saved.items():
            first = first_by_storage.setdefault(saved.storage, name)
            beside = None if first == name else first  # save_pretrained does not divide a storage between files
            specs[name] = self._spec(name, saved)._replace(beside=beside)
        return specs

    def _spec(self, name: str, saved: _Saved) -> TensorSpec:
        spec = TensorSpec(saved.shape, stored_dtype=dtype_from_name(repr(name), saved.dtype))
        if any(self._initializations[source] is None for source in saved.sources):
            return spec._replace(no_default=_UNWRITTEN)
        value, zero_rows = self._initialization(saved)
        if value is None:
            value = _constant(self._values(name, saved))
        if value is None or not (value == 0 or saved.dtype.is_floating_point):
            return spec._replace(values=partial(self._data, name, saved))
        return spec._replace(layer_init=rule_of_distribution(value, zero_rows))

    def _initialization(self, saved: _Saved) -> Initialization:
        """Return how the elements of a tensor are initialized."""
        kinds = {self._initializations[source] for source in saved.sources}
        only = kinds.pop() if len(kinds) == 1 and saved.is_moved else None
        return only if only is not None and (saved.is_unchanged or not only.zero_rows) else COMPUTED

    def _data(self, name: str, saved: _Saved, dtype: Dtype) -> bytes:
        """Return the bytes of a tensor in a file."""
        values = self._values(name, saved).to(getattr(torch, dtype.numpy)).contiguous().reshape(-1)
        parts = values.view(torch.float32) if values.is_complex() else values
        data = parts.view(_INTEGERS[parts.element_size()]).numpy()
        return bytes(data.astype(data.dtype.newbyteorder("<"), copy=False).data)

    def _values(self, name: str, saved: _Saved) -> torch.Tensor:
        if not saved.is_unchanged:
            return self._converted_values[name]
        tensor = self._tensors[saved.sources[0]]
        self._construction.perform_fills(tensor)
        return tensor

    @cached_property
    def _converted_values(self) -> Mapping[str, torch.Tensor]:
        """The tensors that are made of computed values; the others have no memory."""
        needed = {
            source
            for saved in self._saved.values()
            if not saved.is_unchanged and self._initialization(saved) == COMPUTED
            for source in saved.sources
        }
        for source in needed:
            self._construction.perform_fills(self._tensors[source])
        given = {name: each if name in needed else each.to("meta") for name, each in self._tensors.items()}
        converted: Mapping[str, torch.Tensor] = revert_weight_conversion(self._model, given)
        return converted


def _without_tied_and_ignored(model: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model that save_pretrained writes."""
    for name in model._keys_to_ignore_on_save or ():
        tensors.pop(name, None)
    kept: dict[str, torch.Tensor] = remove_tied_weights_from_state_dict(tensors, model)
    return kept


def _constant(values: torch.Tensor) -> float | None:
    """Return the value of all elements of a tensor, or None if they differ."""
    if values.numel() == 0 or values.is_complex():
        return None if values.numel() else 0.0
    first = float(values.reshape(-1)[0])
    is_constant = math.isfinite(first) and bool((values == first).all())
    has_negative_zero = first == 0 and bool(values.signbit().any())
    return first if is_constant and not has_negative_zero else None


class _SourceMode(TorchDispatchMode):  # type: ignore[misc]
    """Records from which tensors the results of operations are made."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._given = tensors
        self._names = {_storage_number(each): {name: None} for name, each in tensors.items()}
        self._computed: set[int] = set()  # storages with other values than those of the given tensors
        self._storages: list[Any] = []  # of all results, because the number of a released storage is used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Perform an operation."""
        result = func(*args, **(kwargs or {}))
        leaves = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        given = [_storage_number(each) for each in leaves if each.numel()]
        names = {name: None for each in given for name in self._names.get(each, ())}
        is_computed = not (returns_view(func) or func in _MOVES) or not self._computed.isdisjoint(given)
        for each in pytree.tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self._names[_storage_number(each)] = names
                self._storages.append(each.untyped_storage())
                if is_computed:
                    self._computed.add(_storage_number(each))
        return result

    def describe(self, result: torch.Tensor) -> _Saved:
        """Return what is known about a tensor of the checkpoint."""
        number = _storage_number(result)
        sources = tuple(self._names[number])
        given = self._given[sources[0]] if len(sources) == 1 else None
        is_unchanged = given is not None and _geometry(given) == _geometry(result)
        is_moved = bool(sources) and number not in self._computed
        return _Saved(tuple(result.shape), result.dtype, sources, is_unchanged, is_moved, number)


def _geometry(tensor: torch.Tensor) -> Any:
    """Return which elements of which storage a tensor contains."""
    return _storage_number(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()


def _storage_number(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
