"""Hints: the ends of error messages that say what to do instead.

A hint begins with a colon or a semicolon. It is empty if nothing is known about the value. The classes of other
libraries are recognized by their modules, so that none of these libraries is imported.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import numpy as np

_IN_PLACE_ONLY = ("constant_", "fill_", "ones_", "zeros_")  # have no functional variants
_IN_TORCH = (  # functions with the same names in fastkaiming.torch
    *("constant_", "normal_", "ones_", "trunc_normal_", "uniform_", "zeros_"),
    *("kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_"),
)
_CALLS_IN_TORCH: Mapping[str | None, str] = {
    **{name: f": call {name} of fastkaiming.torch" for name in _IN_TORCH},
    "he_normal_": ": call kaiming_normal_ of fastkaiming.torch with nonlinearity='relu'",
    "he_uniform_": ": call kaiming_uniform_ of fastkaiming.torch with nonlinearity='relu'",
    "init_": ": call init_module_ of fastkaiming.torch",
}
# Names of nonlinearities and dtypes in other libraries, in lower case and without other characters.
_OTHER_NAMES = {
    **dict.fromkeys(("identity", "none"), "linear"),
    **dict.fromkeys(("lrelu", "prelu", "rrelu"), "leaky_relu"),
    **dict.fromkeys(("gelunew", "gelupytorchtanh"), "gelu_tanh"),
    **{f"fp{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "bf16": "bfloat16",
    "logistic": "sigmoid",
}
# For names of arguments in other libraries: the argument here, and another one that a function with it also has.
_OTHER_ARGUMENTS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("rng", "rng", ("seed", "key", "generator", "random_state", "random_seed", "rngs", "rng_key")),
    ("low", "high", ("a", "lower", "minval", "min", "from")),
    ("high", "low", ("b", "upper", "maxval", "max", "to")),
    ("a", "b", ("low", "minval", "min", "from")),
    ("b", "a", ("high", "maxval", "max", "to")),
    ("a", "nonlinearity", ("negative_slope", "slope", "alpha", "param")),
    ("mean", "std", ("loc", "mu")),
    ("std", "mean", ("scale", "stddev", "sigma")),
    ("nonlinearity", "a", ("activation", "act")),
    ("layout", "groups", ("in_axis", "out_axis", "batch_axis")),
    ("mode", "mode", ("fan_mode",)),
    ("distribution", "mode", ("dist", "family")),
    ("shape", "dtype", ("size",)),
    ("threads", "threads", ("num_threads", "n_threads", "n_jobs")),
)
_INTEGERS_OF_TORCH = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


def is_from(value: object, *libraries: str) -> bool:
    """Return whether the class of an object, or a class that it inherits from, belongs to one of these libraries."""
    return any(str(base.__module__).partition(".")[0] in libraries for base in type(value).__mro__)


def for_out(out: Any, function: str | None) -> str:
    """Return how to fill an object that is not an array, or whose memory NumPy cannot access."""
    if is_from(out, "torch"):
        return _for_tensor(out, function) if hasattr(out, "untyped_storage") else _CALLS_IN_TORCH["init_"]
    if is_of_jax(out):
        return ": arrays of JAX cannot be modified, so call an initializer of fastkaiming.jax, which returns a new one"
    if is_from(out, "dask"):
        return ": call an initializer of fastkaiming.dask, which returns a lazy array"
    if isinstance(out, Mapping):
        return (
            ": flatten nested mappings first" if function == "init_" else ": call init_ to fill each array of a mapping"
        )
    if function in _IN_PLACE_ONLY or not _is_shape(out):
        return ": pass a NumPy array, such as numpy.empty(shape, numpy.float32)"
    return f": call {str(function).removesuffix('_')} for a new array of this shape"


def did_you_mean(name: str, options: Collection[str]) -> str:
    """Return a question that names the option that a name resembles."""
    similar = _similar_option(name, options)
    return "" if similar is None else f"; did you mean {similar!r}?"


def _similar_option(name: str, options: Collection[str]) -> str | None:
    by_letters = {_letters(option): option for option in options}
    by_letters |= {other: option for other, option in _OTHER_NAMES.items() if option in options}
    close = get_close_matches(_letters(name.rpartition(".")[2]), by_letters, n=1, cutoff=0.84)
    return by_letters[close[0]] if close else None


def for_text(text: str, arguments: Mapping[str, Collection[str]]) -> str:
    """Return which argument takes a text that was passed as a number.

    ``arguments`` has the options of each argument, which is a format string such as ``"mode={!r}"``.
    """
    for argument, options in arguments.items():
        similar = _similar_option(text, options)
        if similar is not None:
            return f": pass {argument.format(similar)}"
    return ""


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def for_call(function: str, parameters: Collection[str], unknown: str | None) -> str:
    """Return the parameters of a function that was called with other ones, and which of them replaces an unknown one.

    The name of the function is that of a functional variant or of a similar function, which has no parameter ``out``.
    """
    hint = "; it takes " + ", ".join(parameters)
    if unknown is None:
        return hint
    if unknown in ("out", "tensor", "array"):
        return f"{hint}; call {function}_ to fill an existing array"
    return hint + for_argument(unknown, parameters)


def for_argument(name: str, parameters: Collection[str]) -> str:
    """Return a question that names the parameter to which an argument of another library corresponds."""
    if name in ("lower", "upper") and "b" in parameters:  # JAX multiplies these bounds by the standard deviation
        return f"; pass {'a' if name == 'lower' else 'b'}={name} * std"
    for argument, companion, others in _OTHER_ARGUMENTS:
        if name in others and argument in parameters and companion in parameters:
            return f"; did you mean {argument!r}?"
    return did_you_mean(name, parameters)


def for_shape(value: Any, function: str | None) -> str:
    """Return what to pass as a shape. ``function`` is the name of the functional variant that was called, if any."""
    if is_of_jax(value) and (type(value).__name__ == "PRNGKeyArray" or _could_be_key(value)):
        return ": call an initializer of fastkaiming.jax, which takes keys of JAX"
    if isinstance(value, type | np.dtype) or (isinstance(value, str) and "float" in value):
        return ": pass the shape before the dtype"
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        return ": pass tuple(shape)"
    if hasattr(value, "shape"):
        return ": pass its shape" + (f", or call {function}_ to fill it" if function else "")
    return ""


def for_dtype(value: Any, names: Collection[str], function: str | None) -> str:
    """Return what to pass as a dtype. ``function`` is the name of the functional variant that was called, if any."""
    similar = did_you_mean(str(value), names) if isinstance(value, str) or is_from(value, "torch") else ""
    if similar or not function or is_from(value, "torch"):
        return similar
    arguments = "pass the shape as one tuple, and the arguments after dtype by their names"
    return f": dtype is the second argument of {function}, so {arguments}"


def for_function_of_torch(function: Any, options: Collection[str], slope: str) -> str | None:
    """Return what to pass instead of a nonlinearity of torch, or None if the function is not from torch.

    ``options`` are the names of nonlinearities, and ``slope`` is the name of the argument for their parameter.
    """
    kind = function if isinstance(function, type) else type(function)
    modules = [str(getattr(each, "__module__", None)) for each in (function, *kind.__mro__)]
    if not any(module.partition(".")[0] == "torch" for module in modules):
        return None
    name = getattr(function, "__name__", kind.__name__)
    if getattr(function, "approximate", None) == "tanh":
        name += "_tanh"
    similar = _similar_option(name, options)
    if similar is None:
        return ": pass lambda z: function(torch.from_numpy(z)).detach().numpy()"
    number = getattr(function, {"leaky_relu": "negative_slope", "elu": "alpha"}.get(similar, ""), None)
    return f"; did you mean {similar!r}?" if number is None else f"; did you mean {similar!r} with {slope}={number}?"


def for_rng(rng: Any) -> str:
    """Return what to pass as ``rng`` instead of a source of randomness of another library."""
    if is_of_jax(rng):
        return ": call an initializer of fastkaiming.jax, which takes keys of JAX, or pass an integer seed"
    if is_from(rng, "torch") and hasattr(rng, "initial_seed"):
        return ": call a function of fastkaiming.torch, which takes generator=, or pass generator.initial_seed()"
    if isinstance(rng, np.random.SeedSequence):
        return ": pass numpy.random.default_rng(sequence) or int(sequence.generate_state(1, numpy.uint64)[0])"
    if isinstance(rng, np.random.BitGenerator):
        return ": pass numpy.random.Generator(bit_generator)"
    if isinstance(rng, np.random.RandomState) or rng is np.random:
        return ": pass numpy.random.default_rng(seed) or an integer"
    if is_from(rng, "random") or rng is sys.modules.get("random"):
        return ": pass an integer, such as random.getrandbits(64)"
    if isinstance(rng, type) or rng is np.random.default_rng:
        return f": pass what it returns, for example {rng.__name__}(seed)"
    if isinstance(rng, str):
        is_number = rng.isascii() and rng.isdigit() and len(rng) <= len(str(2**64))
        return f": pass int({rng!r})" if is_number else ": pass Generator(seed).key(name) for the stream of a name"
    if isinstance(rng, float | np.floating) and 0 <= rng < 2**64 and rng.is_integer():
        return f": pass {int(rng)}"
    return _for_integers(rng)


def _for_integers(rng: Any) -> str:
    """Return what to pass instead of several integers."""
    if isinstance(rng, np.ndarray) and rng.dtype.kind in "iu" and rng.ndim == 1:
        key = ", or call an initializer of fastkaiming.jax if the array is a key of JAX" if _could_be_key(rng) else ""
        return f": pass numpy.random.default_rng(array){key}"
    is_sequence = isinstance(rng, list | tuple) and _is_shape(rng)
    return ": pass numpy.random.default_rng(sequence)" if is_sequence else ""


def _could_be_key(array: Any) -> bool:
    """Return whether an array has the dtype and the shape of the words of a key of JAX."""
    return bool(array.dtype == np.uint32 and array.shape in ((2,), (4,)))


def is_of_jax(value: Any) -> bool:
    """Return whether an object is an array or a key of JAX, or a view of the memory of one."""
    while isinstance(value, np.ndarray | memoryview):
        value = value.base if isinstance(value, np.ndarray) else value.obj
    return is_from(value, "jax", "jaxlib")


def _is_shape(value: Any) -> bool:
    sizes = value if isinstance(value, Sequence) else [value]
    return all(isinstance(size, int) for size in sizes)


def _for_tensor(tensor: Any, function: str | None) -> str:
    """Return how to fill a tensor of torch whose memory NumPy cannot access."""
    name = str(tensor.dtype).removeprefix("torch.")
    if hasattr(tensor, "materialize"):
        return ": it has no shape yet, so run a forward pass of its lazy module first"
    if tensor.device.type not in ("cpu", "meta"):
        return (
            f": fastkaiming.torch leaves tensors on {tensor.device} to torch, so fill a tensor on the CPU and copy it"
        )
    if str(tensor.layout) != "torch.strided" or name not in ("float32", "float64", "float16", *_INTEGERS_OF_TORCH):
        return f": fastkaiming.torch does not fill {tensor.dtype} ({tensor.layout}) either"
    if _has_no_memory(tensor):
        return ": it has no memory, so allocate it first"
    if function in _CALLS_IN_TORCH and not name.startswith("float8"):
        return _CALLS_IN_TORCH[function]
    if type(tensor).__name__ == "DTensor":
        return ": pass out.to_local() with global_shape= and index="
    if name in _INTEGERS_OF_TORCH:
        return f": pass out.detach().view(torch.{_INTEGERS_OF_TORCH[name]}).numpy().view(ml_dtypes.{name})"
    return ": pass out.detach()" if tensor.requires_grad else ": fill another tensor and copy it by out.copy_(other)"


def _has_no_memory(tensor: Any) -> bool:
    if tensor.is_meta:
        return True
    with suppress(NotImplementedError):  # a transform of torch.func has replaced the tensor
        return bool(tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0)
    return False
