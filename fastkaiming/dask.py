"""Initializers that return lazy Dask arrays, whose chunks are filled when they are computed.

The values do not depend on the chunks, on the workers or on the order of the tasks, because each chunk is filled as a
shard of the whole array (see ``global_shape`` and ``index`` of :func:`fastkaiming.fill_`). Each chunk is filled by one
thread, the one that runs its task. This module needs Dask: ``pip install '.[dask]'`` in a checkout.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter, Signature, signature
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _validation
from fastkaiming._errors import call_error, named
from fastkaiming.initializers import _basic, _kaiming, _variance_scaling

try:
    import dask.array as da
    from dask.array.core import normalize_chunks
    from dask.base import tokenize
    from dask.layers import ArraySliceDep
except ModuleNotFoundError as error:
    raise _validation.missing_dependency_error("dask", "dask", error) from error

from fastkaiming._fill.fill import empty
from fastkaiming.rng import Key, Rng, key_from

__all__ = [
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "trunc_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
]


class Lazy(Protocol):
    """The type of the lazy variant of an initializer; ``args`` and ``kwargs`` are the initializer's own arguments."""

    def __call__(
        self,
        shape: int | Sequence[int],
        dtype: DTypeLike = np.float32,
        *args: Any,
        chunks: Any = "auto",
        rng: Rng = 0,
        **kwargs: Any,
    ) -> da.Array:
        """Return a lazy array."""


def _lazy(in_place: Callable[..., Any]) -> Lazy:
    """Return the lazy variant of an in-place initializer, with its signature and documentation."""
    name = in_place.__name__.removesuffix("_")
    lazy_signature = _signature(in_place)

    def lazy(*args: Any, **kwargs: Any) -> da.Array:
        misfit = call_error(name, lazy_signature, args, kwargs)
        if misfit is not None:
            raise misfit
        bound = lazy_signature.bind(*args, **kwargs)
        bound.apply_defaults()
        shape, dtype, chunks, rng = (bound.arguments.pop(each) for each in ("shape", "dtype", "chunks", "rng"))
        with named(name):
            return _array(in_place, bound.arguments, shape, dtype, chunks, rng)

    own = [each for each in lazy_signature.parameters if each not in {"shape", "dtype", "chunks", "rng"}]
    lazy.__name__ = lazy.__qualname__ = name
    lazy.__signature__ = lazy_signature  # type: ignore[attr-defined]
    lazy.__doc__ = f"""Return a lazy array whose chunks :func:`fastkaiming.{name}_` fills when they are computed.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array.
    dtype : data type, default numpy.float32
        A data type that :func:`fastkaiming.fill_` supports.
    {", ".join(own)}
        See :func:`fastkaiming.{name}_`. A fan, if there is one, is computed from ``shape``, not from a chunk.
    chunks : int, tuple, dict or str, default "auto"
        The chunks, in any form that :func:`dask.array.ones` accepts. The values do not depend on them.
    rng : int, Key, Generator, numpy.random.Generator or None, default 0
        The source of the values; see :func:`fastkaiming.fill_`. A key is taken from it once, when the array is created.
        If it is None, the seed comes from the operating system.

    Returns
    -------
    dask.array.Array
        The lazy array. Its name is derived from the arguments: equal arguments give equal names in every process.

    Raises
    ------
    TypeError, ValueError
        If :func:`fastkaiming.{name}_` or :func:`dask.array.ones` raises this error for an argument. The error is raised
        when the array is created, not when it is computed.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> import fastkaiming.dask
    >>> lazy = fk.dask.{name}((300, 40), chunks=(100, 40), rng=42)
    >>> bool((lazy.compute() == fk.{name}((300, 40), rng=42)).all())
    True
    """
    return lazy


def _signature(in_place: Callable[..., Any]) -> Signature:
    """Return the signature of a lazy variant: that of the initializer, without arguments that differ between chunks."""
    _, *same = (
        each
        for each in signature(in_place).parameters.values()
        if each.name not in {"rng", "global_shape", "index", "threads"}
    )
    keyword_only = [each for each in same if each.kind is Parameter.KEYWORD_ONLY]
    return Signature(
        [
            Parameter("shape", Parameter.POSITIONAL_OR_KEYWORD, annotation=int | Sequence[int]),
            Parameter("dtype", Parameter.POSITIONAL_OR_KEYWORD, default=np.float32, annotation=DTypeLike),
            *(each for each in same if each not in keyword_only),
            Parameter("chunks", Parameter.KEYWORD_ONLY, default="auto", annotation=Any),
            Parameter("rng", Parameter.KEYWORD_ONLY, default=0, annotation=Rng),
            *keyword_only,
        ],
        return_annotation=da.Array,
    )


def _array(
    in_place: Callable[..., Any],
    arguments: Mapping[str, Any],
    shape: int | Sequence[int],
    dtype: DTypeLike,
    chunks: Any,
    rng: Rng,
) -> da.Array:
    """Check all arguments and return the lazy array, so that errors are raised here and not in a task."""
    name = in_place.__name__.removesuffix("_")
    shape = _validation.shape("shape", shape, name)
    meta = empty([0] * len(shape), dtype, name)
    dtype = meta.dtype
    fill = partial(_fill_chunk, in_place=in_place, arguments=arguments, shape=shape, dtype=dtype)
    fill([slice(0, 0)] * len(shape), key=Key(0))  # an empty chunk, for which the initializer checks its arguments
    chunk_sizes = _chunk_sizes(chunks, shape, dtype)
    key = key_from(rng)  # last, so that a call that raises an error takes nothing from a Generator
    # A list of items, because some releases of Dask order a dict by the hashes of its keys, which differ by process.
    items = [(name, _canonical_number(value)) for name, value in arguments.items()]
    token = tokenize(in_place, items, shape, dtype, chunk_sizes, key)
    axes = tuple(range(len(shape)))
    return da.blockwise(
        partial(fill, key=key),
        axes,
        ArraySliceDep(chunk_sizes),
        axes,
        name=f"{name}-{token}",
        dtype=dtype,
        meta=meta,
        align_arrays=False,
    )


def _canonical_number(value: Any) -> Any:
    """Return the same float for equal numbers of any type, and 0.0 for -0.0, because they give the same values."""
    return float(value) + 0.0 if isinstance(value, Real) else value


def _chunk_sizes(chunks: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of the chunks along each axis."""
    chunk_sizes = tuple(
        tuple(_validation.integer(f"chunks[{axis}]", size, 0, shape[axis]) for size in sizes)
        for axis, sizes in enumerate(normalize_chunks(chunks, shape, dtype=dtype))
    )
    if tuple(map(sum, chunk_sizes)) != shape:  # Dask truncates fractional sizes after it has checked their sum
        raise ValueError(f"chunks must add up to shape {shape}, got {_validation.describe(chunks)}")
    return chunk_sizes


def _fill_chunk(
    index: Sequence[slice],
    *,
    in_place: Callable[..., Any],
    arguments: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    key: Key,
) -> NDArray[Any]:
    """Return the chunk at an index of the whole array, filled by this thread only; other threads fill other chunks."""
    chunk = np.empty([each.stop - each.start for each in index], dtype)
    in_place(chunk, **arguments, rng=key, global_shape=shape, index=index, threads=1)
    return chunk


uniform = _lazy(_basic.uniform_)
normal = _lazy(_basic.normal_)
trunc_normal = _lazy(_basic.trunc_normal_)
kaiming_normal = _lazy(_kaiming.kaiming_normal_)
kaiming_uniform = _lazy(_kaiming.kaiming_uniform_)
he_normal = _lazy(_variance_scaling.he_normal_)
he_uniform = _lazy(_variance_scaling.he_uniform_)
xavier_normal = _lazy(_variance_scaling.xavier_normal_)
xavier_uniform = _lazy(_variance_scaling.xavier_uniform_)
lecun_normal = _lazy(_variance_scaling.lecun_normal_)
lecun_uniform = _lazy(_variance_scaling.lecun_uniform_)
variance_scaling = _lazy(_variance_scaling.variance_scaling_)
