"""The contents, requirements and side effects of an installation."""

import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from processes import CSRC, ROOT, python

import fastkaiming
from fastkaiming import _validation

PROSE = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SOURCES = [
    *(path for path in CSRC.rglob("*") if path.is_file()),
    *(ROOT / "tests" / "c").iterdir(),
    *(ROOT / "fastkaiming").glob("_*.p[xy][ix]"),
]


@pytest.fixture(scope="module")
def distribution() -> Distribution:
    # The build creates an egg-info in the checkout, which is also on the path but does not describe the wheel.
    installed = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    found = next(iter(Distribution.discover(name="fastkaiming", path=installed)), None)
    if found is None:
        pytest.skip("fastkaiming is not installed; it runs from its sources")
    return found


def test_version_is_the_same_everywhere(distribution: Distribution) -> None:
    assert distribution.version == fastkaiming.__version__
    assert f"\n## [{fastkaiming.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_numpy_is_the_only_requirement_at_run_time(distribution: Distribution) -> None:
    requirements = [item for item in distribution.requires or [] if "extra ==" not in item]
    assert [re.split(r"[<>=!~ ]", item)[0] for item in requirements] == ["numpy"]


def test_wheel_contains_types_but_no_c_sources(distribution: Distribution) -> None:
    files = [str(path) for path in distribution.files or []]
    if any("__editable__" in name for name in files):
        pytest.skip("an editable install has no wheel")
    assert {"fastkaiming/_core.pyi", "fastkaiming/py.typed"} <= set(files)
    kinds = {Path(name).suffix for name in files if name.startswith("fastkaiming/")}
    assert kinds <= {".py", ".pyc", ".pyi", ".typed", ".so", ".pyd"}
    allowed = re.compile(r"fastkaiming(-.*\.dist-info)?/|(\.\./)+(bin|Scripts)/fastkaiming(\.exe)?$")
    assert [name for name in files if not allowed.match(name)] == []


def test_import_does_not_flush_denormals() -> None:
    # A core linked with crtfastmath would flush denormals to zero in every library of the process. Here they would then
    # equal zero, too, so the test compares texts.
    result = python("import fastkaiming, sys; print(sys.float_info.min / 2)")
    assert result.stdout.strip() == "1.1125369292536007e-308", result.stderr


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python cannot run without the GIL")
def test_import_keeps_the_gil_disabled() -> None:
    result = python("import fastkaiming, sys; print(sys._is_gil_enabled())", PYTHON_GIL="")
    assert result.stdout.strip() == "False", result.stderr


def test_import_in_a_subinterpreter_fails_without_side_effects() -> None:
    # NumPy and Cython modules can be imported in only one interpreter of a process.
    result = python("""
import os
import fastkaiming
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

inside = "import os\\ntry:\\n import fastkaiming\\nexcept ImportError:\\n os.write(1, b'ImportError\\\\n')"
before = fastkaiming.normal(9, rng=1)
interpreter = interpreters.create()
interpreters.run_string(interpreter, inside)
interpreters.destroy(interpreter)
print((fastkaiming.normal(9, rng=1) == before).all())
""")
    assert result.stdout.split() == ["ImportError", "True"], result.stderr


INSTALLS_BY_NAME = re.compile(r"pip install(?:\s+(?!in\b)[^\s`&;#]+)*\s+['\"]?fastkaiming(?![-\w])")


@pytest.mark.parametrize(
    "text", ["pip install fastkaiming", "`pip install -U 'fastkaiming[jax]'`", "pip install torch fastkaiming==0.1"]
)
def test_pattern_matches_commands_that_install_by_name(text: str) -> None:
    assert INSTALLS_BY_NAME.search(text)


def test_no_page_or_message_installs_by_name() -> None:
    """There is no release on PyPI yet, so a package of this name is not this one."""
    package = Path(fastkaiming.__file__).parent
    files = [*PROSE, *package.rglob("*.py*"), *(ROOT / "benchmarks").rglob("*.py")]
    texts = {path: path.read_text("utf-8") for path in files if path.suffix in {".md", ".py", ".pyi", ".pyx"}}
    assert [path for path, text in texts.items() if INSTALLS_BY_NAME.search(text)] == []
    error = _validation.missing_dependency_error("jax", "jax", ModuleNotFoundError(name="jax.numpy"))
    assert str(error) == "fastkaiming.jax needs jax: run pip install '.[jax]' in a checkout of fastkaiming"
    assert INSTALLS_BY_NAME.search(str(error)) is None


@pytest.mark.parametrize("path", [*PROSE, *SOURCES], ids=lambda path: path.name)
def test_lines_have_at_most_120_columns_except_in_tables(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_import_error_explains_how_to_build_the_core(tmp_path: Path) -> None:
    package = Path(fastkaiming.__file__).parent
    shutil.copytree(package, tmp_path / "fastkaiming", ignore=shutil.ignore_patterns("_core*.so", "csrc"))
    # -S excludes site-packages, where the copy could find the core of an editable install
    importing = [sys.executable, "-S", "-c", "import fastkaiming"]
    result = subprocess.run(importing, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    message = f"ImportError: fastkaiming is imported from {tmp_path / 'fastkaiming'}, where its core is not built"
    assert message in result.stderr
