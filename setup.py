"""Build the compiled core. The metadata of the package is in pyproject.toml."""

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

# All files use the same flags; the kernel files enable instruction sets with target pragmas. The flags come last, in
# the compilation and in the link, so that they override an inherited CFLAGS=-Ofast. -Ofast would change the bits and
# link crtfastmath, which flushes denormals to zero in the whole process.
FLAGS = (CSRC / "cflags.rsp").read_text().split()

# These flags override an inherited -march=native, with which the whole core would require the CPU it was built on.
# A Mac may build for the other architecture or for both, and dispatch.c cannot be compiled with AVX enabled.
compiling = os.environ.get("ARCHFLAGS") or sysconfig.get_config_var("CFLAGS") or ""
machines = re.findall(r"-arch (\S+)", compiling) or [platform.machine()]
if machines == ["x86_64"]:
    FLAGS += ["-march=x86-64", "-mno-avx"]


class build_ext_in_place_too(build_ext):  # noqa: N801 - the name that `python setup.py --help-commands` shows
    """Also copy the compiled core to the source tree.

    `python -m fastkaiming` and `python -m pytest` put the current directory first on the path. In a checkout they
    import the package from its sources, even if it is installed in the environment.
    """

    def run(self) -> None:
        """Build the core, and copy it to the source tree."""
        super().run()
        self.copy_extensions_to_source()

    def build_extensions(self) -> None:
        """Compile with clang-cl on Windows, because the default compiler of setuptools does not support C11."""
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
