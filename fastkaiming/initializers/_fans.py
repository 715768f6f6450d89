"""How many connections reach an output of a layer (fan_in) and leave an input (fan_out), counted from a shape."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fastkaiming import _validation

MODES: Mapping[str, Callable[[Callable[[str], float]], float]] = {
    "fan_in": lambda fan: fan("I"),
    "fan_out": lambda fan: fan("O"),
    "fan_avg": lambda fan: (fan("I") + fan("O")) / 2,
    "fan_geo_avg": lambda fan: math.sqrt(fan("I") * fan("O")),
}


class Fans(NamedTuple):
    """How many connections reach one output of a layer, and how many leave one input.

    Attributes
    ----------
    fan_in, fan_out : int
        The number of either.
    """

    fan_in: int
    fan_out: int


def fans(shape: int | Sequence[int], layout: str | None = None, groups: int = 1, transposed: bool = False) -> Fans:
    """Count the connections of a layer from the shape of its weights.

    ``fan_in`` is the size of the input axis times that of the receptive field, ``fan_out`` that of the output axis
    times the same. A grouped layer keeps all its groups along one axis, the outputs (the inputs where transposed), but
    connects only within a group: the fan of that axis is divided by ``groups``.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the weights; at least two axes.
    layout : str, optional
        What each axis is: one ``O`` (outputs), one ``I`` (inputs), any ``B`` (batches, in no fan) and at most one ``*``
        (the receptive field: all other axes, or none). As in PyTorch by default: ``"OI*"``, or ``"IO*"`` if transposed.
    groups : int, default 1
        The number of groups of a grouped convolution.
    transposed : bool, default False
        Whether the weights are those of a transposed convolution.

    Returns
    -------
    Fans
        The named tuple ``(fan_in, fan_out)``.

    Raises
    ------
    TypeError
        An argument of the wrong kind.
    ValueError
        Fewer than two axes, a layout that does not describe the shape, or groups that do not divide their axis.

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
    fan = _counter(_validation.shape("shape", shape), *_reading(layout, groups, transposed))
    return Fans(fan("I"), fan("O"))


def select_fan(
    shape: tuple[int, ...], mode: str, fan: float | None, layout: str | None, groups: int, transposed: bool
) -> float:
    """Return the fan that ``mode`` asks for, or ``fan`` itself where one is given; the rest is checked all the same."""
    selected = MODES[_validation.choice("mode", mode, MODES)]
    reading = _reading(layout, groups, transposed)
    return selected(_counter(shape, *reading)) if fan is None else _validation.positive("fan", fan)


def _reading(layout: str | None, groups: int, transposed: bool) -> tuple[str, str, int]:
    """Check how the axes are to be read: the layout, the letter of the axis that holds all groups, and their number."""
    grouped = "I" if _validation.flag("transposed", transposed) else "O"
    if layout is None:
        layout = "IO*" if transposed else "OI*"
    letters = _validation.text("layout", layout).replace("B", "")
    if "".join(sorted(letters)) not in ("IO", "*IO"):
        raise ValueError(
            "layout must have one 'O' (outputs), one 'I' (inputs), any number of 'B' (batches) and at most one '*' "
            f"(all other axes), got {layout!r}"
        )
    return layout, grouped, _validation.integer("groups", groups, 1, _validation.MAX_ELEMENTS)


def _counter(shape: tuple[int, ...], layout: str, grouped: str, groups: int) -> Callable[[str], int]:
    """Return the function that counts the fan of the axis "I" or "O"; groups matter to one of them alone."""
    if len(shape) < 2:
        raise ValueError(f"fans need a shape of at least two axes, got {shape}")
    before, star, after = layout.partition("*")
    letters = before + star * (len(shape) - len(before) - len(after)) + after
    if len(letters) != len(shape):
        raise ValueError(f"layout {layout!r} must name every axis of the shape, got {shape}")

    def size(letter: str) -> int:
        return math.prod(size for size, its_letter in zip(shape, letters, strict=True) if its_letter == letter)

    def fan(letter: str) -> int:
        channels = size(letter)
        if letter == grouped:
            if channels % groups:
                raise ValueError(f"groups must divide the {channels} channels of axis {letter!r}, got {groups}")
            channels //= groups
        return channels * size("*")

    return fan
