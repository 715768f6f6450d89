"""Parametrizations and normalizations of torch.nn.utils, and the tensors that they compute from filled parameters.

A weight normalization stores the norms of its directions. An orthogonal parametrization stores reflections, or a basis
and its coordinates. A spectral normalization stores the two vectors of a power iteration. Values of such tensors that
do not belong to the parameter give a weight that is not normalized or not orthogonal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _OrthMaps, _Orthogonal, _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList, type_before_parametrizations
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fastkaiming.initializers import normal
from fastkaiming.torch import _dtensors

# The power iteration ends when the norm grows by less than this factor in a step. It is then within about 2e-3 of the
# largest singular value, even for large Gaussian matrices, whose largest singular values are close to each other.
_RELATIVE_GROWTH = 3e-6
_MAX_STEPS = 2000


@dataclass(frozen=True)
class NormFiller:
    """Fills the magnitudes of a weight normalization with the norms of its directions.

    The normalized weight then equals the directions, which the rule of the layer has filled.
    """

    directions: torch.Tensor
    axis: int

    def __call__(self, magnitudes: torch.Tensor, rng: object) -> None:  # noqa: ARG002
        """Fill the magnitudes; ``rng`` is not used."""
        magnitudes.copy_(torch.norm_except_dim(self.directions, 2, self.axis))


def norm_filler(layer: Any, name: str) -> NormFiller | None:
    """Return the filler of a parameter that holds the magnitudes of either of torch's two weight normalizations."""
    if isinstance(layer, ParametrizationList):
        normalization: Any = layer[0]
        is_magnitude = isinstance(normalization, _WeightNorm) and name == "original0"
        return NormFiller(layer.get_parameter("original1"), normalization.dim) if is_magnitude else None
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and name == f"{hook.name}_g":
            return NormFiller(getattr(layer, f"{hook.name}_v"), hook.dim)
    return None


class Derived(NamedTuple):
    """What a parametrization computes from parameters after rules have filled them.

    ``parameters`` and ``buffers`` are qualified names: of the parameters that it reads, and of the buffers that it
    writes. ``divided`` is the parameter that it divides by a norm, if any. If ``rewrites`` is true, it replaces the
    values of its parameter as well. ``unsupported`` is the reason if the parameters must not be filled.
    """

    label: str  # the layer and what is computed, for reports
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    compute: Callable[[], None]
    divided: str | None = None
    rewrites: bool = False
    unsupported: str | None = None


def derived_tensors(module: nn.Module) -> Iterator[Derived]:
    """Yield what the parametrizations and normalizations in a module compute, each after what it depends on."""
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        if parametrize.is_parametrized(layer):
            for name, parametrizations in layer.parametrizations.items():
                yield from _of_parametrizations(layer, name, parametrizations, f"{prefix}parametrizations.{name}.")
        for hook in layer._forward_pre_hooks.values():
            yield from _of_hook(layer, hook, prefix)


def computed_names(module: nn.Module) -> set[str]:
    """Return the names of the parameters and buffers whose values depend on other tensors."""
    names: set[str] = set()
    for each in derived_tensors(module):
        names.update(each.buffers, each.parameters if each.rewrites else ())
    for path, layer in module.named_modules():
        for name in layer._parameters:
            if norm_filler(layer, name) is not None:
                names.add(f"{path}.{name}" if path else name)
    return names


def _of_parametrizations(layer: nn.Module, name: str, parametrizations: Any, prefix: str) -> Iterator[Derived]:
    kind = type_before_parametrizations(layer).__name__
    originals = tuple(prefix + each for each in parametrizations._parameters)
    if isinstance(parametrizations[0], _WeightNorm):
        yield Derived(f"{kind}: weight_norm", originals, (), _nothing, f"{prefix}original1")
    for index, each in enumerate(parametrizations):
        if isinstance(each, _Orthogonal):
            unsupported = None
            if index > 0:  # its parameter is not the matrix of which it takes the reflections
                first = type(parametrizations[0]).__name__
                unsupported = f"orthogonal must be the first parametrization of {prefix}original, got it after {first}"
            if unsupported or hasattr(each, "base") or each.orthogonal_map is _OrthMaps.householder:
                bases = (f"{prefix}{index}.base",) if hasattr(each, "base") else ()
                factorize = partial(_make_orthogonal, each, parametrizations)
                yield Derived(f"{kind}: orthogonal", originals, bases, factorize, None, True, unsupported)
        elif isinstance(each, _SpectralNorm):
            vectors = tuple(f"{prefix}{index}.{vector}" for vector in each._buffers)  # none if the weight is a vector
            restart = partial(restart_power_iteration, layer, name) if vectors else _nothing
            divided = originals[0] if originals and index == 0 else None
            yield Derived(f"{kind}: singular vectors", originals, vectors, restart, divided)


def _of_hook(layer: Any, hook: Any, prefix: str) -> Iterator[Derived]:
    kind = type(layer).__name__
    if isinstance(hook, SpectralNorm):
        buffers = (f"{prefix}{hook.name}_u", f"{prefix}{hook.name}_v")
        original = f"{prefix}{hook.name}_orig"
        compute = partial(restart_power_iteration, layer, hook.name)
        yield Derived(f"{kind}: singular vectors", (original,), buffers, compute, original)
    elif isinstance(hook, WeightNorm):
        names = (f"{prefix}{hook.name}_g", f"{prefix}{hook.name}_v")
        yield Derived(
            f"{kind}: weight_norm", names, (), partial(_set_attribute, layer, hook.name, hook.compute_weight), names[1]
        )
    elif isinstance(hook, BasePruningMethod):
        name, original = hook._tensor_name, f"{prefix}{hook._tensor_name}_orig"
        yield Derived(f"{kind}: pruned weight", (original,), (), partial(_set_attribute, layer, name, hook.apply_mask))


def _nothing() -> None:
    """Compute nothing, because the weight is computed from its parameters at each access."""


@torch.no_grad()  # type: ignore[untyped-decorator]
def _set_attribute(layer: nn.Module, name: str, compute: Callable[[nn.Module], torch.Tensor]) -> None:
    """Set the attribute that a hook computes before each call of the layer, so that it can be read at once.

    If the layer is sharded, only the hook can compute it, when a call has gathered the parameters.
    """
    if not any(map(_dtensors.is_dtensor, layer.parameters(recurse=False))):
        setattr(layer, name, compute(layer))


# ---- spectral normalization ----


@torch.no_grad()  # type: ignore[untyped-decorator]
def restart_power_iteration(layer: Any, name: str) -> None:
    """Compute the vectors of a spectral normalization from the current weight.

    The layer then has a weight whose largest singular value is 1, in evaluation mode as well. The vectors depend only
    on the weight, and not on their old values. Both :func:`torch.nn.utils.parametrizations.spectral_norm` and the older
    :func:`torch.nn.utils.spectral_norm` are supported.

    Parameters
    ----------
    layer : torch.nn.Module
        The layer.
    name : str
        The name of the normalized tensor, for example ``"weight"``.

    Raises
    ------
    ValueError
        If the tensor has no spectral normalization.
    """
    hooks = [each for each in layer._forward_pre_hooks.values() if isinstance(each, SpectralNorm) and each.name == name]
    for hook in hooks:
        weight = _whole(getattr(layer, f"{name}_orig"))
        u, v = getattr(layer, f"{name}_u"), getattr(layer, f"{name}_v")
        _compute_singular_vectors(hook.reshape_weight_to_matrix(weight), u, v)
        _set_attribute(layer, name, partial(hook.compute_weight, do_power_iteration=False))
    parametrizations: Any = layer.parametrizations[name] if parametrize.is_parametrized(layer, name) else ()
    normalizations = [index for index, each in enumerate(parametrizations) if isinstance(each, _SpectralNorm)]
    if not hooks and not normalizations:
        raise ValueError(f"{name!r} of {type(layer).__name__} must have a spectral normalization, got none")
    values = tuple(map(_whole, _originals(parametrizations))) if normalizations else ()
    for index in range(max(normalizations, default=-1) + 1):
        if index > 0:
            values = (parametrizations[index - 1](*values),)
        each = parametrizations[index]
        if isinstance(each, _SpectralNorm) and "_u" in each._buffers:
            _compute_singular_vectors(each._reshape_weight_to_matrix(*values), each._u, each._v)


def has_spectral_norm(layer: Any, name: str) -> bool:
    """Return True if a parametrized tensor has the parametrization ``spectral_norm`` with vectors."""
    return any(isinstance(each, _SpectralNorm) and "_u" in each._buffers for each in layer.parametrizations[name])


def _originals(parametrizations: Any) -> tuple[torch.Tensor, ...]:
    """Return the tensors from which parametrizations compute a tensor."""
    if parametrizations.is_tensor:
        return (parametrizations.original,)
    return tuple(getattr(parametrizations, f"original{number}") for number in range(parametrizations.ntensors))


def _compute_singular_vectors(matrix: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> None:
    """Write the singular vectors of the largest singular value of a matrix to ``u`` and ``v``.

    If all elements of the matrix are zero, any vectors are singular vectors.
    """
    if matrix.dtype in (torch.float16, torch.bfloat16):
        matrix = matrix.float()
    # The first vectors are always the same normal values: nearly every direction has a component along the result.
    left, right = (_unit(torch.from_numpy(normal(size, rng=seed)).to(matrix)) for seed, size in enumerate(matrix.shape))
    norm = torch.zeros(())
    for _ in range(_MAX_STEPS):
        image = matrix @ right
        new_norm = torch.linalg.vector_norm(image)
        if not new_norm > norm:
            break
        left = image / new_norm
        right = _unit(matrix.mH @ left)
        if new_norm - norm < _RELATIVE_GROWTH * new_norm:
            break
        norm = new_norm
    u.copy_(left)
    v.copy_(right)


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector.div(torch.linalg.vector_norm(vector))


# ---- orthogonal parametrization ----


@torch.no_grad()  # type: ignore[untyped-decorator]
def _make_orthogonal(parametrization: Any, parametrizations: Any) -> None:
    """Let an orthogonal parametrization represent the orthogonal factor of its parameter.

    This is what torch does if a tensor is assigned to the weight. torch, however, completes the basis of a matrix that
    is not square with numbers from its default generator, and gives zeros for the dependent columns of a singular
    matrix.
    """
    original = parametrizations.original
    values = _whole(original)
    is_wide = values.size(-2) < values.size(-1)
    tall = values.mT if is_wide else values
    if tall.dtype in (torch.float16, torch.bfloat16):
        tall = tall.float()
    if hasattr(parametrization, "base"):
        basis, triangle = torch.linalg.qr(tall, mode="complete")
        basis[..., : tall.size(-1)] *= _signs(triangle).unsqueeze(-2)
        if parametrization.base is None:  # torch leaves it out on the meta device
            parametrization.base = torch.empty(basis.shape, dtype=values.dtype, device=values.device)
        parametrization.base.copy_(basis)
        coordinates = torch.zeros_like(tall)
        coordinates.diagonal(dim1=-2, dim2=-1).fill_(-1.0)  # the base itself, in all maps
    else:
        coordinates, scales = torch.geqrf(tall)
        # The parametrization reflects even where the factorization does not, which changes the sign.
        signs = torch.where(scales == 0, -1.0, 1.0) * _signs(coordinates)
        coordinates.diagonal(dim1=-2, dim2=-1).copy_(signs)
    _assign(original, coordinates.mT if is_wide else coordinates)


def _signs(triangle: torch.Tensor) -> torch.Tensor:
    """Return the signs of the diagonal: with a positive diagonal, the orthogonal factor of normal values is uniform."""
    return torch.where(triangle.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)


def _whole(tensor: Any) -> torch.Tensor:
    """Return a tensor, or the whole of a DTensor."""
    whole: torch.Tensor = tensor.full_tensor() if _dtensors.is_dtensor(tensor) else tensor
    return whole.detach()


def _assign(tensor: Any, values: torch.Tensor) -> None:
    """Write values to a tensor, or this rank's part of them to a DTensor."""
    if _dtensors.is_dtensor(tensor):
        from torch.distributed.tensor import distribute_tensor

        values = distribute_tensor(values.contiguous(), tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.copy_(values)
