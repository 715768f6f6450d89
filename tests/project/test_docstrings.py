"""The reference in docs/ lists every public name once, and docstrings have all their sections."""

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
FRAMEWORK_MODULES = {"fastkaiming.jax": "jax.nn.initializers", "fastkaiming.torch": "torch.nn.init"}
RAISES_NOTHING = {"isa", "available_isas", "next_key", "pdf", "cdf", "distribution"}
RETURNS_NOTHING = {"set_num_threads"}
OPAQUE = {"Initializer"}  # a result whose fields are private


def documented() -> Counter[tuple[str, str]]:
    """Return how often the pages of the reference list each name of each module."""
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


def module_or_skip(name: str) -> Any:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return import_module(name)


@pytest.mark.parametrize("name", MODULES)
def test_reference_lists_every_public_name_once(name: str) -> None:
    public = module_or_skip(name).__all__
    assert {each: n for (module, each), n in documented().items() if module == name} == dict.fromkeys(public, 1)


def test_reference_lists_every_command() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    listed = re.findall(r"^```\{program-output\} python -m fastkaiming (\w+) --help$", page, re.MULTILINE)
    assert listed == list(_main._COMMANDS)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_have_all_sections(name: str) -> None:
    module = module_or_skip(name)
    incomplete = {item.__qualname__: missing for item in described(module, name) if (missing := list(missing_in(item)))}
    assert incomplete == {}


def described(module: Any, name: str) -> Iterator[Any]:
    """Yield the classes, functions and methods of a module in the reference, except with docstrings of a framework."""
    framework = import_module(FRAMEWORK_MODULES[name]) if name in FRAMEWORK_MODULES else None
    for each in (each for where, each in documented() if where == name):
        item = getattr(module, each)
        if callable(item) and item.__doc__ != getattr(getattr(framework, each, None), "__doc__", ""):
            yield item
            if inspect.isclass(item):
                yield from (
                    method for attribute, method in vars(item).items() if is_documented_method(attribute, method)
                )


def is_documented_method(name: str, method: Any) -> bool:
    return inspect.isfunction(method) and not name.startswith("_") and "\n" in (method.__doc__ or "")


def missing_in(item: Any) -> Iterator[str]:
    """Yield the sections that a docstring should have, but does not have."""
    found = sections(item)
    name = item.__name__
    if inspect.isclass(item) and "Parameters" not in found:  # a result, which users do not create
        fields = getattr(item, "__match_args__", ()) or getattr(item, "_fields", ())
        if names_in(found.get("Attributes", "")) != sorted(fields) and name not in OPAQUE:
            yield f"Attributes {fields}"
        return
    arguments = [each for each in inspect.signature(item).parameters if each != "self"]
    if names_in(found.get("Parameters", "")) != sorted(arguments):
        yield f"Parameters {arguments}"
    if not inspect.isclass(item) and name not in RETURNS_NOTHING and not found.keys() & {"Returns", "Yields"}:
        yield "Returns"
    if (
        "Raises" not in found
        and name not in RAISES_NOTHING
        and "\nInitializer\n" not in f"\n{found.get('Returns', '')}"
    ):
        yield "Raises"  # functions that return an initializer, which raises errors when it is called
    if ">>> " not in found.get("Examples", "") and "." not in item.__qualname__:
        yield "Examples"


def sections(item: Callable[..., Any]) -> dict[str, str]:
    """Return the text of each section of a docstring in NumPy style, by its heading."""
    parts = re.split(r"^([A-Z]\w+)\n-+\n", inspect.getdoc(item) or "", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names_in(section: str) -> list[str]:
    """Return the names that a section of parameters or attributes describes."""
    heads = re.findall(r"^(\w[\w, ]*?)(?: : .*)?$", section, re.MULTILINE)
    return sorted(name for head in heads for name in head.split(", "))
