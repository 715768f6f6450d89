"""Fans of a shape: the numbers of connections into one output of a layer (fan_in) and out of one input (fan_out).

A layout names the axes of a weight tensor, one letter each: ``O`` for the outputs (features or channels), ``I`` for the
inputs, ``B`` for a batch of independent tensors such as experts, and ``*`` for the receptive field, which consists of
all remaining axes, if any. The size of a batch axis does not affect the fans. PyTorch stores weights as
``"OI*"``, JAX and Keras as ``"*IO"``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fastkaiming import _validation
from fastkaiming._errors import named

MODES: Mapping[str, Callable[[Callable[[str], float]], float]] = {
    "fan_in": lambda fan: fan("I"),
    "fan_out": lambda fan: fan("O"),
    "fan_avg": lambda fan: (fan("I") + fan("O")) / 2,
    "fan_geo_avg": lambda fan: math.sqrt(fan("I") * fan("O")),
}


# For messages about weights whose axes are not known.
LAYOUT_CHOICES = (
    "layout='BOI' for a batch of matrices, such as experts, with the outputs before the inputs, layout='BIO' with the "
    "inputs before the outputs, or layout='OI*' for a convolution of torch"
)


class Fans(NamedTuple):
    """The fans of a layer.

    Attributes
    ----------
    fan_in : int
        The number of connections into one output.
    fan_out : int
        The number of connections out of one input.
    """

    fan_in: int
    fan_out: int


def fans(shape: int | Sequence[int], layout: str | None = None, groups: int = 1, transposed: bool = False) -> Fans:
    """Return the fans of a layer, computed from the shape of its weights.

    ``fan_in`` is the size of the input axis times the size of the receptive field, and ``fan_out`` is the size of the
    output axis times the size of the receptive field. A grouped layer has connections only within a group, but its
    weights contain all groups along the output axis, or along the input axis if transposed. The fan of that axis is
    therefore divided by ``groups``.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the weights, with at least two axes.
    layout : str, optional
        The meaning of each axis: one ``O`` (outputs), one ``I`` (inputs), any number of ``B`` (batches, which do
        not affect the fans) and at most one ``*`` (the receptive field: all other axes, or none). The default is
        PyTorch's layout, ``"OI*"``, or ``"IO*"`` if transposed.
    groups : int, default 1
        The number of groups of a grouped convolution.
    transposed : bool, default False
        Whether the layer is a transposed convolution.

    Returns
    -------
    Fans
        The named tuple ``(fan_in, fan_out)``.

    Raises
    ------
    TypeError
        If an argument is of the wrong type.
    ValueError
        If the shape has fewer than two axes, the layout does not fit the shape, or ``groups`` does not divide the size
        of its axis.

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.fans((64, 3, 7, 7))
    Fans(fan_in=147, fan_out=3136)
    >>> fk.fans((7, 7, 3, 64), layout="*IO")
    Fans(fan_in=147, fan_out=3136)
    >>> fk.fans((32, 1, 3, 3), groups=32)  # depthwise
    Fans(fan_in=9, fan_out=9)
    """
    with named("fans"):
        fan = _fan_function(_validation.shape("shape", shape), *_check_layout(layout, groups, transposed))
        return Fans(fan("I"), fan("O"))


def select_fan(
    shape: tuple[int, ...], mode: str, fan: float | None, layout: str | None, groups: int, transposed: bool
) -> float:
    """Return ``fan`` if it is given, or else the fan that ``mode`` selects; all arguments are checked in both cases."""
    selected = MODES[_validation.choice("mode", mode, MODES)]
    layout_and_groups = _check_layout(layout, groups, transposed)
    if fan is not None:
        return _validation.positive("fan", fan)
    hint = ": pass fan=, or use zeros_ or normal_"
    return selected(_fan_function(shape, *layout_and_groups, hint))


def torch_layout(transposed: bool) -> str:
    """Return the layout of torch's weights, which is the default."""
    return "IO*" if transposed else "OI*"


def _check_layout(layout: str | None, groups: int, transposed: bool) -> tuple[str, str, int]:
    """Return the layout, the letter of the axis that contains all groups, and the number of groups, all checked."""
    grouped_axis = "I" if _validation.flag("transposed", transposed) else "O"
    if layout is None:
        layout = torch_layout(transposed)
    letters = _validation.text("layout", layout).replace("B", "")
    if "".join(sorted(letters)) not in ("IO", "*IO"):
        raise ValueError(
            "layout must have one 'O' (outputs), one 'I' (inputs), any number of 'B' (batches) and at most one '*' "
            f"(all other axes), got {layout!r}"
        )
    return layout, grouped_axis, _validation.integer("groups", groups, 1, _validation.MAX_ELEMENTS)


def _fan_function(
    shape: tuple[int, ...], layout: str, grouped_axis: str, groups: int, hint: str = ""
) -> Callable[[str], int]:
    """Return a function that computes the fan of the axis "I" or "O". ``groups`` divides the fan of one of them.

    ``hint`` is the end of the message of the error for a shape without fans.
    """
    if len(shape) < 2:
        raise ValueError(f"fans need a shape of at least two axes, got {shape}{hint}")
    before, star, after = layout.partition("*")
    letters = before + star * (len(shape) - len(before) - len(after)) + after
    if len(letters) != len(shape):
        hint = "" if star or len(letters) > len(shape) else f"; use {LAYOUT_CHOICES}"
        raise ValueError(f"layout {layout!r} must name every axis of the shape, got {shape}{hint}")

    sizes = dict.fromkeys("IO*B", 1)
    for letter, size in zip(letters, shape, strict=True):
        sizes[letter] *= size
    if sizes[grouped_axis] % groups:
        channels = f"{sizes[grouped_axis]} channels of axis {grouped_axis!r}"
        raise ValueError(f"groups must divide the {channels}, got {groups}")
    sizes[grouped_axis] //= groups
    return lambda letter: sizes[letter] * sizes["*"]
