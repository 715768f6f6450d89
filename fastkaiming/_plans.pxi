"""Part of _core.pyx: plans, which hold a buffer and the parameters of its fill, and the call that runs them."""


@cython.freelist(8)
cdef class _Watcher:
    """Handles pending signals and calls the progress callback during a fill; keeps the exception that either raises."""

    cdef object progress
    cdef object error
    cdef uint64_t total

    cdef int check(self, uint64_t done) noexcept:
        try:
            PyErr_CheckSignals()
            if self.progress is not None and done < self.total:
                self.progress(done, self.total)
        except BaseException as error:
            self.error = error
            return 1
        return 0


ctypedef struct _CallingThread:
    PyThreadState *state
    void *watcher


cdef int _check_with_gil(void *context, uint64_t done) noexcept:
    """Call the watcher with the GIL.

    This restores the saved thread state, because `with gil` crashes in a daemon thread after its interpreter has ended.
    """
    cdef _CallingThread *calling = <_CallingThread *>context
    PyEval_RestoreThread(calling.state)
    cdef int cancelled = (<_Watcher>calling.watcher).check(done)
    calling.state = PyEval_SaveThread()
    return cancelled


cdef class Template:
    """The parameters of a distribution for one dtype: a plan without its memory, its place in the stream and its key.

    `params` are the fields of `fk_params` in order; trailing fields that the operation does not use may be omitted.
    """

    cdef readonly object distribution
    cdef fk_plan plan

    def __init__(self, distribution, int operation, int rounding, tuple params, bint byte_swapped=False,
                 int store=FK_STORE_AUTO):
        cdef double *fields = <double *>&self.plan.params
        cdef Py_ssize_t i
        if not fk_can_round(<fk_operation>operation, <fk_format>rounding):
            raise ValueError("the values of this operation are not rounded to this format")
        if len(params) * sizeof(double) > sizeof(fk_params):
            raise ValueError(f"params must fit in fk_params, got {len(params)} of them")
        for i in range(len(params)):
            fields[i] = params[i]
        self.distribution = distribution
        self.plan.operation = <fk_operation>operation
        self.plan.format = <fk_format>rounding
        self.plan.byte_swapped = byte_swapped
        self.plan.store = <fk_store>store


@cython.final
@cython.freelist(8)
@cython.no_gc  # a plan cannot be part of a reference cycle
cdef class Plan:
    """A fill of a writable buffer. The plan keeps the buffer's memory in place while it exists.

    The first element has the index `first`. `steps` contains, for each axis, the difference between the indices of
    adjacent elements; by default these are the row-major steps of the buffer's own shape.
    """

    cdef Py_buffer view
    cdef object tensor, storage  # owners of the memory if it is not a buffer
    cdef int64_t itemsize
    cdef fk_axis inline_axes[4]  # avoids an allocation for most arrays
    cdef fk_axis *axes
    cdef fk_plan plan
    cdef uint64_t count
    cdef readonly Template template
    cdef readonly uint64_t sampled_bytes

    def __init__(self, out, Template template, uint64_t key, uint64_t stream, uint64_t first, steps=None):
        self.acquire(out)
        self.complete(template, first, steps)
        self.plan.key = key
        self.plan.stream = stream

    cdef int acquire(self, out) except -1:
        """Acquire the memory of a buffer."""
        cdef int axis
        PyBuffer_Release(&self.view)
        PyObject_GetBuffer(out, &self.view, PyBUF_WRITABLE | PyBUF_STRIDES)
        self.itemsize = self.view.itemsize
        self.allocate_axes(self.view.ndim)
        for axis in range(self.view.ndim):
            self.axes[axis].size = self.view.shape[axis]
            self.axes[axis].stride = self.view.strides[axis]
        self.plan.out = self.view.buf
        return 0

    cdef int acquire_tensor(self, const DLPackExchangeAPI *exchange, tensor) except -1:
        """Acquire the memory of a contiguous tensor, and return a number for its dtype.

        Return 0 if the tensor is not contiguous in CPU memory, or has no elements.
        """
        cdef DLTensor view
        cdef int64_t stride
        cdef int axis
        if exchange.dltensor_from_py_object_no_sync(<void *>tensor, &view) != 0:
            PyErr_Clear()  # for example, the tensor has no strides
            return 0
        if view.data is NULL or view.device.device_type != FK_DLPACK_CPU or view.dtype.lanes != 1:
            return 0
        self.tensor = tensor
        self.itemsize = stride = view.dtype.bits // 8
        self.allocate_axes(view.ndim)
        for axis in reversed(range(view.ndim)):
            self.axes[axis].size = view.shape[axis]
            self.axes[axis].stride = stride
            if view.strides is not NULL and view.shape[axis] != 1 and view.strides[axis] * self.itemsize != stride:
                return 0
            stride *= view.shape[axis]
        self.plan.out = <char *>view.data + view.byte_offset
        return view.dtype.code << 8 | view.dtype.bits

    cdef tuple shape(self):
        return tuple([self.axes[axis].size for axis in range(self.plan.axis_count)])

    cdef int allocate_axes(self, int axes) except -1:
        if self.axes != self.inline_axes:
            PyMem_Free(self.axes)
        self.axes = self.inline_axes
        if axes > <int>(sizeof(self.inline_axes) / sizeof(fk_axis)):
            self.axes = <fk_axis *>PyMem_Malloc(axes * sizeof(fk_axis))
            if self.axes is NULL:
                raise MemoryError
        self.plan.axis_count = axes
        return 0

    cdef bint is_contiguous(self):
        """Return whether the elements are contiguous in row-major order."""
        cdef int64_t stride = self.itemsize
        cdef int axis
        for axis in reversed(range(self.plan.axis_count)):
            if self.axes[axis].size != 1 and self.axes[axis].stride != stride:
                return False
            stride *= <int64_t>self.axes[axis].size
        return True

    cdef int complete(self, Template template, uint64_t first, steps) except -1:
        """Set the distribution and the place in the stream. The key is set separately."""
        cdef fk_operation operation = template.plan.operation
        cdef int axis
        if <size_t>self.itemsize != fk_stored_bytes(operation, template.plan.format):
            raise ValueError(f"elements of the buffer must have {fk_stored_bytes(operation, template.plan.format)} "
                             f"bytes, got {self.itemsize}")
        self.template = template
        self.count = 1
        for axis in reversed(range(self.plan.axis_count)):
            self.axes[axis].step = self.count if steps is None else steps[axis]
            self.count *= self.axes[axis].size
        self.sampled_bytes = self.count * fk_sampled_bytes(operation)
        self.plan.axes = self.axes
        self.plan.first = first
        self.plan.operation = operation
        self.plan.params = template.plan.params
        self.plan.format = template.plan.format
        self.plan.byte_swapped = template.plan.byte_swapped
        self.plan.store = template.plan.store
        return 0

    def __dealloc__(self):
        if self.axes != self.inline_axes:
            PyMem_Free(self.axes)
        PyBuffer_Release(&self.view)


cdef int _fill(const fk_plan *plans, size_t count, uint64_t elements, int threads, progress) except -1:
    cdef _Watcher watcher = _Watcher.__new__(_Watcher)
    cdef _CallingThread calling
    cdef fk_status status
    watcher.total = elements
    watcher.progress = progress
    calling.watcher = <void *>watcher
    calling.state = PyEval_SaveThread()
    status = fk_fill(plans, count, threads, _check_with_gil, &calling)
    PyEval_RestoreThread(calling.state)
    if status == FK_CANCELLED:
        raise watcher.error
    if status == FK_NO_MEMORY:
        raise MemoryError
    if status == FK_FAULT:
        raise OSError(errno.EFAULT, "memory of the array could not be written: if it is a memory-mapped file, the file "
                                    "was truncated or its disk is full")
    if progress is not None:
        progress(elements, elements)
    return 0


def span(array):
    """Return the address of a buffer's first byte, and the address after its last byte."""
    cdef Py_buffer view
    cdef uintptr_t start, end
    cdef int64_t distance
    cdef int axis
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    start = end = <uintptr_t>view.buf
    for axis in range(view.ndim):
        distance = (view.shape[axis] - 1) * view.strides[axis]
        if distance < 0:
            start += distance
        else:
            end += distance
    end += view.itemsize
    PyBuffer_Release(&view)
    return start, end


def fill_all(plans, int threads=1, progress=None):
    """Fill the buffers of several plans in parallel."""
    cdef size_t count = len(plans), i
    cdef fk_plan *copies = <fk_plan *>PyMem_Malloc(count * sizeof(fk_plan))
    cdef uint64_t elements = 0
    cdef Plan plan
    if copies is NULL:
        raise MemoryError
    try:
        for i in range(count):
            plan = <Plan?>plans[i]
            copies[i] = plan.plan
            elements += plan.count
        _fill(copies, count, elements, threads, progress)
    finally:
        PyMem_Free(copies)


def fill(out, int operation, key, stream, first, int rounding=FK_UNROUNDED, bint byte_swapped=False, steps=None,
         double scale=0.0, double center=0.0, double low=0.0, double high=0.0, double slope=0.0, double intercept=0.0,
         double lower_slope=0.0, double lower_intercept=0.0, double upper_slope=0.0, double upper_intercept=0.0,
         int store=FK_STORE_AUTO, int threads=1, progress=None):
    """Fill one buffer from the parameters of a template and a plan."""
    params = (scale, center, low, high, slope, intercept, lower_slope, lower_intercept, upper_slope, upper_intercept)
    template = Template(None, operation, rounding, params, byte_swapped, store)
    fill_all((Plan(out, template, key, stream, first, steps),), threads, progress)
