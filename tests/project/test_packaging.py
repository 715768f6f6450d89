"""What an installation holds, asks for and leaves alone."""

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

PROSE = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SOURCES = [
    *(path for path in CSRC.rglob("*") if path.is_file()),
    *(ROOT / "tests" / "c").iterdir(),
    *(ROOT / "fastkaiming").glob("_*.p[xy][ix]"),
]


@pytest.fixture(scope="module")
def distribution() -> Distribution:
    # The build leaves an egg-info in the checkout, which is on the path too but says nothing about the wheel.
    installed = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    found = next(iter(Distribution.discover(name="fastkaiming", path=installed)), None)
    if found is None:
        pytest.skip("fastkaiming runs from its sources and is not installed")
    return found


def test_one_version_everywhere(distribution: Distribution) -> None:
    assert distribution.version == fastkaiming.__version__
    assert f"\n## [{fastkaiming.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_numpy_is_the_only_requirement_at_run_time(distribution: Distribution) -> None:
    requirements = [item for item in distribution.requires or [] if "extra ==" not in item]
    assert [re.split(r"[<>=!~ ]", item)[0] for item in requirements] == ["numpy"]


def test_wheel_holds_types_and_no_sources(distribution: Distribution) -> None:
    files = [str(path) for path in distribution.files or []]
    if any("__editable__" in name for name in files):
        pytest.skip("an editable install has no wheel of its own")
    assert {"fastkaiming/_core.pyi", "fastkaiming/py.typed"} <= set(files)
    kinds = {Path(name).suffix for name in files if name.startswith("fastkaiming/")}
    assert kinds <= {".py", ".pyc", ".pyi", ".typed", ".so", ".pyd"}
    ours = re.compile(r"fastkaiming(-.*\.dist-info)?/|(\.\./)+(bin|Scripts)/fastkaiming(\.exe)?$")
    assert [name for name in files if not ours.match(name)] == []


def test_import_leaves_denormals_alone() -> None:
    # A core that was linked with crtfastmath would flush them to zero in every library of the process; in this one too,
    # where they would then equal zero: so the texts are compared.
    result = python("import fastkaiming, sys; print(sys.float_info.min / 2)")
    assert result.stdout.strip() == "1.1125369292536007e-308", result.stderr


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python cannot run without the GIL")
def test_import_leaves_the_gil_off() -> None:
    result = python("import fastkaiming, sys; print(sys._is_gil_enabled())", PYTHON_GIL="")
    assert result.stdout.strip() == "False", result.stderr


def test_subinterpreter_is_refused_and_leaves_the_main_one_alone() -> None:
    # NumPy lets itself be imported into one interpreter of a process only, and so does a module of Cython's.
    result = python("""
import os
import fastkaiming
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

inside = "import os\\ntry:\\n import fastkaiming\\nexcept ImportError:\\n os.write(1, b'refused\\\\n')"
before = fastkaiming.normal(9, rng=1)
interpreter = interpreters.create()
interpreters.run_string(interpreter, inside)
interpreters.destroy(interpreter)
print((fastkaiming.normal(9, rng=1) == before).all())
""")
    assert result.stdout.split() == ["refused", "True"], result.stderr


@pytest.mark.parametrize("path", [*PROSE, *SOURCES], ids=lambda path: path.name)
def test_no_line_is_over_120_columns_but_rows_of_tables(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_sources_without_a_core_say_what_to_do(tmp_path: Path) -> None:
    package = Path(fastkaiming.__file__).parent
    shutil.copytree(package, tmp_path / "fastkaiming", ignore=shutil.ignore_patterns("_core*.so", "csrc"))
    # -S: without site-packages, where an editable install would lend the copy its own core
    importing = [sys.executable, "-S", "-c", "import fastkaiming"]
    result = subprocess.run(importing, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    message = f"ImportError: fastkaiming is imported from {tmp_path / 'fastkaiming'}, where its core is not built"
    assert message in result.stderr
