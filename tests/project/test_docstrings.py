"""The reference in docs/ has every public name once, and a docstring tells all that a caller has to know."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from processes import ROOT

from fastkaiming.cli import _main

DIRECTIVE = re.compile(r"^\.\. (?P<kind>currentmodule|autofunction|autoclass|autodata):: (?P<name>\w[\w.]*)", re.M)
NEEDS = {
    "fastkaiming.dask": "dask",
    "fastkaiming.jax": "jax",
    "fastkaiming.diagnostics.plot": "matplotlib",
    "fastkaiming.diagnostics.report": "matplotlib",
    "fastkaiming.torch": "torch",
}
WITHOUT_ALL = {  # what is public in them
    "fastkaiming.diagnostics": ["Propagation", "Statistics", "propagate", "statistics"],
    "fastkaiming.diagnostics.plot": ["histogram", "propagation"],
    "fastkaiming.diagnostics.report": ["Tensor", "html"],
}
THEIRS = {"fastkaiming.jax": "jax.nn.initializers", "fastkaiming.torch": "torch.nn.init"}
RAISES_NOTHING = {"isa", "available_isas", "take", "pdf", "cdf", "rule"}
RETURNS_NOTHING = {"set_num_threads"}
OPAQUE = {"Initializer"}  # a result whose fields are no caller's business


def documented() -> Counter[tuple[str, str]]:
    """Return how often each name of each module stands on the pages of the reference."""
    found: Counter[tuple[str, str]] = Counter()
    for page in sorted(ROOT.glob("docs/reference/*.md")):
        module = ""
        for directive in DIRECTIVE.finditer(page.read_text("utf-8")):
            if directive["kind"] == "currentmodule":
                module = directive["name"]
            else:
                found[module, directive["name"]] += 1
    return found


MODULES = sorted({module for module, _ in documented()})


def room(name: str) -> Any:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return import_module(name)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_one_place_in_the_reference(name: str) -> None:
    public = WITHOUT_ALL[name] if name in WITHOUT_ALL else room(name).__all__
    assert {each: n for (module, each), n in documented().items() if module == name} == dict.fromkeys(public, 1)


def test_every_command_has_its_place() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    told = re.findall(r"^```\{program-output\} python -m fastkaiming (\w+) --help$", page, re.MULTILINE)
    assert told == list(_main._COMMANDS)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_are_whole(name: str) -> None:
    module = room(name)
    lacks = {item.__qualname__: missing for item in described(module, name) if (missing := list(missing_in(item)))}
    assert lacks == {}


def described(module: Any, name: str) -> Iterator[Any]:
    """Return what the reference has of a module, methods too, less what is a framework's own text."""
    theirs = import_module(THEIRS[name]) if name in THEIRS else None
    for each in (each for where, each in documented() if where == name):
        item = getattr(module, each)
        if callable(item) and item.__doc__ != getattr(getattr(theirs, each, None), "__doc__", ""):
            yield item
            if inspect.isclass(item):
                yield from (method for attribute, method in vars(item).items() if is_told(attribute, method))


def is_told(name: str, method: Any) -> bool:
    return inspect.isfunction(method) and not name.startswith("_") and "\n" in (method.__doc__ or "")


def missing_in(item: Any) -> Iterator[str]:
    """Return what a docstring should tell, and does not."""
    told = sections(item)
    name = item.__name__
    if inspect.isclass(item) and "Parameters" not in told:  # a result: nobody makes one
        fields = getattr(item, "__match_args__", ()) or getattr(item, "_fields", ())
        if names_in(told.get("Attributes", "")) != sorted(fields) and name not in OPAQUE:
            yield f"Attributes {fields}"
        return
    arguments = [each for each in inspect.signature(item).parameters if each != "self"]
    if names_in(told.get("Parameters", "")) != sorted(arguments):
        yield f"Parameters {arguments}"
    if not inspect.isclass(item) and name not in RETURNS_NOTHING and not told.keys() & {"Returns", "Yields"}:
        yield "Returns"
    if "Raises" not in told and name not in RAISES_NOTHING and "\nInitializer\n" not in f"\n{told.get('Returns', '')}":
        yield "Raises"  # an initializer of JAX's kind refuses when it is called
    if ">>> " not in told.get("Examples", "") and "." not in item.__qualname__:
        yield "Examples"


def sections(item: Callable[..., Any]) -> dict[str, str]:
    """Return the text of each section of a docstring in NumPy style, by its heading."""
    parts = re.split(r"^([A-Z]\w+)\n-+\n", inspect.getdoc(item) or "", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names_in(section: str) -> list[str]:
    """Return the names that a section of parameters or attributes tells of."""
    heads = re.findall(r"^(\w[\w, ]*?)(?: : .*)?$", section, re.MULTILINE)
    return sorted(name for head in heads for name in head.split(", "))
