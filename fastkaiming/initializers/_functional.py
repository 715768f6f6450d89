"""The functional twins of the initializers: the same names without an underscore, for new arrays."""

from collections.abc import Callable, Sequence
from inspect import Signature, signature
from typing import Any, Concatenate, ParamSpec, Protocol, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming._fill.fill import empty
from fastkaiming.initializers import _basic, _kaiming, _variance_scaling

P = ParamSpec("P")


class Twin(Protocol[P]):
    """The type of an in-place initializer's functional twin: the same arguments after another beginning."""

    def __call__(
        self, shape: int | Sequence[int], dtype: DTypeLike = np.float32, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]:
        """Return a new array."""


def _twin(in_place: Callable[Concatenate[Any, P], Any]) -> Twin[P]:
    """Make the functional twin of an in-place initializer, signature and documentation included."""

    def twin(
        shape: int | Sequence[int], dtype: DTypeLike = np.float32, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]:
        return cast("NDArray[Any]", in_place(empty(shape, dtype), *args, **kwargs))

    name = in_place.__name__.removesuffix("_")
    beginning = list(signature(twin).parameters.values())[:2]
    the_same = list(signature(in_place).parameters.values())[1:]
    twin.__name__ = twin.__qualname__ = name
    twin.__signature__ = Signature([*beginning, *the_same], return_annotation=NDArray[Any])  # type: ignore[attr-defined]
    twin.__doc__ = f"""Return a new array, filled by :func:`{name}_`.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array.
    dtype : data type, default numpy.float32
        One that :func:`fill_` takes.
    {", ".join(parameter.name for parameter in the_same)}
        As in :func:`{name}_`.

    Returns
    -------
    numpy.ndarray
        The array.

    Raises
    ------
    TypeError, ValueError
        As :func:`{name}_` does.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.{name}((3, 4), rng=42).shape
    (3, 4)
    """
    return twin


uniform = _twin(_basic.uniform_)
normal = _twin(_basic.normal_)
trunc_normal = _twin(_basic.trunc_normal_)
kaiming_normal = _twin(_kaiming.kaiming_normal_)
kaiming_uniform = _twin(_kaiming.kaiming_uniform_)
he_normal = _twin(_variance_scaling.he_normal_)
he_uniform = _twin(_variance_scaling.he_uniform_)
xavier_normal = _twin(_variance_scaling.xavier_normal_)
xavier_uniform = _twin(_variance_scaling.xavier_uniform_)
lecun_normal = _twin(_variance_scaling.lecun_normal_)
lecun_uniform = _twin(_variance_scaling.lecun_uniform_)
variance_scaling = _twin(_variance_scaling.variance_scaling_)
