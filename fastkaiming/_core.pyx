# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, auto_pickle=False
"""The boundary: takes a pointer, makes one call without the GIL, turns a status into an exception."""

import os
from functools import wraps

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pystate cimport PyThreadState
from libc.stdint cimport int64_t, uint64_t

cdef extern from "Python.h" nogil:
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *state)

cdef extern from "fpenv.h" nogil:
    ctypedef struct fk_fpenv:
        pass
    fk_fpenv fk_enter_default_fpenv()
    void fk_leave_default_fpenv(const fk_fpenv *before)

cdef extern from "key.h" nogil:
    uint64_t fk_philox_key(uint64_t seed)

cdef extern from "fill.h":
    ctypedef int fk_watch(void *context, uint64_t elements_done)

cdef extern from "fill.h" nogil:
    enum: FK_STREAM_VERSION

    ctypedef enum fk_status:
        FK_OK, FK_CANCELLED, FK_ISA_UNKNOWN, FK_ISA_UNSUPPORTED, FK_NO_MEMORY

    ctypedef enum fk_operation:
        FK_WORDS_U32, FK_UNIFORM_F32, FK_UNIFORM_F64, FK_NORMAL_F32, FK_NORMAL_F64, FK_CONSTANT_F32, FK_CONSTANT_F64
        FK_TRUNCATED_F32, FK_TRUNCATED_F64

    ctypedef enum fk_format:
        FK_AS_DRAWN, FK_FLOAT32, FK_FLOAT16, FK_BFLOAT16, FK_FLOAT8_E4M3FN, FK_FLOAT8_E5M2

    ctypedef enum fk_store:
        FK_STORE_AUTO, FK_STORE_PLAIN, FK_STORE_STREAMING

    ctypedef struct fk_params:
        double scale, center, low, high, slope, anchor, lower_slope, lower_anchor, upper_slope, upper_anchor

    ctypedef struct fk_axis:
        uint64_t size
        int64_t stride
        uint64_t step

    ctypedef struct fk_plan:
        void *out
        const fk_axis *axes
        int axis_count
        uint64_t first, key, stream
        fk_operation operation
        fk_params params
        fk_format format
        int swapped
        fk_store store

    fk_status fk_fill(const fk_plan *plans, size_t count, int threads, fk_watch *watch, void *context)
    fk_status fk_select_isa(const char *name)
    const char *fk_selected_isa()
    const char *fk_available_isa(int i)
    size_t fk_drawn_bytes(fk_operation operation)
    size_t fk_stored_bytes(fk_operation operation, fk_format format)
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
TRUNCATED_F64 = FK_TRUNCATED_F64

AS_DRAWN = FK_AS_DRAWN
FLOAT32 = FK_FLOAT32
FLOAT16 = FK_FLOAT16
BFLOAT16 = FK_BFLOAT16
FLOAT8_E4M3FN = FK_FLOAT8_E4M3FN
FLOAT8_E5M2 = FK_FLOAT8_E5M2

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

    cdef int look(self, uint64_t done) noexcept:
        try:
            PyErr_CheckSignals()
            if self.progress is not None and done < self.total:
                self.progress(done, self.total)
        except BaseException as error:
            self.error = error
            return 1
        return 0


ctypedef struct _Calling:
    PyThreadState *state
    void *watcher


cdef int _look(void *context, uint64_t done) noexcept:
    """Look with the thread's own state, not by `with gil`, which crashes once a daemon thread's interpreter is gone."""
    cdef _Calling *calling = <_Calling *>context
    PyEval_RestoreThread(calling.state)
    cdef int answer = (<_Watcher>calling.watcher).look(done)
    calling.state = PyEval_SaveThread()
    return answer


cdef class Plan:
    """What goes into the elements of a writable buffer, whose memory it holds in place as long as it lives itself.

    The first element has the index `first`, and the next one along each axis an index that is higher by the axis's one
    of `steps`: by default, those of the buffer's own shape in row-major order.
    """

    cdef Py_buffer view
    cdef fk_axis *axes
    cdef fk_plan plan
    cdef uint64_t count
    cdef readonly uint64_t drawn_bytes

    # In the order in which a fill has them at hand: what is passed by name takes as long as the rest of a small plan.
    def __cinit__(self, out, int operation, uint64_t key, uint64_t stream, uint64_t first,
                  int rounding=FK_AS_DRAWN, bint swapped=False, steps=None, double scale=0.0, double center=0.0,
                  double low=0.0, double high=0.0, double slope=0.0, double anchor=0.0,
                  double lower_slope=0.0, double lower_anchor=0.0, double upper_slope=0.0, double upper_anchor=0.0,
                  int store=FK_STORE_AUTO):
        cdef int axis
        PyObject_GetBuffer(out, &self.view, PyBUF_WRITABLE | PyBUF_STRIDES)
        if <size_t>self.view.itemsize != fk_stored_bytes(<fk_operation>operation, <fk_format>rounding):
            raise ValueError(f"the buffer has elements of {self.view.itemsize} bytes")
        if rounding == FK_FLOAT32 and fk_drawn_bytes(<fk_operation>operation) != sizeof(double):
            raise ValueError("only operations in double precision round to float32")
        self.axes = <fk_axis *>PyMem_Malloc(self.view.ndim * sizeof(fk_axis))
        if self.axes is NULL:
            raise MemoryError
        self.count = 1
        for axis in reversed(range(self.view.ndim)):
            self.axes[axis].size = self.view.shape[axis]
            self.axes[axis].stride = self.view.strides[axis]
            self.axes[axis].step = self.count if steps is None else steps[axis]
            self.count *= self.axes[axis].size
        self.drawn_bytes = self.count * fk_drawn_bytes(<fk_operation>operation)
        self.plan.out = self.view.buf
        self.plan.axes = self.axes
        self.plan.axis_count = self.view.ndim
        self.plan.first = first
        self.plan.key = key
        self.plan.stream = stream
        self.plan.operation = <fk_operation>operation
        self.plan.params = fk_params(scale, center, low, high, slope, anchor, lower_slope, lower_anchor, upper_slope,
                                     upper_anchor)
        self.plan.format = <fk_format>rounding
        self.plan.swapped = swapped
        self.plan.store = <fk_store>store

    def __dealloc__(self):
        PyMem_Free(self.axes)
        PyBuffer_Release(&self.view)


def fill_all(plans, int threads=1, progress=None):
    """Fill the buffers of a sequence of plans, side by side."""
    cdef _Watcher watcher = _Watcher.__new__(_Watcher)
    cdef size_t count = len(plans), i
    cdef fk_plan *copies = <fk_plan *>PyMem_Malloc(count * sizeof(fk_plan))
    cdef Plan plan
    cdef fk_status status
    cdef _Calling calling
    if copies is NULL:
        raise MemoryError
    try:
        for i in range(count):
            plan = <Plan?>plans[i]
            copies[i] = plan.plan
            watcher.total += plan.count
        watcher.progress = progress
        calling.watcher = <void *>watcher
        calling.state = PyEval_SaveThread()
        status = fk_fill(copies, count, threads, _look, &calling)
        PyEval_RestoreThread(calling.state)
    finally:
        PyMem_Free(copies)
    if status == FK_CANCELLED:
        raise watcher.error
    if status == FK_NO_MEMORY:
        raise MemoryError
    if progress is not None:
        progress(watcher.total, watcher.total)


def fill(out, *plan, threads=1, progress=None, **numbers):
    """Fill one buffer, by a plan of these arguments."""
    fill_all((Plan(out, *plan, **numbers),), threads, progress)


def philox_key(uint64_t seed):
    """Return the Philox key of a seed."""
    return fk_philox_key(seed)


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
    """Return the name of the instruction set whose kernels are in use.

    That is the widest one that this machine can run, unless the environment variable ``FASTKAIMING_ISA`` names another.

    Returns
    -------
    str
        "avx512", "avx2", "neon" or "scalar".

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.isa() in fk.available_isas()
    True
    """
    return fk_selected_isa().decode()


def available_isas():
    """Return the names of the instruction sets that this build has kernels for and this machine can run.

    Returns
    -------
    tuple of str
        The widest first; the last is always "scalar".

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.available_isas()[-1]
    'scalar'
    """
    names = []
    while fk_available_isa(len(names)) != NULL:
        names.append(fk_available_isa(len(names)).decode())
    return tuple(names)


if os.environ.get("FASTKAIMING_ISA"):
    try:
        select_isa(os.environ["FASTKAIMING_ISA"])
    except ValueError as error:
        raise ValueError(f"FASTKAIMING_ISA: {error}") from None
