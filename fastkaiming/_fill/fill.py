"""The Python side of every fill: all arguments are checked before the first byte is written.

The checks produce a plan for the core: the memory, a key, and the parameters of a kernel. The core caches these
parameters by distribution factory, its arguments and dtype, and calls the functions of this module only for the first
of several equal fills and for unusual arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming import _core, _errors, _validation
from fastkaiming._fill import buffers, dtypes, shards
from fastkaiming._fill.buffers import Target
from fastkaiming._fill.context import defer_to, fill_context
from fastkaiming._fill.kernel_params import kernel_params
from fastkaiming._system.threads import MIN_PARALLEL_BYTES, threads_for_fill
from fastkaiming.distributions import Distribution, Normal, TruncatedNormal, Uniform
from fastkaiming.rng import Key, Rng, key_from

DistributionFactory: TypeAlias = Callable[..., Distribution | None]

_EMPTY_DISTRIBUTION = Normal(0.0, 0.0)  # used for an array without elements whose fan is 0
_PARAMETERS_OF: Mapping[type, Callable[[Any], tuple[float, ...]]] = {
    Normal: attrgetter("mean", "std"),
    Uniform: attrgetter("low", "high"),
    TruncatedNormal: attrgetter("loc", "scale", "low", "high"),
}


def fill_(
    out: Target,
    distribution: Distribution,
    *,
    rng: Rng = None,
    global_shape: Sequence[int] | None = None,
    index: Sequence[slice] | None = None,
    threads: int | None = None,
) -> Target:
    """Fill an array in place with independent samples from a distribution.

    Every value depends on the key given by ``rng``, on the row-major index of the element, on the distribution and on
    the dtype. It does not depend on the number of threads, the instruction set or the machine.

    Other Python threads can run during a fill. The memory of ``out`` stays in place because ``out.resize`` checks for
    references and raises ValueError. Until the fill returns, do not resize ``out`` with ``refcheck=False``, and do not
    free its memory by other means.

    If ``out`` is a memory-mapped file that was truncated or whose disk is full, the fill raises OSError on Linux 5.14
    and later, and leaves ``out`` partly written. Memory is checked in units of up to 2 MiB, each just before it is
    filled. In the following cases, the error is not detected, and the operating system terminates the process with
    SIGBUS. On other systems, this happens in all cases:

    - ``out`` takes less than 1 MiB, or its elements take less than half of the memory that they are spread over;
    - the file is truncated while a unit is being filled;
    - the disk is full, and the page has been read before.

    If ``out`` takes 4 MiB or more of memory that was not touched before, the fill requests huge pages from Linux
    (MADV_HUGEPAGE), even if MADV_NOHUGEPAGE was set before. To avoid huge pages, disable them for the process by
    ``prctl(PR_SET_THP_DISABLE)``.

    Parameters
    ----------
    out : numpy.ndarray or buffer or DLPack object
        A NumPy array, or another object with writable memory: one that supports the buffer protocol (memoryview,
        array.array), or one that exports CPU memory by DLPack (a torch tensor). Its dtype is float32, float64, float16,
        bfloat16, float8_e4m3fn or float8_e5m2; ml_dtypes defines the last three. The values of the dtypes narrower than
        float32 are float32 values, rounded to nearest within the bounds of the distribution. The values of the two
        float8 dtypes are provisional and may change before fastkaiming 1.0. Strides, alignment and byte order are
        arbitrary, because a value depends on the index of the element in ``out`` and not on its address. An array
        without elements is left unchanged.
    distribution : Normal, Uniform or TruncatedNormal
        The distribution of the values. Its parameters are first rounded to the precision of ``out``, or to float32 for
        the narrower dtypes. No value lies outside of the rounded bounds. Values can equal a bound of TruncatedNormal
        and the lower bound of Uniform. They cannot equal the upper bound of Uniform, nor its lower bound if the bounds
        are symmetric (-b, b).
    rng : int, Key, Generator or numpy.random.Generator, optional
        The source of randomness. An integer is a seed; a Key is a seed and a stream; either gives the same values at
        every call. Use each key for one array only: arrays that are filled from the same key are correlated, even if
        their distributions differ. A call with a Generator takes its next stream, and a call with a
        numpy.random.Generator takes a 64-bit seed from it, even if ``out`` has no elements. A call that raises
        TypeError or ValueError does not advance the generator. By default the seed comes from the operating system's
        entropy.
    global_shape : sequence of int, optional
        The shape of the global tensor, if ``out`` is a shard of one.
    index : sequence of slice, optional
        The position of the shard: ``out`` gets the values of ``global_tensor[index]``. There is one slice for each
        axis, with any step. See :func:`shard_slices`.
    threads : int, optional
        The maximum number of threads, from 1 to 1024; small arrays use fewer. By default, one thread is used for every
        2 MiB of output, up to :func:`get_num_threads`.

    Returns
    -------
    object
        ``out`` itself.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype of ``out`` is not supported.
    ValueError
        If an argument is out of range; if ``out`` is read-only, overlaps itself or does not have the shape that
        ``index`` selects; or if the values of the distribution would overflow or underflow the dtype.
    OSError
        If the memory of ``out`` cannot be written, because it is a mapped file that was truncated or whose disk is
        full.

    Examples
    --------
    >>> import numpy as np
    >>> import fastkaiming as fk
    >>> weights = np.empty((256, 128), np.float32)
    >>> fk.fill_(weights, fk.Uniform(-0.5, 0.5), rng=42) is weights
    True
    """
    distribution_factory, factory_args = _factory_and_args(distribution)
    return fill(out, distribution_factory, factory_args, rng, global_shape, index, threads, "fill_")


def fill_part(out: NDArray[Any], distribution: Distribution, key: Key, offset: shards.ShardOffset) -> None:
    """Fill an array that contains the elements of a larger one at this offset."""
    distribution_factory, factory_args = _factory_and_args(distribution)
    fill(out, distribution_factory, factory_args, key, None, offset, None)


def distribution_of(initializer: Callable[..., object], empty_part: NDArray[Any], **shard: Any) -> Distribution:
    """Return the distribution of an initializer, by a deferred fill of a part of the tensor that has no elements."""
    plans: list[_core.Plan] = []
    with defer_to(plans):
        initializer(empty_part, **shard)
    distribution: Distribution = plans[-1].template.distribution
    return distribution


def empty(shape: int | Sequence[int], dtype: DTypeLike, function: str) -> NDArray[Any]:
    """Return a new array of a supported dtype, with uninitialized values, for a function that returns a new array."""
    sizes = _validation.shape("shape", shape, function)
    checked = dtypes.check_dtype("dtype", dtype, function)
    try:
        return np.empty(sizes, checked)
    except ValueError:
        raise ValueError(f"shape must be within NumPy's limits for an array of {checked}, got {sizes}") from None


def _factory_and_args(distribution: Distribution) -> tuple[DistributionFactory, tuple[Any, ...]]:
    """Return the class of a distribution and its parameters, by which the core caches the template of a fill."""
    parameters_of = _PARAMETERS_OF.get(type(distribution))
    if parameters_of is None:
        return _identity, (distribution,)  # kernel_params() raises TypeError for it, after the other checks
    return type(distribution), parameters_of(distribution)


def _identity(distribution: Distribution) -> Distribution:
    return distribution


def _prepare(
    out: Target,
    distribution_factory: DistributionFactory,
    factory_args: tuple[Any, ...],
    by_shape: bool,
    global_shape: Any,
    function: str | None,
) -> tuple[NDArray[Any], _core.Template]:
    """Check the factory's arguments and the memory of a fill; return the memory and a template for the core.

    A factory that depends on the shape returns None if a fan is 0.
    """
    if by_shape:
        shape = buffers.array(out, function).shape if global_shape is None else _check_global_shape(global_shape)
        factory_args = (shape, *factory_args)
    distribution: Any = distribution_factory(*factory_args)
    if distribution is None and by_shape:
        distribution = _EMPTY_DISTRIBUTION
    memory = buffers.array(out, function)
    stored_format = buffers.format_of(memory)
    buffers.check_memory(memory)
    return memory, template(distribution, memory.dtype, stored_format)


def template(distribution: Distribution, dtype: np.dtype[Any], stored_format: dtypes.Format) -> _core.Template:
    """Return the core's template of a distribution for elements of a dtype."""
    return _core.Template(distribution, *kernel_params(distribution, stored_format), not dtype.isnative)


def _check_global_shape(global_shape: Any) -> tuple[int, ...]:
    return _validation.shape("global_shape", global_shape)


def make_entry_point(
    prepare: Callable[..., tuple[Any, _core.Template | None]], key_from: Callable[[Any], Key | int], **tensors: Any
) -> _core.EntryPoint:
    """Return an entry point to the core; ``_core.EntryPoint`` documents what the two functions must return."""
    return _core.EntryPoint(
        prepare=prepare,
        check_memory=buffers.check_memory,
        shape_of=_check_global_shape,
        shard_offset=shards.shard_offset,
        threads_for=threads_for_fill,
        min_parallel_bytes=MIN_PARALLEL_BYTES,
        key_from=key_from,
        key_type=Key,
        context=fill_context,
        add_name=_errors.add_name,
        **tensors,
    )


_entry_point = make_entry_point(_prepare, key_from)
# Both take (out, distribution_factory, factory_args, rng, global_shape, index, threads, function). The distribution is
# distribution_factory(*factory_args) in fill, and distribution_factory(global shape, *factory_args) in fill_by_shape.
# Error messages begin with the name of the public function, which is the last argument.
fill = _entry_point.fill
fill_by_shape = _entry_point.fill_by_shape
