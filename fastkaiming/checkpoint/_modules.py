"""Names and shapes of torch modules."""

from fastkaiming import _validation
from fastkaiming.checkpoint._dtypes import dtype_from_name
from fastkaiming.checkpoint._headers import check_name
from fastkaiming.checkpoint._recipes import Recipe, TensorSpec
from fastkaiming.checkpoint._rules import zero_rows_rule

try:
    import torch

    from fastkaiming.torch._layers import EMBEDDING_RULE, padding_rows, standard_rules
    from fastkaiming.torch._parametrizations import computed_names
except ModuleNotFoundError as error:
    raise _validation.missing_dependency_error("torch", "torch", error) from error

_COMPUTED = "a parametrization computes them from other tensors"


def from_module(module: torch.nn.Module) -> Recipe:
    """Return the tensors in a module's state_dict: parameters and persistent buffers, tied tensors only once.

    Each tensor has the default rule of its layer in :func:`fastkaiming.torch.init_module_`. What a parametrization
    computes from other tensors has none.
    """
    layer_rules, computed = standard_rules(module), computed_names(module)
    padding = _padding_rows(module)
    specs: dict[str, TensorSpec] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        check_name("module", name)
        rule = layer_rules.get(name)
        layer_init = None if rule is None else rule.text
        if layer_init == EMBEDDING_RULE and name in padding:
            layer_init = zero_rows_rule(layer_init, padding[name])
        stored_dtype = dtype_from_name(f"module: {name!r}", tensor.dtype)
        no_default = _COMPUTED if name in computed else ""
        specs[name] = TensorSpec(tuple(tensor.shape), None, None, layer_init, stored_dtype, no_default)
    return Recipe(specs)


def _padding_rows(module: torch.nn.Module) -> dict[str, list[int]]:
    """Return the padding rows of embeddings, by the name under which their weights are stored."""
    first_names = {id(tensor): name for name, tensor in reversed([*module.state_dict(keep_vars=True).items()])}
    rows: dict[str, list[int]] = {}
    for name, row in padding_rows(module):
        rows.setdefault(first_names[id(module.get_parameter(name))], []).append(row)
    return rows
