"""Names and shapes of models without memory: torch's modules, transformers' models on the meta device."""

from functools import partial
from pathlib import Path
from typing import Any

from fastkaiming import _validation
from fastkaiming.checkpoint._dtypes import named
from fastkaiming.checkpoint._headers import check_name
from fastkaiming.checkpoint._recipes import Recipe, Spec

try:
    import torch

    from fastkaiming.torch._layers import standard_rules
except ModuleNotFoundError as error:
    raise _validation.missing("torch", "torch", error) from error


def from_module(module: torch.nn.Module) -> Recipe:
    """Return what a module's state_dict holds: parameters and persistent buffers, what is tied under one name.

    Each has the rule that its layer has for it in :func:`fastkaiming.torch.init_module_`.
    """
    layers = standard_rules(module)
    specs: dict[str, Spec] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        check_name("module", name)
        rule = layers.get(name)
        text = None if rule is None else rule.text
        stored = named(f"module: {name!r}", tensor.dtype)
        specs[name] = Spec(tuple(tensor.shape), layer=text, stored=stored)
    return Recipe(specs)


def from_config(path: Path) -> Recipe:
    """Return what the model of a Hugging Face config holds; the model is built without memory, nothing is loaded."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ImportError(f"{path}: a Hugging Face config needs transformers: pip install transformers") from error
    try:
        where = path.parent if path.name == "config.json" else path
        config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
        with torch.device("meta"):
            model = _class_of(transformers, config)(config)
    except Exception as error:  # a stranger's numbers come up anywhere in transformers
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path}: transformers cannot build its model: {reason}") from error
    recipe = from_module(model)
    dtype = getattr(config, "dtype", None)
    tensors = {
        name: spec._replace(stored=None)
        if dtype is not None and spec.stored and spec.stored.is_fillable_dtype
        else spec
        for name, spec in recipe.tensors.items()
    }
    return Recipe(tensors, None, None if dtype is None else named(f"{path}: dtype", dtype), None, (path,))


def _class_of(transformers: Any, config: Any) -> Any:
    """Return what builds the model: the class that the config names, if it is a model's and no other callable."""
    names = getattr(config, "architectures", None) or []
    named_by_config = getattr(transformers, names[0], None) if names else None
    base = transformers.PreTrainedModel  # which has no tensors of its own
    if isinstance(named_by_config, type) and issubclass(named_by_config, base) and named_by_config is not base:
        return named_by_config
    return partial(transformers.AutoModelForCausalLM.from_config, trust_remote_code=False)
