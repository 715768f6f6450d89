# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""The boundary: takes a pointer, makes one call without the GIL, turns a status into an exception."""

import os
from functools import wraps

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint64_t

cdef extern from "fpenv.h" nogil:
    ctypedef struct fk_fpenv:
        pass
    fk_fpenv fk_enter_default_fpenv()
    void fk_leave_default_fpenv(const fk_fpenv *before)

cdef extern from "fill.h" nogil:
    enum: FK_STREAM_VERSION

    ctypedef enum fk_status:
        FK_OK, FK_CANCELLED, FK_ISA_UNKNOWN, FK_ISA_UNSUPPORTED

    ctypedef enum fk_operation:
        FK_WORDS_U32, FK_UNIFORM_F32, FK_UNIFORM_F64, FK_NORMAL_F32, FK_NORMAL_F64, FK_CONSTANT_F32, FK_CONSTANT_F64
        FK_TRUNCATED_F32, FK_TRUNCATED_WIDE_F32, FK_TRUNCATED_F64

    ctypedef enum fk_store:
        FK_STORE_AUTO, FK_STORE_PLAIN, FK_STORE_STREAMING

    ctypedef struct fk_params:
        double scale, center, low, high, slope, middle, lower_slope, lower_anchor, upper_slope, upper_anchor

    ctypedef int fk_watch(void *context, uint64_t elements_done)

    ctypedef struct fk_plan:
        void *out
        uint64_t first, count, seed, stream
        fk_operation operation
        fk_params params
        fk_store store
        int threads
        fk_watch *watch
        void *context

    fk_status fk_fill(const fk_plan *plan)
    fk_status fk_select_isa(const char *name)
    const char *fk_selected_isa()
    const char *fk_available_isa(int i)
    size_t fk_element_bytes(fk_operation operation)
    bint fk_streams()
    size_t fk_chunk_elements()

WORDS_U32 = FK_WORDS_U32
UNIFORM_F32 = FK_UNIFORM_F32
UNIFORM_F64 = FK_UNIFORM_F64
NORMAL_F32 = FK_NORMAL_F32
NORMAL_F64 = FK_NORMAL_F64
CONSTANT_F32 = FK_CONSTANT_F32
CONSTANT_F64 = FK_CONSTANT_F64
TRUNCATED_F32 = FK_TRUNCATED_F32
TRUNCATED_WIDE_F32 = FK_TRUNCATED_WIDE_F32
TRUNCATED_F64 = FK_TRUNCATED_F64

STORE_AUTO = FK_STORE_AUTO
STORE_PLAIN = FK_STORE_PLAIN
STORE_STREAMING = FK_STORE_STREAMING

STREAM_VERSION = FK_STREAM_VERSION
CHUNK_ELEMENTS = fk_chunk_elements()


cdef class _Watcher:
    """What the calling thread looks after in a fill: pending signals, a progress callback, the exception of either."""

    cdef object progress
    cdef object error
    cdef uint64_t total

    cdef int look(self, uint64_t done):
        try:
            PyErr_CheckSignals()
            if self.progress is not None and done < self.total:
                self.progress(done, self.total)
        except BaseException as error:
            self.error = error
            return 1
        return 0


cdef int _look(void *context, uint64_t done) noexcept with gil:
    return (<_Watcher>context).look(done)


def fill(out, int operation, uint64_t seed, uint64_t stream, uint64_t first, double scale=0.0, double center=0.0,
         double low=0.0, double high=0.0, int threads=1, progress=None, int store=FK_STORE_AUTO,
         double slope=0.0, double middle=0.0, double lower_slope=0.0, double lower_anchor=0.0, double upper_slope=0.0,
         double upper_anchor=0.0):
    """Fill the writable, contiguous buffer `out` with the stream's elements from `first` on."""
    cdef Py_buffer view
    cdef fk_plan plan
    cdef fk_status status
    cdef _Watcher watcher = _Watcher.__new__(_Watcher)
    PyObject_GetBuffer(out, &view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
    try:
        plan.out = view.buf
        plan.first = first
        plan.count = view.len // fk_element_bytes(<fk_operation>operation)
        plan.seed = seed
        plan.stream = stream
        plan.operation = <fk_operation>operation
        plan.params = fk_params(scale, center, low, high, slope, middle, lower_slope, lower_anchor, upper_slope, upper_anchor)
        plan.store = <fk_store>store
        plan.threads = threads
        plan.watch = _look
        plan.context = <void *>watcher
        watcher.progress = progress
        watcher.total = plan.count
        with nogil:
            status = fk_fill(&plan)
        if status == FK_CANCELLED:
            raise watcher.error
        if progress is not None:
            progress(plan.count, plan.count)
    finally:
        PyBuffer_Release(&view)


def in_default_environment(function):
    """Wrap a function of numbers: a foreign rounding mode in the process, or flushed subnormals, change no result."""
    @wraps(function)
    def rounding_to_nearest(*arguments):
        cdef fk_fpenv callers = fk_enter_default_fpenv()
        try:
            return function(*arguments)
        finally:
            fk_leave_default_fpenv(&callers)

    return rounding_to_nearest


def select_isa(name):
    """Use the kernels of that name from now on, or for None the widest that run here; return the name used before."""
    before = isa()
    encoded = None if name is None else name.encode()
    cdef fk_status status = fk_select_isa(NULL if encoded is None else <const char *>encoded)
    if status == FK_ISA_UNKNOWN:
        raise ValueError(f"unknown instruction set {name!r}; this machine can run {', '.join(available_isas())}")
    if status == FK_ISA_UNSUPPORTED:
        raise ValueError(f"this machine cannot run instruction set {name!r}; it can run {', '.join(available_isas())}")
    return before


def streams():
    """Whether the kernels in use can store past the caches."""
    return fk_streams()


def isa():
    """The name of the instruction set whose kernels are in use: "avx512", "avx2", "neon" or "scalar"."""
    return fk_selected_isa().decode()


def available_isas():
    """The names of the instruction sets that this build and this machine support, widest first."""
    names = []
    while fk_available_isa(len(names)) != NULL:
        names.append(fk_available_isa(len(names)).decode())
    return tuple(names)


if os.environ.get("FASTKAIMING_ISA"):
    try:
        select_isa(os.environ["FASTKAIMING_ISA"])
    except ValueError as error:
        raise ValueError(f"FASTKAIMING_ISA: {error}") from None
