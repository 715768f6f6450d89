"""Errors that name the public function that was called."""

from collections.abc import Mapping
from inspect import Signature
from types import TracebackType
from typing import Any

from fastkaiming import _hints

_PACKAGE = __name__.partition(".")[0]


class named:  # noqa: N801 - it is used like contextlib.suppress
    """A context manager that puts the name of a public function before the messages of errors in its block."""

    def __init__(self, function: str) -> None:
        self._function = function

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            add_name(error, self._function)


def add_name(error: BaseException, function: str) -> None:
    """Put the name of a public function before the message of an error, if fastkaiming itself raised the error.

    Errors of other code stay as they are, such as those of a callback or of a framework. The name of a functional
    variant replaces the name of the in-place function that it calls.
    """
    if type(error) in (TypeError, ValueError) and _is_from_this_package(error):
        error.args = (f"{function}: {without_name(error, f'{function}_')}",)


def without_name(error: BaseException, function: str) -> str:
    """Return the message of an error without the name of a function."""
    return str(error).removeprefix(f"{function}: ")


def call_error(
    function: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> TypeError | None:
    """Return the error of a call whose arguments do not fit the signature, or None if they fit."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = next((name for name in kwargs if name not in signature.parameters), None)
        reason = error if unknown is None else f"got an unexpected keyword argument {unknown!r}"
        return TypeError(f"{function}() {reason}{_hints.for_call(function, signature.parameters, unknown)}")
    return None


def _is_from_this_package(error: BaseException) -> bool:
    """Return whether the innermost call of the traceback is a call of code in this package."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is None or str(traceback.tb_frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE
