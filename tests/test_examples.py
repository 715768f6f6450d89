"""The examples in README.md and in docs/ print what they say they print."""

import doctest
import re
from pathlib import Path

import pytest

import fastkaiming as fk

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDED = {  # by a page, beyond what the tests need
    "dask.md": ("dask.array", "distributed", "zarr"),
    "diagnostics.md": ("matplotlib",),
    "jax.md": ("jax", "flax", "equinox"),
    "torch.md": ("torch", "transformers"),
}
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))] if EXAMPLE.search(page.read_text())]


def test_readme_has_examples() -> None:
    assert ROOT / "README.md" in PAGES


def test_table_of_the_api_names_all_of_it() -> None:
    section = (ROOT / "README.md").read_text("utf-8").split("\n## The API at a glance\n")[1].split("\n## ")[0]
    first_column = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    told = set(re.findall(r"`(\w+)", first_column))
    functions = {name for name in fk.__all__ if callable(getattr(fk, name)) and name not in {"Fans"}}
    twins = {name for name in functions if f"{name}_" in functions}  # "and so on"
    assert told >= functions - twins
    assert told <= functions


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_they_say(page: Path) -> None:
    for module in NEEDED.get(page.name, ()):
        pytest.importorskip(module)
    text = page.read_text()
    runner = doctest.DocTestRunner()
    names: dict[str, object] = {"__name__": "__main__"}  # as at a prompt: of this module, classes go to other processes
    for example in EXAMPLE.finditer(text):
        line = text.count("\n", 0, example.start(1))
        case = doctest.DocTestParser().get_doctest(example[1], names, page.name, str(page), line)
        runner.run(case, clear_globs=False)
        names = case.globs
    assert runner.summarize(verbose=False).failed == 0
