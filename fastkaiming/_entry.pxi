"""Part of _core.pyx: the entry point of every fill, with a cache of the parameters of earlier calls."""


cdef enum:
    MAX_TEMPLATES = 4096

cdef object _float64 = float64, _ndarray = ndarray  # every fill uses them, and a global name is looked up in a dict


cdef int _type_code(arg) noexcept:
    """Return a number for the type of an argument that can be a part of a cache key, or 0 for any other type."""
    kind = type(arg)
    if kind is float or kind is _float64:
        return 1
    if arg is None:
        return 2
    if kind is str:
        return 3
    if kind is int:
        return 4
    if kind is bool:
        return 5
    return 0


@cython.final
cdef class EntryPoint:
    """The entry point of every fill.

    A fill is described by a distribution factory and its arguments: `distribution_factory(*factory_args)`, or
    `distribution_factory(shape, *factory_args)`, returns a distribution. Its parameters for a dtype, a `Template`, are
    cached, so that the second of two equal fills runs no Python code. The first fill, and unusual arguments, are
    handled by the functions that are passed to the constructor:

    prepare(out, distribution_factory, factory_args, by_shape, global_shape, function)
        Check the factory's arguments and the memory; return the memory as an array, and the template or None.
    check_memory(array)
        Raise an exception if the memory must not be written to.
    shape_of(global_shape), shard_offset(shape, global_shape, index)
        Check the shape of the whole tensor; return which of its elements the array contains.
    threads_for(threads, nbytes), min_parallel_bytes
        Check the number of threads, or choose it for a fill of `min_parallel_bytes` bytes or more.
    key_from(rng), key_type
        Return a seed or a key. A key has the type `key_type` and the attributes `seed` and `stream`.
    context
        A ContextVar whose value is None, or an object with the attributes `progress` and `deferred`.
    add_name(error, function)
        Put the name of the public function that was called before the message of an error. If the argument `function`
        of a fill is None, messages stay as they are.
    tensor_types, storage_of, exchange
        Tensor types whose memory is accessed by DLPack, a function that returns the owner of a tensor's memory, and
        the capsule `__dlpack_c_exchange_api__` of these types. NumPy arrays are accessed by the buffer protocol.

    If `prepare` returns no template, nothing is filled and None is returned.
    """

    cdef object prepare, check_memory, shape_of, shard_offset, threads_for, key_from, key_type, context, add_name
    cdef tuple tensor_types
    cdef object storage_of, capsule
    cdef const DLPackExchangeAPI *exchange
    cdef uint64_t min_parallel_bytes
    cdef object templates  # a dict: its methods are thread-safe without the GIL

    def __init__(self, prepare, check_memory, shape_of, shard_offset, threads_for, uint64_t min_parallel_bytes,
                 key_from, key_type, context, add_name, tensor_types=(), storage_of=None, exchange=None):
        self.prepare = prepare
        self.check_memory = check_memory
        self.shape_of = shape_of
        self.shard_offset = shard_offset
        self.threads_for = threads_for
        self.min_parallel_bytes = min_parallel_bytes
        self.key_from = key_from
        self.key_type = key_type
        self.context = context
        self.add_name = add_name
        self.tensor_types = tensor_types
        self.storage_of = storage_of
        if exchange is not None:
            self.capsule = exchange
            self.exchange = <const DLPackExchangeAPI *>PyCapsule_GetPointer(exchange, "dlpack_exchange_api")
            if self.exchange.version.major != FK_DLPACK_MAJOR_VERSION:
                self.exchange = NULL
            elif self.exchange.dltensor_from_py_object_no_sync is NULL:
                self.exchange = NULL
        self.templates = {}

    def fill(self, out, distribution_factory, tuple factory_args, rng, global_shape, index, threads, function=None):
        """Fill an array from `distribution_factory(*factory_args)` and return it."""
        return self.fill_from(out, distribution_factory, factory_args, False, rng, global_shape, index, threads,
                              function)

    def fill_by_shape(self, out, distribution_factory, tuple factory_args, rng, global_shape, index, threads,
                      function=None):
        """Fill an array from `distribution_factory(shape, *factory_args)` and return it.

        The shape is that of the whole tensor.
        """
        return self.fill_from(out, distribution_factory, factory_args, True, rng, global_shape, index, threads,
                              function)

    cdef object fill_from(self, out, distribution_factory, tuple factory_args, bint by_shape, rng, global_shape, index,
                          threads, function):
        cdef Plan plan = Plan.__new__(Plan)
        cdef int max_threads
        try:
            max_threads = self.make_plan(plan, out, distribution_factory, factory_args, by_shape, rng, global_shape,
                                         index, threads, function)
        except (TypeError, ValueError) as error:
            if function is not None:
                self.add_name(error, function)
            raise
        if max_threads == 0:
            return None
        self.run_or_defer(plan, max_threads)
        return out

    cdef int make_plan(self, Plan plan, out, distribution_factory, tuple factory_args, bint by_shape, rng, global_shape,
                       index, threads, function) except -1:
        """Check all arguments and complete the plan; return the maximum number of threads, or 0 to fill nothing."""
        cdef uint64_t first = 0
        cdef int max_threads = 1
        array, steps, template = out, None, None
        cache_key = self.acquire_and_make_cache_key(plan, out, distribution_factory, factory_args, by_shape,
                                                    global_shape)
        if cache_key is not None:
            template = self.templates.get(cache_key)
        if template is None:
            array, template = self.prepare(out, distribution_factory, factory_args, by_shape, global_shape, function)
            if template is None:
                return 0
            if cache_key is not None:
                self.add_to_cache(cache_key, template)
            plan.acquire(array)
        elif not plan.is_contiguous():
            self.check_memory(array)
        if global_shape is not None or index is not None:
            first, steps, reversal = self.shard_offset(array.shape, global_shape, index)
            if reversal is not None:
                plan.acquire(array[reversal])
        plan.complete(template, first, steps)
        if threads is not None or plan.sampled_bytes >= self.min_parallel_bytes:
            max_threads = self.threads_for(threads, plan.sampled_bytes)
        if plan.tensor is not None and plan.sampled_bytes >= self.min_parallel_bytes:
            plan.storage = self.storage_of(plan.tensor)  # a callback may replace the tensor's memory
        self.set_key(plan, rng)
        return max_threads

    cdef object acquire_and_make_cache_key(self, Plan plan, out, distribution_factory, tuple factory_args,
                                           bint by_shape, global_shape):
        """Acquire the memory, and return the cache key of the template.

        Return None if the memory cannot be acquired here, or if equal arguments may have different meanings.
        """
        cdef uint64_t kinds = 0
        cdef int kind
        if self.exchange is not NULL and type(out) in self.tensor_types:
            dtype = plan.acquire_tensor(self.exchange, out)
            if dtype == 0:
                return None
        elif type(out) is _ndarray or isinstance(out, _ndarray):
            try:
                plan.acquire(out)
            except ValueError:  # it is read-only
                return None
            dtype = out.dtype
        else:
            return None
        for arg in factory_args:
            kind = _type_code(arg)
            if kind == 0:
                return None
            kinds = 8 * kinds + kind  # True == 1.0, but True is not accepted as a number
        shape = None
        if by_shape:
            shape = plan.shape() if global_shape is None else self.shape_of(global_shape)
        return distribution_factory, factory_args, kinds, dtype, shape

    cdef int add_to_cache(self, tuple cache_key, template) except -1:
        """Add a template to the cache, which must not keep objects of the caller alive."""
        distribution_factory, factory_args, kinds, dtype, shape = cache_key
        if getattr(dtype, "metadata", None) is not None:
            return 0
        if len(self.templates) >= MAX_TEMPLATES:
            self.templates.clear()
        factory_args = tuple([float(arg) if type(arg) is float64 else arg for arg in factory_args])
        self.templates.setdefault((distribution_factory, factory_args, kinds, dtype, shape), template)
        return 0

    cdef int set_key(self, Plan plan, rng) except -1:
        """Set the key of a plan from a seed, a key or a generator."""
        key = rng if type(rng) is int or type(rng) is self.key_type else self.key_from(rng)
        if type(key) is int:
            try:
                plan.plan.key = fk_philox_key(key)
            except OverflowError:
                self.key_from(rng)  # raises an error that names the argument
                raise
        else:
            plan.plan.key = fk_philox_key(key.seed)
            plan.plan.stream = key.stream
        return 0

    cdef int run_or_defer(self, Plan plan, int threads) except -1:
        """Fill now, or append the plan to the list of the surrounding `with` block if that block defers fills."""
        cdef PyObject *value = NULL
        PyContextVar_Get(self.context, NULL, &value)
        context = <object>value
        Py_DECREF(value)
        progress = None
        if context is not None:
            if context.deferred is not None:
                context.deferred.append(plan)
                return 0
            progress = context.progress
        if plan.count > 0:
            _fill(&plan.plan, 1, plan.count, threads, progress)
        return 0
