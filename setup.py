"""Build the compiled core; all else that there is to say about the package stands in pyproject.toml."""

import os
import platform
import re
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CSRC = Path("fastkaiming/csrc")
WINDOWS = sys.platform == "win32"

# One set of flags for every file and instruction set; target pragmas in the kernel files ask for what they need.
# They come last, in the compilation and in the link, and so win over an inherited CFLAGS=-Ofast, which would change
# the bits and link crtfastmath: that flushes denormals to zero in the whole process.
FLAGS = (CSRC / "cflags.rsp").read_text().split()

# An inherited -march=native would make all of the core ask for this CPU, not just the kernels that are chosen on it.
# A Mac may build for the other kind of Mac, or for both, where dispatch.c refuses to be compiled for AVX.
compiling = os.environ.get("ARCHFLAGS") or sysconfig.get_config_var("CFLAGS") or ""
machines = re.findall(r"-arch (\S+)", compiling) or [platform.machine()]
if machines == ["x86_64"]:
    FLAGS += ["-march=x86-64", "-mno-avx"]


class build_ext_in_place_too(build_ext):  # noqa: N801 - the name that `python setup.py --help-commands` shows
    """Leave the core beside its sources as well.

    `python -m fastkaiming` and `python -m pytest` put the checkout first on the path, so there they import the package
    from its sources, whatever `pip install .` has put into the environment.
    """

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        self.copy_extensions_to_source()

    def build_extensions(self) -> None:
        """Compile with clang-cl on Windows, where setuptools knows no other compiler than the one without C11."""
        if self.compiler.compiler_type == "msvc":
            if not self.compiler.initialized:
                self.compiler.initialize(self.plat_name)
            self.compiler.cc = os.environ.get("CC", "clang-cl")
        super().build_extensions()


core = Extension(
    "fastkaiming._core",
    sources=["fastkaiming/_core.pyx", *map(str, sorted(CSRC.rglob("*.c")))],
    depends=[
        str(path)
        for kind in ("csrc/**/*.h", "csrc/**/*.inc", "*.pxi")
        for path in sorted(Path("fastkaiming").glob(kind))
    ],
    include_dirs=[str(CSRC)],
    libraries=[] if WINDOWS else ["m"],
    extra_compile_args=[f"/clang:{flag}" for flag in FLAGS if flag != "-pthread"] if WINDOWS else FLAGS,
    extra_link_args=[] if WINDOWS else FLAGS,
)

setup(ext_modules=cythonize([core], build_dir="build"), cmdclass={"build_ext": build_ext_in_place_too})
