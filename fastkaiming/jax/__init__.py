"""For JAX: the initializers of :mod:`jax.nn.initializers` by name and signature, and arrays over many devices.

>>> import jax
>>> from fastkaiming.jax import he_normal, make
>>> kernel = he_normal()(jax.random.key(42), (256, 128))  # a jax.Array, eagerly or under jit
>>> kernel.shape, kernel.dtype
((256, 128), dtype('float32'))
>>> bool((make(he_normal(), 42, (256, 128)) == kernel).all())
True

The distributions are JAX's, the values fastkaiming's own: a function of the key, the index and the dtype. A key of two
words (threefry's, which is JAX's default) is the seed ``words[0] * 2**32 + words[1]``, so that ``jax.random.key(42)``
draws what ``rng=42`` does; of a key of four (rbg's), the latter two are the stream. Keys that were split are as good.

``constant``, ``zeros``, ``ones``, ``orthogonal`` and ``delta_orthogonal`` are JAX's own functions, with JAX's values.
"""

from fastkaiming import _validation

try:
    from jax.nn.initializers import constant, delta_orthogonal, ones, orthogonal, zeros
except ModuleNotFoundError as error:
    raise _validation.missing("jax", "jax", error) from error

from fastkaiming.jax._arrays import Initializer, make
from fastkaiming.jax._initializers import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    truncated_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "make",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
