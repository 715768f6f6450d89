"""Names and shapes of torch modules, and of transformers models that are built on the meta device without memory."""

from functools import partial
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming.checkpoint._dtypes import dtype_from_name
from fastkaiming.checkpoint._headers import check_name
from fastkaiming.checkpoint._recipes import Recipe, TensorSpec

try:
    import torch

    from fastkaiming.torch._layers import standard_rules
    from fastkaiming.torch._parametrizations import computed_names
except ModuleNotFoundError as error:
    raise _validation.missing_dependency_error("torch", "torch", error) from error


def from_module(module: torch.nn.Module) -> Recipe:
    """Return the tensors in a module's state_dict: parameters and persistent buffers, tied tensors only once.

    Each tensor has the default rule of its layer in :func:`fastkaiming.torch.init_module_`. What a parametrization
    computes from other tensors has none.
    """
    layer_rules, computed = standard_rules(module), computed_names(module)
    specs: dict[str, TensorSpec] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        check_name("module", name)
        rule = layer_rules.get(name)
        layer_init = None if rule is None else rule.text
        stored_dtype = dtype_from_name(f"module: {name!r}", tensor.dtype)
        specs[name] = TensorSpec(tuple(tensor.shape), None, None, layer_init, stored_dtype, name in computed)
    return Recipe(specs)


def from_config(path: Path) -> Recipe:
    """Return the tensors of the model that a Hugging Face config describes; the model is built on the meta device."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ImportError(f"{path}: a Hugging Face config needs transformers: pip install transformers") from error
    try:
        config_path = path.parent if path.name == "config.json" else path
        config = transformers.AutoConfig.from_pretrained(config_path, trust_remote_code=False)
        with torch.device("meta"):
            model = _model_factory(transformers, config)(config)
    except Exception as error:  # values in an untrusted config can raise any exception anywhere in transformers
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path}: transformers cannot build its model: {reason}") from error
    recipe = from_module(model)
    dtype = getattr(config, "dtype", None)
    tensors = {
        name: spec._replace(stored_dtype=None)
        if dtype is not None and spec.stored_dtype and spec.stored_dtype.is_fillable
        else spec
        for name, spec in recipe.tensors.items()
    }
    return Recipe(tensors, None, None if dtype is None else dtype_from_name(f"{path}: dtype", dtype), None, (path,))


def _model_factory(transformers: Any, config: Any) -> Any:
    """Return the model class that the config names, or a causal language model if the name is not a model class."""
    names = getattr(config, "architectures", None) or []
    named_by_config = getattr(transformers, names[0], None) if names else None
    base = transformers.PreTrainedModel  # has no tensors of its own
    if isinstance(named_by_config, type) and issubclass(named_by_config, base) and named_by_config is not base:
        return named_by_config
    return partial(transformers.AutoModelForCausalLM.from_config, trust_remote_code=False)
