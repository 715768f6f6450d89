"""The arithmetic of docs/stream-v1.md, section 1, for the other modules of the reference implementation."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]  # of 32 or 64 bits
Reals: TypeAlias = NDArray[Any]  # of one working precision, float32 or float64
Precision: TypeAlias = type[np.float32] | type[np.float64]


def fma(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Reals:
    """Return x y + z, rounded once to the common precision of the arguments."""
    precision = np.result_type(x, y, z)
    return _fma_single(x, y, z) if precision == np.float32 else _fma_double(x, y, z)


def _fma_single(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Reals:
    """Multiply exactly in binary64 and add with rounding to odd, so that the result is rounded only once, to binary32.

    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
    Trans. Comput. 57 (2008).
    """
    product, addend = np.multiply(x, y, dtype=np.float64), np.asarray(z, np.float64)
    total = product + addend
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)  # exact, by Knuth's two-sum
    cut = (error != 0) & (total.view(np.uint64) & np.uint64(1) == 0)
    odd = np.where(cut, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32)


def _fma_double(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Reals:
    return np.asarray(np.frompyfunc(_fma_exact, 3, 1)(x, y, z), np.float64)


def _fma_exact(x: float, y: float, z: float) -> float:
    """Compute with integers, whose quotient Python rounds correctly."""
    (p, q), (r, s), (t, u) = x.as_integer_ratio(), y.as_integer_ratio(), z.as_integer_ratio()
    numerator = p * r * u + t * q * s
    return numerator / (q * s * u) if numerator else x * y + z  # the sum has the correct sign of zero


def hexadecimal(precision: Precision, numbers: str) -> Reals:
    """Return the numbers in a precision; raise ValueError if one of them would be rounded."""
    exact = [float.fromhex(number) for number in numbers.split()]
    constants = np.array(exact, precision)
    if constants.tolist() != exact:
        raise ValueError(f"a constant is not representable in {precision.__name__}: {numbers}")
    return constants
