"""The examples in README.md and docs/ print the shown output, and their commands succeed."""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from processes import ROOT

import fastkaiming as fk

EXAMPLE = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n((?:fastkaiming .*\n)+)```$", re.MULTILINE)
FILE = re.compile(r"^```toml\n(# (\S+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDED = {  # modules that the examples of a page need in addition to those of the tests
    "dask.md": ("dask.array", "distributed", "zarr"),
    "diagnostics.md": ("matplotlib",),
    "jax.md": ("jax", "flax", "equinox"),
    "switching.md": ("torch", "jax", "keras"),
    "torch.md": ("torch", "transformers"),
}
NEEDED_BY_COMMANDS = {"checkpoints.md": ("matplotlib",)}
README = ROOT / "README.md"
FRAMEWORK = re.compile(r">>> import (torch|jax)\n")  # at the beginning of an example in the README


def pages_with(block: re.Pattern[str]) -> list[Path]:
    return [page for page in sorted(ROOT.glob("docs/**/*.md")) if block.search(page.read_text("utf-8"))]


def have_the_shown_output(page: Path, examples: Iterable[re.Match[str]]) -> bool:
    runner = doctest.DocTestRunner()
    names: dict[str, object] = {"__name__": "__main__"}  # as at a prompt, so that classes can be pickled
    for example in examples:
        line = example.string.count("\n", 0, example.start(1))
        case = doctest.DocTestParser().get_doctest(example[1], names, page.name, str(page), line)
        runner.run(case, clear_globs=False)
        names = case.globs
    return runner.tries > 0 and runner.summarize(verbose=False).failed == 0


def test_examples_of_the_readme() -> None:
    examples = EXAMPLE.finditer(README.read_text("utf-8"))
    assert have_the_shown_output(README, (each for each in examples if not FRAMEWORK.match(each[1])))


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_framework_examples_of_the_readme(framework: str) -> None:
    pytest.importorskip(framework)
    examples = EXAMPLE.finditer(README.read_text("utf-8"))
    chosen = (each for each in examples if (found := FRAMEWORK.match(each[1])) and found[1] == framework)
    assert have_the_shown_output(README, chosen)


def test_table_of_the_api_lists_all_functions() -> None:
    page = ROOT / "docs/reference/index.md"
    section = page.read_text("utf-8").split("\n## The API at a glance\n")[1].split("\n## ")[0]
    first_column = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    listed = set(re.findall(r"`(\w+)", first_column))
    functions = {name for name in fk.__all__ if callable(getattr(fk, name)) and name not in {"Fans"}}
    functional_variants = {name for name in functions if f"{name}_" in functions}  # the table has only a few
    assert listed >= functions - functional_variants
    assert listed <= functions


@pytest.mark.parametrize("page", pages_with(EXAMPLE), ids=lambda page: page.name)
def test_examples_of_docs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # read when Keras is imported
    for module in NEEDED.get(page.name, ()):
        pytest.importorskip(module)
    assert have_the_shown_output(page, EXAMPLE.finditer(page.read_text("utf-8")))


@pytest.mark.parametrize("page", pages_with(COMMANDS), ids=lambda page: page.name)
def test_commands_of_docs_succeed(page: Path, tmp_path: Path) -> None:
    for module in NEEDED_BY_COMMANDS.get(page.name, ()):
        pytest.importorskip(module)
    text = page.read_text("utf-8")
    for file in FILE.finditer(text):
        (tmp_path / file[2]).write_text(file[1], "utf-8")
    command = f'set -e; fastkaiming() {{ "{sys.executable}" -m fastkaiming "$@"; }}\n'
    script = command + "".join(commands[1] for commands in COMMANDS.finditer(text))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
