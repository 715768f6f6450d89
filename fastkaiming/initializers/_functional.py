"""The functional variants of the initializers, which return new arrays: the same names without the underscore."""

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, signature
from typing import Any, Concatenate, ParamSpec, Protocol, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastkaiming._errors import add_name, call_error
from fastkaiming._fill.fill import empty
from fastkaiming.initializers import _basic, _kaiming, _variance_scaling

P = ParamSpec("P")

_NOT_GIVEN: Any = object()


class FunctionalVariant(Protocol[P]):
    """The type of a functional variant, which takes ``shape`` and ``dtype`` in place of ``out``."""

    def __call__(
        self, shape: int | Sequence[int], dtype: DTypeLike = np.float32, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]:
        """Return a new array."""


def _functional_variant(in_place: Callable[Concatenate[Any, P], Any]) -> FunctionalVariant[P]:
    """Return the functional variant of an in-place initializer, with its own signature and docstring."""
    name = in_place.__name__.removesuffix("_")

    def variant(
        shape: int | Sequence[int] = _NOT_GIVEN, dtype: DTypeLike = np.float32, *args: P.args, **kwargs: P.kwargs
    ) -> NDArray[Any]:
        try:
            return cast("NDArray[Any]", in_place(empty(shape, dtype, name), *args, **kwargs))
        except (TypeError, ValueError) as error:
            given = () if shape is _NOT_GIVEN else (shape, dtype, *args)
            misfit = call_error(name, own_signature, given, kwargs)
            if misfit is not None:
                raise misfit from None
            add_name(error, name)
            raise

    shape, dtype = list(signature(variant).parameters.values())[:2]
    shared_parameters = list(signature(in_place).parameters.values())[1:]
    own_parameters = [shape.replace(default=Parameter.empty), dtype, *shared_parameters]
    own_signature = Signature(own_parameters, return_annotation=NDArray[Any])
    variant.__name__ = variant.__qualname__ = name
    variant.__signature__ = own_signature  # type: ignore[attr-defined]
    variant.__doc__ = f"""Return a new array that is filled by :func:`{name}_`.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array.
    dtype : data type, default numpy.float32
        A dtype that :func:`fill_` supports.
    {", ".join(parameter.name for parameter in shared_parameters)}
        As in :func:`{name}_`.

    Returns
    -------
    numpy.ndarray
        The new array.

    Raises
    ------
    TypeError, ValueError
        If :func:`{name}_` raises it.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.{name}((3, 4), rng=42).shape
    (3, 4)
    """
    return variant


uniform = _functional_variant(_basic.uniform_)
normal = _functional_variant(_basic.normal_)
trunc_normal = _functional_variant(_basic.trunc_normal_)
kaiming_normal = _functional_variant(_kaiming.kaiming_normal_)
kaiming_uniform = _functional_variant(_kaiming.kaiming_uniform_)
he_normal = _functional_variant(_variance_scaling.he_normal_)
he_uniform = _functional_variant(_variance_scaling.he_uniform_)
xavier_normal = _functional_variant(_variance_scaling.xavier_normal_)
xavier_uniform = _functional_variant(_variance_scaling.xavier_uniform_)
lecun_normal = _functional_variant(_variance_scaling.lecun_normal_)
lecun_uniform = _functional_variant(_variance_scaling.lecun_uniform_)
variance_scaling = _functional_variant(_variance_scaling.variance_scaling_)
