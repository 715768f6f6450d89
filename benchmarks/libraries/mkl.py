"""MKL's vector statistics (VSL), from the wheel ``mkl`` on PyPI, through ctypes.

The constants come from mkl_vsl_defines.h and mkl_service.h in the wheel ``mkl-include``, and the signatures from
mkl_vsl_functions.h. Every Python thread has its own stream, which skips the values of the other threads, so that all
streams together produce the values of a single one. MKL's own threads are off, because these calls do not use any.
"""

from __future__ import annotations

import ctypes
import functools
from importlib.metadata import PackageNotFoundError, files
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

from harness import UnavailableError

from libraries import Job, Method, array_method, check_support, in_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "MKL"
IN_PLACE = True

VSL_BRNG_INC = 1 << 20
GENERATORS = {"Philox": 16 * VSL_BRNG_INC, "ARS5": 15 * VSL_BRNG_INC}  # VSL_BRNG_PHILOX4X32X10, VSL_BRNG_ARS5
VSL_RNG_METHOD_UNIFORM_STD = 0
GAUSSIAN_METHODS = {"BoxMuller2": 1, "ICDF": 2}  # VSL_RNG_METHOD_GAUSSIAN_*
MKL_INTERFACE_LP64 = 0
MKL_THREADING_SEQUENTIAL = 1
TYPES = {"float32": ("s", ctypes.c_float), "float64": ("d", ctypes.c_double)}


def version() -> str:
    library()
    return version_of("mkl")


@functools.cache
def library() -> Any:
    try:
        found = [file for file in files("mkl") or () if file.name.startswith("libmkl_rt.so")]
    except PackageNotFoundError:
        found = []
    if not found:
        raise UnavailableError("not installed")
    mkl = ctypes.CDLL(str(found[0].locate()))
    mkl.MKL_Set_Interface_Layer(MKL_INTERFACE_LP64)  # makes MKL_INT an int
    mkl.MKL_Set_Threading_Layer(MKL_THREADING_SEQUENTIAL)
    mkl.vslNewStream.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_uint]
    mkl.vslSkipAheadStream.argtypes = [ctypes.c_void_p, ctypes.c_longlong]
    for letter, number in TYPES.values():
        for draw in ("Gaussian", "Uniform"):
            array = [ctypes.c_int, ctypes.c_void_p, number, number]
            getattr(mkl, f"v{letter}Rng{draw}").argtypes = [ctypes.c_int, ctypes.c_void_p, *array]
    return mkl


def checked(status: int) -> None:
    if status:
        raise UnavailableError(f"VSL failed with status {status}")


def stream(generator: int, seed: int = 0) -> ctypes.c_void_p:
    """Return a new stream, which lives as long as the process."""
    made = ctypes.c_void_p()
    checked(library().vslNewStream(ctypes.byref(made), generator, seed))
    return made


def methods(job: Job) -> dict[str, Method]:
    check_support(job, draws=("truncated",), dtypes=("bfloat16",))
    library()
    if job.draw == "uniform":
        return {f"{NAME} {name}": fill_method(job, name, VSL_RNG_METHOD_UNIFORM_STD) for name in GENERATORS}
    return {
        f"{NAME} {name} {method}": fill_method(job, name, GAUSSIAN_METHODS[method])
        for name in GENERATORS
        for method in GAUSSIAN_METHODS
    }


def fill_method(job: Job, generator: str, vsl_method: int) -> Method:
    mkl, (letter, _) = library(), TYPES[job.dtype]
    draw, numbers = (
        (getattr(mkl, f"v{letter}RngGaussian"), (0.0, job.std))
        if job.draw == "normal"
        else (getattr(mkl, f"v{letter}RngUniform"), (-job.bound, job.bound))
    )
    streams = [stream(GENERATORS[generator]) for _ in range(job.threads)]

    def fill(target: NDArray[Any]) -> None:
        values = target.reshape(-1)

        def work(thread: int, part: slice) -> None:
            own = values[part]
            its_stream, before, after = streams[thread], part.start, job.elements - part.stop
            if before:
                checked(mkl.vslSkipAheadStream(its_stream, before))
            checked(draw(vsl_method, its_stream, own.size, own.ctypes.data, *numbers))
            if after:
                checked(mkl.vslSkipAheadStream(its_stream, after))

        in_parts(job.threads, job.elements, work)

    return array_method(job, fill)
