"""Fast initializers for JAX, with the names and signatures of :mod:`jax.nn.initializers`, and sharded arrays.

>>> import jax
>>> from fastkaiming.jax import he_normal, make
>>> kernel = he_normal()(jax.random.key(42), (256, 128))  # a jax.Array, eagerly or under jit
>>> kernel.shape, kernel.dtype
((256, 128), dtype('float32'))
>>> bool((make(he_normal(), 42, (256, 128)) == kernel).all())
True

The distributions are those of JAX. The values are those of fastkaiming, and depend only on the key, the index and the
dtype. A key of two words (threefry, JAX's default) is the seed ``words[0] * 2**32 + words[1]``, so
``jax.random.key(42)`` gives the same values as ``rng=42``. In a key of four words (rbg), the first two words are the
seed and the last two are the stream. You can also pass keys from ``jax.random.split``.

``constant``, ``zeros``, ``ones``, ``orthogonal`` and ``delta_orthogonal`` are JAX's own functions.
"""

from fastkaiming import _validation

try:
    from jax.nn.initializers import constant, delta_orthogonal, ones, orthogonal, zeros
except ModuleNotFoundError as error:
    raise _validation.missing_dependency_error("jax", "jax", error) from error

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
