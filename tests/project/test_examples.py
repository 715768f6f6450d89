"""The examples in README.md and in docs/ print what they say they print, and the commands there do what they say."""

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
NEEDED = {  # by the examples of a page, beyond what the tests need
    "dask.md": ("dask.array", "distributed", "zarr"),
    "diagnostics.md": ("matplotlib",),
    "jax.md": ("jax", "flax", "equinox"),
    "switching.md": ("torch", "jax", "keras"),
    "torch.md": ("torch", "transformers"),
}
NEEDED_BY_COMMANDS = {"checkpoints.md": ("matplotlib",)}
README = ROOT / "README.md"
FRAMEWORK = re.compile(r">>> import (torch|jax)\n")  # at the head of an example of the README


def pages_with(block: re.Pattern[str]) -> list[Path]:
    return [page for page in sorted(ROOT.glob("docs/**/*.md")) if block.search(page.read_text("utf-8"))]


def print_what_they_say(page: Path, examples: Iterable[re.Match[str]]) -> bool:
    runner = doctest.DocTestRunner()
    names: dict[str, object] = {"__name__": "__main__"}  # as at a prompt: of this module, classes go to other processes
    for example in examples:
        line = example.string.count("\n", 0, example.start(1))
        case = doctest.DocTestParser().get_doctest(example[1], names, page.name, str(page), line)
        runner.run(case, clear_globs=False)
        names = case.globs
    return runner.tries > 0 and runner.summarize(verbose=False).failed == 0


def test_examples_of_the_readme() -> None:
    examples = EXAMPLE.finditer(README.read_text("utf-8"))
    assert print_what_they_say(README, (each for each in examples if not FRAMEWORK.match(each[1])))


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_examples_of_the_readme_for(framework: str) -> None:
    pytest.importorskip(framework)
    examples = EXAMPLE.finditer(README.read_text("utf-8"))
    asked = (each for each in examples if (found := FRAMEWORK.match(each[1])) and found[1] == framework)
    assert print_what_they_say(README, asked)


def test_table_of_the_api_names_all_of_it() -> None:
    page = ROOT / "docs/reference/index.md"
    section = page.read_text("utf-8").split("\n## The API at a glance\n")[1].split("\n## ")[0]
    first_column = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    told = set(re.findall(r"`(\w+)", first_column))
    functions = {name for name in fk.__all__ if callable(getattr(fk, name)) and name not in {"Fans"}}
    twins = {name for name in functions if f"{name}_" in functions}  # "and so on"
    assert told >= functions - twins
    assert told <= functions


@pytest.mark.parametrize("page", pages_with(EXAMPLE), ids=lambda page: page.name)
def test_examples_of_docs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # which is asked for when Keras is imported
    for module in NEEDED.get(page.name, ()):
        pytest.importorskip(module)
    assert print_what_they_say(page, EXAMPLE.finditer(page.read_text("utf-8")))


@pytest.mark.parametrize("page", pages_with(COMMANDS), ids=lambda page: page.name)
def test_commands_are_obeyed(page: Path, tmp_path: Path) -> None:
    for module in NEEDED_BY_COMMANDS.get(page.name, ()):
        pytest.importorskip(module)
    text = page.read_text("utf-8")
    for file in FILE.finditer(text):
        (tmp_path / file[2]).write_text(file[1], "utf-8")
    command = f'set -e; fastkaiming() {{ "{sys.executable}" -m fastkaiming "$@"; }}\n'
    script = command + "".join(commands[1] for commands in COMMANDS.finditer(text))
    finds_us = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=finds_us, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
