"""Kernels are selected by the CPU, the operating system and the user; unsupported ones never run."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import reference
from processes import CSRC, ROOT, answers, compiled, python

import fastkaiming as fk
from fastkaiming import _core

FASTEST_FIRST = ["avx512ifma", "avx512", "avx2", "neon", "scalar"]
FASTEST_FIRST_ON_AMD = ["avx512", "avx512ifma", "avx2", "neon", "scalar"]
FOREIGN = "avx2" if platform.machine() in ("aarch64", "arm64") else "neon"

x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUID is an instruction of x86")

# Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, "CPUID": leaf 1, ECX.
FMA, OSXSAVE, AVX, F16C = 1 << 12, 1 << 27, 1 << 28, 1 << 29
# Leaf 7, EBX.
AVX2, AVX512F, AVX512DQ, AVX512BW, AVX512VL = 1 << 5, 1 << 16, 1 << 17, 1 << 30, 1 << 31
AVX512IFMA = 1 << 21
# Leaf 7, ECX.
AVX512VBMI2 = 1 << 6
# Volume 1, section 13.3: the register states that the operating system saves, in XCR0.
X87, SSE, YMM, OPMASK, ZMM_UPPER_HALVES, ZMM_16_TO_31 = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7

LEAF1 = FMA | OSXSAVE | AVX | F16C
LEAF7 = AVX2 | AVX512F | AVX512DQ | AVX512BW | AVX512VL
XCR0 = SSE | YMM | OPMASK | ZMM_UPPER_HALVES | ZMM_16_TO_31
ALL = 0xFFFFFFFF

SCALAR_ONLY, UP_TO_AVX2 = "avx2=0 avx512=0 avx512ifma=0", "avx2=1 avx512=0 avx512ifma=0"
UP_TO_AVX512, UP_TO_IFMA = "avx2=1 avx512=1 avx512ifma=0", "avx2=1 avx512=1 avx512ifma=1"

SIMULATED_CPUS = {  # ECX of leaf 1, EBX and ECX of leaf 7, XCR0, and the kernels that can run
    "nothing at all": (0, 0, 0, None, SCALAR_ONLY),
    "no leaf 1": (None, ALL, ALL, None, SCALAR_ONLY),
    "no leaf 7": (ALL, None, None, ALL, SCALAR_ONLY),
    "everything": (ALL, ALL, ALL, ALL, UP_TO_IFMA),
    "only what IFMA kernels need": (LEAF1, LEAF7 | AVX512IFMA, AVX512VBMI2, XCR0, UP_TO_IFMA),
    "only what AVX-512 needs": (LEAF1, LEAF7, 0, XCR0, UP_TO_AVX512),
    "only what AVX2 needs": (LEAF1, AVX2, 0, SSE | YMM, UP_TO_AVX2),
    "Sandy Bridge: AVX alone": (AVX | OSXSAVE, 0, 0, X87 | SSE | YMM, SCALAR_ONLY),
    "AVX2 without FMA": (ALL & ~FMA, ALL, ALL, ALL, SCALAR_ONLY),
    "AVX2 without AVX": (ALL & ~AVX, ALL, ALL, ALL, SCALAR_ONLY),
    "AVX2 without F16C": (ALL & ~F16C, ALL, ALL, ALL, SCALAR_ONLY),
    "FMA without AVX2": (ALL, ALL & ~AVX2, ALL, ALL, SCALAR_ONLY),
    "no OSXSAVE": (ALL & ~OSXSAVE, ALL, ALL, None, SCALAR_ONLY),
    "YMM not saved": (ALL, ALL, ALL, ALL & ~YMM, SCALAR_ONLY),
    "XMM not saved": (ALL, ALL, ALL, ALL & ~SSE, SCALAR_ONLY),
    "nothing but x87 saved": (ALL, ALL, ALL, X87, SCALAR_ONLY),
    "opmasks not saved": (ALL, ALL, ALL, ALL & ~OPMASK, UP_TO_AVX2),
    "upper halves of ZMM not saved": (ALL, ALL, ALL, ALL & ~ZMM_UPPER_HALVES, UP_TO_AVX2),
    "ZMM 16 to 31 not saved": (ALL, ALL, ALL, ALL & ~ZMM_16_TO_31, UP_TO_AVX2),
    "AVX-512 without F": (ALL, ALL & ~AVX512F, ALL, ALL, UP_TO_AVX2),
    "AVX-512 without DQ": (ALL, ALL & ~AVX512DQ, ALL, ALL, UP_TO_AVX2),
    "AVX-512 without BW": (ALL, ALL & ~AVX512BW, ALL, ALL, UP_TO_AVX2),
    "AVX-512 without VL": (ALL, ALL & ~AVX512VL, ALL, ALL, UP_TO_AVX2),
    "Knights Landing: AVX-512 F alone": (LEAF1, AVX2 | AVX512F, 0, XCR0, UP_TO_AVX2),
    "AVX-512 without AVX2": (ALL, ALL & ~AVX2, ALL, ALL, SCALAR_ONLY),
    "VBMI2 without IFMA": (ALL, ALL & ~AVX512IFMA, ALL, ALL, UP_TO_AVX512),
    "Cannon Lake: IFMA without VBMI2": (ALL, ALL, ALL & ~AVX512VBMI2, ALL, UP_TO_AVX512),
}


@pytest.fixture
def selection() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.select_isa(before)


@x86_only
def test_kernels_of_simulated_cpus(tmp_path: Path) -> None:
    program = compiled(tmp_path / "dispatch", ROOT / "tests" / "c" / "dispatch_test.c", CSRC / "simd" / "dispatch.c")
    registers = [cpu[:4] for cpu in SIMULATED_CPUS.values()]
    questions = [" ".join("-" if value is None else f"{value:x}" for value in four) for four in registers]
    for vendor, prefers in {"GenuineIntel": 1, "AuthenticAMD": 0, "AuthenticAMX": 1, "-": 1}.items():
        expected = {
            name: f"{cpu[4]} gain={int(prefers and cpu[4] == UP_TO_IFMA)} streaming={prefers}"
            for name, cpu in SIMULATED_CPUS.items()
        }
        found = answers(program, [f"{vendor} {question}" for question in questions])
        assert dict(zip(SIMULATED_CPUS, found, strict=True)) == expected


# Whether the CPU prefers streaming stores on few threads, the number of threads, MiB, the stores that the plan selects,
# whether the memory was touched before; and whether streaming stores are expected.
FILLS = {
    "large": (1, 1, 64, 0, 1, 1),
    "large, CPU prefers plain stores": (0, 1, 64, 0, 1, 0),
    "large, on eight threads, CPU prefers plain stores": (0, 8, 64, 0, 1, 0),
    "large, on nine threads, CPU prefers plain stores": (0, 9, 64, 0, 1, 1),
    "small": (1, 1, 1, 0, 1, 0),
    "small, on many threads": (1, 64, 1, 0, 1, 0),
    "large, plain stores selected": (1, 64, 64, 1, 1, 0),
    "small, streaming stores selected": (0, 1, 1, 2, 1, 1),
    **({"large, new memory": (1, 1, 64, 0, 0, 0)} if sys.platform == "linux" else {}),
    "large, new memory, streaming stores selected": (0, 1, 64, 2, 0, 1),
}


def test_which_fills_use_streaming_stores(tmp_path: Path) -> None:
    sources = [CSRC / name for name in ("fill.c", "scatter.c", "sample.c", "grid.c", "pages.c", "threads/threads.c")]
    program = compiled(tmp_path / "streaming", ROOT / "tests" / "c" / "streaming_test.c", *sources)
    found = answers(program, [" ".join(map(str, fill[:5])) for fill in FILLS.values()])
    assert dict(zip(FILLS, found, strict=True)) == {name: str(fill[5]) for name, fill in FILLS.items()}


@x86_only
def test_available_isas_agree_with_proc_cpuinfo() -> None:
    # Linux removes the flags of instructions whose registers it does not save.
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("the system has no /proc/cpuinfo")
    lines = info.read_text().splitlines()
    flags = next(set(line.split()) for line in lines if line.startswith("flags"))
    avx2 = {"avx2", "fma", "f16c"} <= flags
    avx512 = avx2 and {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags
    ifma = avx512 and {"avx512ifma", "avx512_vbmi2"} <= flags
    runs = {"avx512ifma": ifma, "avx512": avx512, "avx2": avx2, "scalar": True}
    amd = any(line.startswith("vendor_id") and "AuthenticAMD" in line for line in lines)
    order = FASTEST_FIRST_ON_AMD if amd else FASTEST_FIRST
    assert fk.available_isas() == tuple(name for name in order if runs.get(name))


def test_instruction_sets_are_ordered_fastest_first_and_end_with_scalar() -> None:
    assert list(fk.available_isas()) in [
        [name for name in order if name in fk.available_isas()] for order in (FASTEST_FIRST, FASTEST_FIRST_ON_AMD)
    ]
    assert fk.available_isas()[-1] == "scalar"


PLACE = reference.Place(key=3, stream=5, first=7, count=3001)

FILL = f"""
import hashlib
import numpy as np
import fastkaiming as fk
from fastkaiming import _core

out = np.empty({PLACE.count}, np.float32)
_core.fill(out, _core.NORMAL_F32, {PLACE.key}, {PLACE.stream}, {PLACE.first}, scale=0.5, center=1.0)
print(fk.isa(), hashlib.sha256(out).hexdigest())
"""


@pytest.fixture(scope="module")
def digest() -> str:
    values = reference.normal(PLACE, reference.normal_parameters(1.0, 0.5, np.float32))
    return hashlib.sha256(values.tobytes()).hexdigest()


@pytest.mark.parametrize("isa", fk.available_isas())
def test_environment_variable_selects_the_kernels(isa: str, digest: str) -> None:
    result = python(FILL, FASTKAIMING_ISA=isa)
    assert result.stdout.split() == [isa, digest], result.stderr


@pytest.mark.parametrize("environment", [{}, {"FASTKAIMING_ISA": ""}], ids=["unset", "empty"])
def test_fastest_kernels_are_the_default(environment: dict[str, str], digest: str) -> None:
    result = python(FILL, **environment)
    assert result.stdout.split() == [fk.available_isas()[0], digest], result.stderr


@pytest.mark.parametrize(
    "name", ["sse9", "AVX2", " scalar", "avx", "avx5122", "avx512_ifma", "avx2,scalar", "0", FOREIGN]
)
def test_unknown_name_in_the_variable_raises_on_import(name: str) -> None:
    result = python(FILL, FASTKAIMING_ISA=name)
    assert result.returncode == 1
    assert result.stdout == ""
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"ValueError: FASTKAIMING_ISA: unknown instruction set {name!r}; ")
    assert error.endswith(", ".join(fk.available_isas()))


@pytest.fixture(scope="module")
def masked_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("masked_cpu") / "masked_cpu.so"
    return compiled(library, "-shared", "-fPIC", ROOT / "tests" / "c" / "masked_cpu.c")


@x86_only
@pytest.mark.skipif(platform.system() != "Linux", reason="requires Linux, on which CPUID can be made to fault")
@pytest.mark.parametrize(
    ("variable", "bit", "rejected", "left"),
    [
        pytest.param("MASKED_LEAF7_EBX", AVX512IFMA, "avx512ifma", ["avx512", "avx2", "scalar"], id="AVX512IFMA"),
        pytest.param("MASKED_LEAF7_ECX", AVX512VBMI2, "avx512ifma", ["avx512", "avx2", "scalar"], id="AVX512VBMI2"),
        pytest.param("MASKED_LEAF7_EBX", AVX512DQ, "avx512ifma", ["avx2", "scalar"], id="IFMA without AVX512DQ"),
        pytest.param("MASKED_LEAF7_EBX", AVX512DQ, "avx512", ["avx2", "scalar"], id="AVX512DQ"),
        pytest.param("MASKED_LEAF7_EBX", AVX512VL, "avx512", ["avx2", "scalar"], id="AVX512VL"),
        pytest.param("MASKED_LEAF7_EBX", AVX2, "avx2", ["scalar"], id="AVX2"),
        pytest.param("MASKED_LEAF1_ECX", FMA, "avx2", ["scalar"], id="FMA"),
        pytest.param("MASKED_LEAF1_ECX", OSXSAVE, "avx512", ["scalar"], id="OSXSAVE"),
    ],
)
def test_cpu_without_a_feature_runs_other_kernels(
    masked_cpu: Path, digest: str, variable: str, bit: int, rejected: str, left: list[str]
) -> None:
    masked = {"LD_PRELOAD": str(masked_cpu), variable: f"{bit:x}"}
    result = python(FILL, **masked)
    if result.returncode == 77:
        pytest.skip("this machine cannot make CPUID fault")
    left = [name for name in left if name in fk.available_isas()]
    assert result.stdout.split() == [left[0], digest], result.stderr

    assert_rejected(python(FILL, **masked, FASTKAIMING_ISA=rejected), rejected, left)


@x86_only
@pytest.mark.skipif(platform.system() != "Linux", reason="requires Linux, on which CPUID can be made to fault")
@pytest.mark.parametrize(
    ("vendor", "order"), [("GenuineIntel", FASTEST_FIRST), ("AuthenticAMD", FASTEST_FIRST_ON_AMD)], ids=["Intel", "AMD"]
)
def test_ifma_kernels_come_first_except_on_amd(masked_cpu: Path, digest: str, vendor: str, order: list[str]) -> None:
    renamed = {"LD_PRELOAD": str(masked_cpu), "MASKED_MAKER": vendor}
    result = python(f"{FILL}\nprint(*fk.available_isas())", **renamed)
    if result.returncode == 77:
        pytest.skip("this machine cannot make CPUID fault")
    order = [name for name in order if name in fk.available_isas()]
    assert result.stdout.split() == [order[0], digest, *order], result.stderr
    for isa in order:
        assert python(FILL, **renamed, FASTKAIMING_ISA=isa).stdout.split() == [isa, digest]


def assert_rejected(result: subprocess.CompletedProcess[str], rejected: str, left: list[str]) -> None:
    expected = f"this machine cannot run instruction set {rejected!r}; it can run {', '.join(left)}"
    assert result.stderr.splitlines()[-1] == f"ValueError: FASTKAIMING_ISA: {expected}"


@pytest.mark.extended
@x86_only
@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64")
@pytest.mark.parametrize(
    ("model", "rejected", "left"),
    [("Haswell", "avx512", ["avx2", "scalar"]), ("Haswell,-fma", "avx2", ["scalar"])],
)
def test_emulated_cpu_without_a_feature_runs_other_kernels(model: str, rejected: str, left: list[str]) -> None:
    """Run Python in an emulator, for machines on which CPUID cannot be made to fault."""
    program = "import fastkaiming; print(*fastkaiming.available_isas())"
    command = ["qemu-x86_64", "-cpu", model, sys.executable, "-c", program]

    def emulated(**environment: str) -> subprocess.CompletedProcess[str]:
        whole = {name: value for name, value in os.environ.items() if name != "FASTKAIMING_ISA"} | environment
        return subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, text=True, check=False)

    assert emulated().stdout.split() == left
    assert_rejected(emulated(FASTKAIMING_ISA=rejected), rejected, left)


@pytest.mark.usefixtures("selection")
def test_select_isa_returns_the_name_selected_before() -> None:
    for name in fk.available_isas():
        before = fk.isa()
        assert _core.select_isa(name) == before
        assert fk.isa() == name
    assert _core.select_isa(None) == fk.available_isas()[-1]
    assert fk.isa() == fk.available_isas()[0]


@pytest.mark.usefixtures("selection")
def test_failed_selection_changes_nothing() -> None:
    for name in fk.available_isas():
        _core.select_isa(name)
        for unknown in (FOREIGN, "", "none"):
            with pytest.raises(ValueError, match=f"unknown instruction set '{unknown}'"):
                _core.select_isa(unknown)
            assert fk.isa() == name
