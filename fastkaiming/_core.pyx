# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False, auto_pickle=False
"""The Cython module: acquires memory, calls the C core without the GIL, and raises its errors as exceptions."""

import errno
import os
from functools import wraps

cimport cython
from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.pystate cimport PyThreadState
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

from numpy import float64, ndarray

cdef extern from "Python.h":
    int PyContextVar_Get(object variable, PyObject *default, PyObject **value) except -1
    void Py_DECREF(PyObject *o)

cdef extern from "Python.h" nogil:
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *state)

cdef extern from "math/fpenv.h" nogil:
    ctypedef struct fk_fpenv:
        pass
    fk_fpenv fk_enter_default_fpenv()
    void fk_leave_default_fpenv(const fk_fpenv *before)

cdef extern from "key.h" nogil:
    uint64_t fk_philox_key(uint64_t seed)

cdef extern from "dlpack.h":
    enum: FK_DLPACK_MAJOR_VERSION, FK_DLPACK_CPU

    ctypedef struct DLDevice:
        int32_t device_type

    ctypedef struct DLDataType:
        uint8_t code, bits
        uint16_t lanes

    ctypedef struct DLTensor:
        void *data
        DLDevice device
        int32_t ndim
        DLDataType dtype
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset

    ctypedef struct DLPackVersion:
        uint32_t major

    ctypedef struct DLPackExchangeAPI:
        DLPackVersion version
        int (*dltensor_from_py_object_no_sync)(void *object, DLTensor *tensor)

cdef extern from "fill.h":
    ctypedef int fk_watch(void *context, uint64_t elements_done)

cdef extern from "fill.h" nogil:
    enum: FK_STREAM_VERSION

    ctypedef enum fk_status:
        FK_OK, FK_CANCELLED, FK_ISA_UNKNOWN, FK_ISA_UNSUPPORTED, FK_NO_MEMORY, FK_FAULT

    ctypedef enum fk_operation:
        FK_WORDS_U32, FK_UNIFORM_F32, FK_UNIFORM_F64, FK_NORMAL_F32, FK_NORMAL_F64, FK_CONSTANT_F32, FK_CONSTANT_F64
        FK_TRUNCATED_F32, FK_TRUNCATED_F64

    ctypedef enum fk_format:
        FK_UNROUNDED, FK_FLOAT32, FK_FLOAT16, FK_BFLOAT16, FK_FLOAT8_E4M3FN, FK_FLOAT8_E5M2

    ctypedef enum fk_store:
        FK_STORE_AUTO, FK_STORE_PLAIN, FK_STORE_STREAMING

    ctypedef struct fk_params:
        double scale, center, low, high, slope, intercept, lower_slope, lower_intercept, upper_slope, upper_intercept

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
        int byte_swapped
        fk_store store

    fk_status fk_fill(const fk_plan *plans, size_t count, int threads, fk_watch *watch, void *context)
    fk_status fk_select_isa(const char *name)
    const char *fk_selected_isa()
    const char *fk_available_isa(int i)
    size_t fk_sampled_bytes(fk_operation operation)
    size_t fk_stored_bytes(fk_operation operation, fk_format format)
    bint fk_can_round(fk_operation operation, fk_format format)
    bint fk_has_streaming_stores()
    size_t fk_max_work_unit_elements()

WORDS_U32 = FK_WORDS_U32
UNIFORM_F32 = FK_UNIFORM_F32
UNIFORM_F64 = FK_UNIFORM_F64
NORMAL_F32 = FK_NORMAL_F32
NORMAL_F64 = FK_NORMAL_F64
CONSTANT_F32 = FK_CONSTANT_F32
CONSTANT_F64 = FK_CONSTANT_F64
TRUNCATED_F32 = FK_TRUNCATED_F32
TRUNCATED_F64 = FK_TRUNCATED_F64

UNROUNDED = FK_UNROUNDED
FLOAT32 = FK_FLOAT32
FLOAT16 = FK_FLOAT16
BFLOAT16 = FK_BFLOAT16
FLOAT8_E4M3FN = FK_FLOAT8_E4M3FN
FLOAT8_E5M2 = FK_FLOAT8_E5M2

STORE_AUTO = FK_STORE_AUTO
STORE_PLAIN = FK_STORE_PLAIN
STORE_STREAMING = FK_STORE_STREAMING

STREAM_VERSION = FK_STREAM_VERSION
MAX_WORK_UNIT_ELEMENTS = fk_max_work_unit_elements()


include "_plans.pxi"
include "_entry.pxi"


def philox_key(uint64_t seed):
    """Return the Philox key of a seed."""
    return fk_philox_key(seed)


def in_default_environment(function):
    """Return a function that calls `function` in round-to-nearest mode, without flushing subnormal numbers to zero.

    Its results do not depend on the floating-point environment of the calling thread.
    """
    @wraps(function)
    def rounding_to_nearest(*arguments):
        cdef fk_fpenv caller_env = fk_enter_default_fpenv()
        try:
            return function(*arguments)
        finally:
            fk_leave_default_fpenv(&caller_env)

    return rounding_to_nearest


def select_isa(name):
    """Select the kernels of an instruction set, or the fastest for None, and return the name selected before.

    Raises ValueError if the name is unknown, or if this machine cannot run these kernels.
    """
    before = isa()
    encoded = None if name is None else name.encode()
    cdef fk_status status = fk_select_isa(NULL if encoded is None else <const char *>encoded)
    if status == FK_ISA_UNKNOWN:
        raise ValueError(f"unknown instruction set {name!r}; this machine can run {', '.join(available_isas())}")
    if status == FK_ISA_UNSUPPORTED:
        raise ValueError(f"this machine cannot run instruction set {name!r}; it can run {', '.join(available_isas())}")
    return before


def has_streaming_stores():
    """Return whether the selected kernels have streaming stores."""
    return fk_has_streaming_stores()


def isa():
    """Return the name of the instruction set whose kernels are in use.

    This is the first of `available_isas`, unless the environment variable ``FASTKAIMING_ISA`` selects another.

    Returns
    -------
    str
        "avx512ifma", "avx512", "avx2", "neon" or "scalar".

    Examples
    --------
    >>> import fastkaiming as fk
    >>> fk.isa() in fk.available_isas()
    True
    """
    return fk_selected_isa().decode()


def available_isas():
    """Return the names of the instruction sets that this build supports and this machine can run.

    Returns
    -------
    tuple of str
        Fastest first; the last is always "scalar".

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
