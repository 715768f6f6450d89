"""Parts of a tensor as docs/stream-v1.md defines them, in runs along the last axis."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import reference
import reference_formats
from numpy.typing import NDArray
from reference_arithmetic import Precision
from reference_formats import Format
from reference_truncated import truncation

import fastkaiming as fk
from fastkaiming.distributions import Distribution

SHORT_RUN = 10_000  # elements, computed at once if some of them are needed


def bits(values: NDArray[Any]) -> NDArray[Any]:
    return values.view(f"u{values.itemsize}")


def part(
    dtype: Any, distribution: Distribution, key: fk.Key, shape: tuple[int, ...], index: tuple[slice, ...]
) -> NDArray[Any]:
    """Return the bits of global[index]."""
    *rows, columns = (range(*chosen.indices(size)) for chosen, size in zip(index, shape, strict=True))
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    is_dense = abs(columns[-1] - columns[0]) < max(SHORT_RUN, 8 * len(columns))
    runs = [columns] if is_dense else [range(column, column + 1) for column in columns]
    values = []
    for row, run in itertools.product(itertools.product(*rows), runs):
        low, high = min(run[0], run[-1]), max(run[0], run[-1])
        first = low + sum(at * stride for at, stride in zip(row, strides[:-1], strict=True))
        place = reference.Place(reference.philox_key(key.seed), key.stream, first, high - low + 1)
        drawn = values_at(dtype, distribution, place)
        values.append(drawn[[column - low for column in run]])
    return np.concatenate(values).reshape([*map(len, rows), len(columns)])


def values_at(dtype: Any, distribution: Distribution, place: reference.Place) -> NDArray[Any]:
    """Return the bits of consecutive elements."""
    narrow = reference_formats.FORMATS.get(dtype.name)
    precision: Precision = np.float32 if narrow else dtype.type
    values = _drawn(distribution, precision, narrow, place)
    return reference_formats.rounded(values, narrow) if narrow else bits(values)


def _drawn(distribution: Any, precision: Precision, narrow: Format | None, place: reference.Place) -> NDArray[Any]:
    match distribution:
        case fk.Normal(mean, std):
            return reference.normal(place, reference.normal_parameters(mean, std, precision))
        case fk.Uniform(low, high) if narrow:
            return reference.uniform(place, reference_formats.narrow_uniform_parameters(low, high, narrow))
        case fk.Uniform(low, high):
            return reference.uniform(place, reference.uniform_parameters(low, high, precision))
    name, numbers = truncation(distribution.loc, distribution.scale, distribution.low, distribution.high, precision)
    if narrow:
        low, high = reference_formats.inward(numbers.low, numbers.high, narrow)
        numbers = replace(numbers, low=low, high=high)
    return reference.Fill(name, place, numbers).values()
