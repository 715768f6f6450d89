"""What the tests of several rooms share."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from processes import CSRC, compiled


@pytest.fixture(scope="session")
def core_objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the core's C files, compiled once for all programs that are linked with them."""
    build = tmp_path_factory.mktemp("core")
    sources = sorted(CSRC.glob("*.c"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(_object_in, build), sources))


def _object_in(build: Path, source: Path) -> Path:
    return compiled(build / f"{source.stem}.o", "-fPIC", "-c", source)
