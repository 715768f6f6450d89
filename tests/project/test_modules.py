"""The module map is complete and its order holds, and the Python versions are the same everywhere."""

import ast
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from processes import CSRC, ROOT

import fastkaiming

# The modules are searched where they are imported from, because a checkout may have none if the package is installed.
PACKAGE = Path(fastkaiming.__file__).parent
MODULES = {f"fastkaiming/{path.relative_to(PACKAGE).as_posix()}": path for path in sorted(PACKAGE.rglob("*.py"))}
SOURCES = [
    *(path for path in CSRC.rglob("*") if path.is_file()),
    *(ROOT / "fastkaiming").glob("_core.py[ix]"),
    *(ROOT / "fastkaiming").glob("_*.pxi"),
]
FILES = [*MODULES, *(path.relative_to(ROOT).as_posix() for path in SOURCES)]
MAP = (ROOT / "docs" / "project" / "modules.md").read_text("utf-8")
PAGES = MAP + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def listed_files() -> Iterator[str]:
    """Yield the files of the map from top to bottom. A name without a folder is in the folder of the name before it."""
    for cell in re.findall(r"^\| (`.*?) \|", MAP, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`(.+?)`", cell):
            folder, last = name.rsplit("/", 1) if "/" in name else (folder, name)
            yield f"{folder}/{last}"


LISTED = [*listed_files()]


def test_map_lists_each_file_once() -> None:
    rows = {file: [listed for listed in LISTED if fnmatch(file, listed)] for file in FILES}
    assert {file: found for file, found in rows.items() if len(found) != 1} == {}


def test_files_of_the_map_exist() -> None:
    assert [listed for listed in LISTED if not any(fnmatch(file, listed) for file in FILES)] == []


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_files_below_it(module: str) -> None:
    assert [other for other in imported(module) if LISTED.index(other) <= LISTED.index(module)] == []


def imported(module: str) -> set[str]:
    """Return the files of the package that a module imports anywhere, except itself."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {file_of(f"{node.module}.{alias.name}") or file_of(str(node.module)) for alias in node.names}
    return {file for file in found if file not in (None, module)}


def file_of(name: str) -> str | None:
    path = name.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py", f"{path}.pyx") if file in FILES), None)


def test_imports_are_found() -> None:
    assert imported("fastkaiming/__main__.py") == {"fastkaiming/cli/__init__.py"}
    assert imported("fastkaiming/_fill/shards.py") >= {"fastkaiming/_validation.py"}


def test_paths_in_pages_exist() -> None:
    paths = set(re.findall(r"`((?:tests|benchmarks|docs)/[^` ]+)`", PAGES))
    assert paths
    assert [path for path in paths if "NAME" not in path and not any(ROOT.glob(path.rstrip("/")))] == []


def test_benchmarks_named_in_pages_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    benchmark = re.compile(r"(?<![\w/])benchmarks/(?!NAME)\w+\.py")
    named = {path for page in pages for path in benchmark.findall(page.read_text("utf-8"))}
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_python_versions_agree_everywhere() -> None:
    (tested,) = re.findall(r'^CPYTHONS="(.*)"$', (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert [version for version in tested.split() if not version.endswith("t")] == classified
    assert project["requires-python"] == f">={classified[0]}"
    if WORKFLOW.exists():  # an sdist does not contain it
        assert re.findall(r"^ +(3\.\d+t?)$", WORKFLOW.read_text("utf-8"), re.MULTILINE) == tested.split()


@pytest.mark.skipif(not WORKFLOW.exists(), reason="an sdist has no workflows")
def test_workflow_only_runs_ci_run() -> None:
    *preparations, command = re.findall(r"^ +(?:- )?run: (.*)$", WORKFLOW.read_text("utf-8"), re.MULTILINE)
    assert command.endswith(" bash .ci/run")
    assert [each for each in preparations if not each.startswith("sudo sysctl ")] == []
