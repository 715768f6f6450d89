"""The initializers as lazy Dask arrays: values that no cut into chunks, no worker and no order of tasks can change.

Every chunk is a part of the whole tensor (:func:`fastkaiming.fill_` with ``global_shape`` and ``index``), filled by the
worker thread that its task runs on. Needs Dask: ``pip install 'fastkaiming[dask]'``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter, Signature, signature
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _validation
from fastkaiming.initializers import _basic, _kaiming, _variance_scaling

try:
    import dask.array as da
    from dask.array.core import normalize_chunks
    from dask.base import tokenize
    from dask.layers import ArraySliceDep
except ModuleNotFoundError as error:
    raise _validation.missing("dask", "dask", error) from error

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
    """The type of an in-place initializer's lazy twin; ``args`` and ``kwargs`` are the initializer's own."""

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
    """Make the lazy twin of an in-place initializer, signature and documentation included."""
    name = in_place.__name__.removesuffix("_")
    form = _signature(in_place)

    def twin(*args: Any, **kwargs: Any) -> da.Array:
        try:
            given = form.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}; it takes {', '.join(form.parameters)}") from None
        given.apply_defaults()
        shape, dtype, chunks, rng = (given.arguments.pop(each) for each in ("shape", "dtype", "chunks", "rng"))
        return _array(in_place, given.arguments, shape, dtype, chunks, rng)

    own = [each for each in form.parameters if each not in {"shape", "dtype", "chunks", "rng"}]
    twin.__name__ = twin.__qualname__ = name
    twin.__signature__ = form  # type: ignore[attr-defined]
    twin.__doc__ = f"""Return a lazy array, whose chunks :func:`fastkaiming.{name}_` fills when they are computed.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array.
    dtype : data type, default numpy.float32
        One that :func:`fastkaiming.fill_` takes.
    {", ".join(own)}
        As in :func:`fastkaiming.{name}_`; what scales with a fan counts it in ``shape``, not in a chunk.
    chunks : int, tuple, dict or str, default "auto"
        The chunks, as :func:`dask.array.ones` takes them. No value depends on them.
    rng : int, Key, Generator or numpy.random.Generator, default 0
        Which values are drawn: see :func:`fastkaiming.fill_`. It is asked for its key once, when the array is made.
        None stands for fresh entropy.

    Returns
    -------
    dask.array.Array
        The array. Its name is made of the arguments: equal ones give equal names, in every process.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastkaiming.{name}_` and :func:`dask.array.ones` do, before any task is made.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> import fastkaiming.dask
    >>> lazy = fk.dask.{name}((300, 40), chunks=(100, 40), rng=42)
    >>> bool((lazy.compute() == fk.{name}((300, 40), rng=42)).all())
    True
    """
    return twin


def _signature(in_place: Callable[..., Any]) -> Signature:
    """Return the signature of a lazy twin: that of the initializer, less what each chunk has of its own."""
    _, *same = (
        each
        for each in signature(in_place).parameters.values()
        if each.name not in {"rng", "global_shape", "index", "threads"}
    )
    named = [each for each in same if each.kind is Parameter.KEYWORD_ONLY]
    return Signature(
        [
            Parameter("shape", Parameter.POSITIONAL_OR_KEYWORD, annotation=int | Sequence[int]),
            Parameter("dtype", Parameter.POSITIONAL_OR_KEYWORD, default=np.float32, annotation=DTypeLike),
            *(each for each in same if each not in named),
            Parameter("chunks", Parameter.KEYWORD_ONLY, default="auto", annotation=Any),
            Parameter("rng", Parameter.KEYWORD_ONLY, default=0, annotation=Rng),
            *named,
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
    """Return the lazy array; whatever is wrong with an argument is said here, not by a task."""
    shape = _validation.shape("shape", shape)
    nothing = empty([0] * len(shape), dtype)
    dtype = nothing.dtype
    fill = partial(_fill, in_place=in_place, arguments=arguments, shape=shape, dtype=dtype)
    fill([slice(0, 0)] * len(shape), key=Key(0))
    cuts = _chunk_sizes(chunks, shape, dtype)
    key = key_from(rng)  # last, for a Generator gives nothing to a call that is refused
    # The items, for some releases of Dask order a dict by the hashes of its keys, which no other process has.
    token = tokenize(
        in_place, [(each, _canonical_number(value)) for each, value in arguments.items()], shape, dtype, cuts, key
    )
    axes = tuple(range(len(shape)))
    return da.blockwise(
        partial(fill, key=key),
        axes,
        ArraySliceDep(cuts),
        axes,
        name=f"{in_place.__name__.removesuffix('_')}-{token}",
        dtype=dtype,
        meta=nothing,
        align_arrays=False,
    )


def _canonical_number(value: Any) -> Any:
    """Return one number for all that are equal, of whatever type, 0.0 for -0.0 as well: they fill alike."""
    return float(value) + 0.0 if isinstance(value, Real) else value


def _chunk_sizes(chunks: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of the chunks along each axis."""
    cuts = tuple(
        tuple(_validation.integer(f"chunks[{axis}]", size, 0, shape[axis]) for size in sizes)
        for axis, sizes in enumerate(normalize_chunks(chunks, shape, dtype=dtype))
    )
    if tuple(map(sum, cuts)) != shape:  # Dask cuts fractions off after it has added them up
        raise ValueError(f"chunks must add up to shape {shape}, got {_validation.shown(chunks)}")
    return cuts


def _fill(
    index: Sequence[slice],
    *,
    in_place: Callable[..., Any],
    arguments: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    key: Key,
) -> NDArray[Any]:
    """Return the chunk that stands at an index of the whole, filled by this thread alone: others fill other chunks."""
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
