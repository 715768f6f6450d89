"""Build the compiled core; all else that there is to say about the package stands in pyproject.toml."""

import platform
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CSRC = Path("fastkaiming/csrc")

# One set of flags for every file and instruction set; target pragmas in the kernel files ask for what they need.
# They come last, in the compilation and in the link, and so win over an inherited CFLAGS=-Ofast, which would change
# the bits and link crtfastmath: that flushes denormals to zero in the whole process.
FLAGS = (CSRC / "cflags.rsp").read_text().split()

# An inherited -march=native would make all of the core ask for this CPU, not just the kernels that are chosen on it.
if platform.machine() == "x86_64":
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


core = Extension(
    "fastkaiming._core",
    sources=["fastkaiming/_core.pyx", *map(str, sorted(CSRC.glob("*.c")))],
    depends=[*map(str, sorted(CSRC.glob("*.h"))), *map(str, sorted(CSRC.glob("*.inc")))],
    include_dirs=[str(CSRC)],
    libraries=["m"],
    extra_compile_args=FLAGS,
    extra_link_args=FLAGS,
)

setup(ext_modules=cythonize([core], build_dir="build"), cmdclass={"build_ext": build_ext_in_place_too})
