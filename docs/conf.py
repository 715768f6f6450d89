"""How Sphinx builds the site: sphinx-build -W --keep-going -b html docs build/docs, where the package is installed."""

from importlib import import_module
from importlib.metadata import metadata
from typing import TYPE_CHECKING, Any

from numpydoc.xref import DEFAULT_LINKS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_package = metadata("fastkaiming")
project = _package["Name"]
author = project_copyright = _package["Author"]
release = version = _package["Version"]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.programoutput",
]
html_theme = "furo"
html_title = f"{project} {release}"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
myst_heading_anchors = 4

nitpicky = True
nitpick_ignore_regex = [("py:(func|mod)", r"(torch|jax|dask)\..*")]  # whose pages no build has to reach

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings tell the types, and what they mean
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # words that are no alias
_CLASSES = {
    "fastkaiming": ("Fans", "Generator", "InitReport", "Key", "Normal", "TruncatedNormal", "Uniform"),
    "fastkaiming.checkpoint": ("Difference", "File", "Plan", "Report", "StoredTensor", "Verification"),
    "fastkaiming.diagnostics": ("Propagation", "Statistics"),
    "fastkaiming.jax": ("Initializer",),
}
numpydoc_xref_aliases = dict(zip(DEFAULT_LINKS, DEFAULT_LINKS, strict=True)) | {
    name: f"{module}.{name}" for module, names in _CLASSES.items() for name in names
}

# Names that adapters take over from a framework, whose words about them are its own.
_FRAMEWORKS = {"fastkaiming.torch": "torch.nn.init", "fastkaiming.jax": "jax.nn.initializers"}


def _leave_out_what_is_not_ours(_: "Sphinx", what: str, name: str, item: Any, _options: Any, lines: list[str]) -> None:
    if what == "data":  # it is the docstring of its type
        lines.clear()
    if what != "function":
        return
    room, _, short = name.rpartition(".")
    theirs = getattr(import_module(_FRAMEWORKS[room]), short, None) if room in _FRAMEWORKS else None
    if theirs is item:
        lines[:] = [f"``{_FRAMEWORKS[room]}.{short}`` itself."]
    elif theirs is not None and item.__doc__ == theirs.__doc__:
        lines[:] = [f"As ``{_FRAMEWORKS[room]}.{short}``, warnings and errors included; what is drawn is ours."]
    elif item.__name__ != short:
        lines[:] = [f"Another name of :func:`{item.__name__}`."]


def _own_source(_: "Sphinx", module: str, name: str) -> str | None:
    """Keep the source of a framework from being shown: it is not found in the module of ours that has the name."""
    item = getattr(import_module(module), name.partition(".")[0], None)
    return None if getattr(item, "__module__", "").startswith("fastkaiming.") else module


def _named_defaults(*of_the_event: Any) -> tuple[str, None] | None:
    """Show a default that is a type by its name."""
    signature = of_the_event[5]
    return signature and (signature.replace("<class 'numpy.float32'>", "numpy.float32"), None)


def setup(app: "Sphinx") -> None:
    """Leave the words of others out."""
    app.connect("autodoc-process-docstring", _leave_out_what_is_not_ours, priority=0)
    app.connect("autodoc-process-signature", _named_defaults)
    app.connect("viewcode-follow-imported", _own_source)
