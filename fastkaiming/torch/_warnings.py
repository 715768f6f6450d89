"""torch's warnings about initializers, reported at the line that called the initializer."""

import re
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from types import FrameType
from typing import Any

from torch.compiler import is_compiling

Function = Callable[..., Any]

_NO_ELEMENTS = "Initializing zero-element tensors is a no-op"
DISTANT_MEAN = (
    "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be incorrect."
)


def warn_at_caller(text: str) -> None:
    """Warn at the line of the code that called the initializer, whichever functions are in between.

    These are functions of fastkaiming and of :mod:`torch.nn.init`, and the functions through which torch calls them if
    a mode is active or a subclass overrides them.
    """
    frame: FrameType | None = sys._getframe()
    level = 1
    while frame is not None and _is_between(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)


def _is_between(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return (
        module.partition(".")[0] == "fastkaiming"
        or module in ("torch.nn.init", "torch.overrides")
        or frame.f_code.co_name == "__torch_function__"
    )


def has_distant_mean(mean: Any = 0.0, std: Any = 1.0, a: Any = -2.0, b: Any = 2.0) -> bool:
    """Return True if the mean is so far from [a, b] that torch warns."""
    try:
        return bool(mean < a - 2 * std or mean > b + 2 * std)
    except (TypeError, ValueError):  # not numbers: torch's own function raises the error
        return False


def _warns_about_elements(tensor: Any, *_: Any, **__: Any) -> bool:
    return 0 in getattr(tensor, "shape", ())


def _warns_about_mean(tensor: Any, *args: Any, generator: Any = None, **kwargs: Any) -> bool:  # noqa: ARG001
    try:
        return has_distant_mean(*args[:4], **kwargs) and not tensor.is_meta
    except (AttributeError, TypeError):  # torch's own function raises the error
        return False


# The warning of each function, and whether a call will issue it.
_WARNINGS: Mapping[str, tuple[str, Callable[..., bool]]] = {
    "kaiming_normal_": (_NO_ELEMENTS, _warns_about_elements),
    "kaiming_uniform_": (_NO_ELEMENTS, _warns_about_elements),
    "trunc_normal_": (DISTANT_MEAN, _warns_about_mean),
    "_no_grad_trunc_normal_": (DISTANT_MEAN, _warns_about_mean),
}


def with_warning_at_caller(function: Function) -> Function:
    """Return a function of :mod:`torch.nn.init` whose warning is reported at the line that called it.

    torch reports the warning at the line that calls its own function, which may be a line of fastkaiming. Therefore,
    the warning is issued before the call, and not again during the call.
    """
    if function.__name__ not in _WARNINGS:
        return function
    text, will_warn = _WARNINGS[function.__name__]

    @wraps(function)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if is_compiling() or not will_warn(tensor, *args, **kwargs):
            return function(tensor, *args, **kwargs)
        warn_at_caller(text)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", re.escape(text), UserWarning)
            return function(tensor, *args, **kwargs)

    return call
