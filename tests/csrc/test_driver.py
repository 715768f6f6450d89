"""The C core without Python gives every digest on every instruction set of this machine."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from extended import extended
from processes import ROOT, compiled, core_objects

import fastkaiming

DIGESTS = ROOT / "tests" / "vectors" / "digests.txt"
FORMATS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
TRUNCATED = {"truncated_f32", "truncated_f64"}
OPERATIONS = {"words_u32", "uniform_f32", "uniform_f64", "normal_f32", "normal_f64", *TRUNCATED} | {
    f"{operation}>{narrow}" for operation in ("uniform_f32", "normal_f32", *TRUNCATED) for narrow in FORMATS
}
OPERATIONS |= {"truncated_f64>float32"}


def cases() -> list[str]:
    lines = DIGESTS.read_text().splitlines()
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = ROOT / "tests" / "c" / "driver.c"
    return compiled(tmp_path_factory.mktemp("driver") / "driver", source, *core_objects(tmp_path_factory), "-lm")


def run(
    driver: Path, digests: Path, threads: int = 1, emulator: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*emulator, driver, digests, str(threads)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("threads", [3, *extended([1, 2, 7])])
def test_every_instruction_set_gives_every_digest(driver: Path, threads: int) -> None:
    result = run(driver, DIGESTS, threads)
    assert result.returncode == 0, result.stderr
    printed = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert sorted(printed) == sorted(f"{isa} {case}" for isa in fastkaiming.available_isas() for case in cases())


@pytest.mark.extended
@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64")
@pytest.mark.parametrize(
    ("model", "isas"),
    [
        pytest.param("Nehalem", {"scalar"}, id="no AVX"),
        pytest.param("Haswell,-avx2", {"scalar"}, id="FMA without AVX2"),
        pytest.param("Haswell,-fma", {"scalar"}, id="AVX2 without FMA"),
        pytest.param("Haswell,-xsave", {"scalar"}, id="registers not saved"),
        pytest.param("Haswell", {"avx2", "scalar"}, id="AVX2"),
        pytest.param("max", {"avx2", "scalar"}, id="everything that qemu emulates; not AVX-512"),
    ],
)
def test_emulated_cpus_give_the_digests(driver: Path, tmp_path: Path, model: str, isas: set[str]) -> None:
    # Kernels with gather instructions are tested by .ci/run only: some versions of qemu emulate these incorrectly.
    emulated = [case for case in cases() if case.split()[0] in ("uniform_f32", "normal_f32", "normal_f32>float16")]
    table = tmp_path / "digests.txt"
    table.write_text("\n".join(case for case in emulated if 50 < int(case.split()[4]) < 2000))
    result = run(driver, table, threads=3, emulator=("qemu-x86_64", "-cpu", model))
    assert result.returncode == 0, result.stderr
    assert {line.split()[0] for line in result.stdout.splitlines()} == isas


def test_digests_cover_every_operation() -> None:
    assert {case.split()[0] for case in cases()} == OPERATIONS


def test_wrong_digest_is_reported(driver: Path, tmp_path: Path) -> None:
    *fill, digest = cases()[-1].split()
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(" ".join([*fill, digest[::-1]]))
    result = run(driver, wrong)
    assert result.returncode == 1
    for isa in fastkaiming.available_isas():
        assert f"MISMATCH on {isa}: {' '.join(fill)}: expected {digest[::-1]}, got {digest}" in result.stderr


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("# no fill at all\n", "no fill in"),
        ("gamma_f32 0 0 0 8 1 0 0 0 00", "no such operation: gamma_f32"),
        ("normal_f32>float4 0 0 0 8 1 0 0 0 00", "no such format: float4"),
        ("words_u32 zero 0 0 8 0 0 0 0 00", "not a whole number: zero"),
        ("words_u32 0 0 0 8 0 none 0 0 00", "not a real number: none"),
        ("words_u32 0 0 0 8 0 0 0 00", "neither ten fields nor sixteen"),
    ],
)
def test_invalid_table_fails(driver: Path, tmp_path: Path, table: str, problem: str) -> None:
    path = tmp_path / "table.txt"
    path.write_text(table)
    result = run(driver, path)
    assert result.returncode == 2
    assert problem in result.stderr
