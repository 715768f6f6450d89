"""Turns any bytes into calls of public functions, which must succeed, or raise a one-line error and write nothing.

    pip install atheris
    python tests/fuzz/entry_points.py -max_total_time=600 -len_control=0 -max_len=64

A call may raise TypeError, ValueError, OSError or MemoryError with a message of one line. If it does, its array must
keep its bytes. Bytes between the elements of an array must never change.
"""

import json
import random
import sys
import tempfile
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fastkaiming as fk
from fastkaiming import checkpoint

ALLOWED_ERRORS = (TypeError, ValueError, OSError, MemoryError)
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 2**31, 2**32, 2**63, 2**64, -(2**63), True, None, "x", 1.5, -0.0, 1e-45, 1e300)
REALS = (*NUMBERS, float("nan"), float("inf"), float("-inf"), np.float32(0.02), np.int64(3), 1j, [1.0])
WORDS = ("fan_in", "fan_out", "fan_avg", "relu", "leaky_relu", "tanh", "OI*", "*IO", "BOI*", "IO*", "OO", "", "é", 3)
DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ">f4", np.int32, "S3", object, np.complex64)
TOKENS = ("normal", "(", ")", "std=", "0.02", ",", "'relu'", "{", "}", "[", "]", ":", '"', "\\", "\n", "é", "-", "9")
GUARD = 0xA5


class Choices:
    """Reads decisions from bytes. When no bytes are left, every decision is the first option."""

    def __init__(self, data: bytes) -> None:
        self.data = iter(data)

    def below(self, bound: int) -> int:
        return next(self.data, 0) % bound

    def one_of(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def some(self, option: Callable[[], Any], maximum: int) -> list[Any]:
        return [option() for _ in range(self.below(maximum + 1))]


def array(choices: Choices) -> tuple[Any, Any]:
    """Return an array of some shape, dtype and layout, and the bytes of the memory that contains it."""
    shape = choices.some(lambda: choices.one_of((1, 2, 3, 8, 0, 17)), 4)
    dtype = np.dtype(choices.one_of(DTYPES))
    if dtype.hasobject:
        return np.zeros(shape, dtype), np.zeros(0, np.uint8)
    memory = np.full(int(np.prod(shape)) * dtype.itemsize * 2 + 8, GUARD, np.uint8)
    whole = memory[choices.below(3) :][: int(np.prod(shape)) * dtype.itemsize * 2].view(dtype)
    made = whole.reshape(*shape, 2)[..., 0] if choices.below(2) else whole[: whole.size // 2].reshape(shape)
    if choices.below(3) == 1 and made.ndim:
        made = made[::-1].T
    if choices.below(8) == 1:
        made.flags.writeable = False
    return made, memory


def part(choices: Choices) -> Any:
    ends = (0, 1, 3, 8, 17, None, -1, 2**31, 2**63, 2**64)
    return slice(choices.one_of(ends), choices.one_of(ends), choices.one_of((None, 1, 2, -1, 0, 2**63)))


def options(choices: Choices, function: Callable[..., Any]) -> dict[str, Any]:
    """Return some of the keyword arguments of a function, usually of a valid type."""
    makers: dict[str, Callable[[], Any]] = {
        **dict.fromkeys(NAMES_OF_REALS, lambda: choices.one_of(REALS)),
        "mode": lambda: choices.one_of(WORDS),
        "nonlinearity": lambda: choices.one_of((*WORDS, np.tanh, np.sign)),
        "distribution": lambda: choices.one_of((*WORDS, "normal", "uniform", fk.Normal(0, 1), fk.Uniform(-1, 1e300))),
        "layout": lambda: choices.one_of(WORDS),
        "groups": lambda: choices.one_of(NUMBERS),
        "parts": lambda: choices.one_of(NUMBERS[:7]),
        "axis": lambda: choices.one_of(NUMBERS),
        "seed": lambda: choices.one_of(NUMBERS),
        "stream": lambda: choices.one_of(NUMBERS),
        "transposed": lambda: choices.one_of((False, True, 1)),
        "rng": lambda: choices.one_of((*NUMBERS, fk.Key(2**64 - 1, 2**63), fk.Generator(3))),
        "global_shape": lambda: tuple(choices.some(lambda: choices.one_of(NUMBERS[:11]), 4)),
        "index": lambda: tuple(choices.some(lambda: part(choices), 4)),
        "threads": lambda: choices.one_of((*NUMBERS[:6], 10**9, None)),
        "shape": lambda: tuple(choices.some(lambda: choices.one_of(SIZES), 4)),
        "dtype": lambda: choices.one_of(DTYPES),
    }
    parameters = signature(function).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.name in makers]
    needed = [name for name in names if signature(function).parameters[name].default is Parameter.empty]
    return {name: makers[name]() for name in (*needed, *choices.some(lambda: choices.one_of(names), 4))}


NAMES_OF_REALS = ("a", "b", "gain", "mean", "std", "low", "high", "loc", "scale", "fan", "value", "param")
SIZES = (1, 2, 3, 8, 0, 64, -1, 2**63, 2**64, True, 1.5, "x")  # no size that fits in memory and takes long

NAMED = {name: getattr(fk, name) for name in fk.__all__ if name not in ("init_", "progress", "set_num_threads")}
FUNCTIONS = [function for name, function in NAMED.items() if name.endswith("_") and not name.startswith("__")]
OTHERS = [
    *(getattr(fk, function.__name__.rstrip("_")) for function in FUNCTIONS if function.__name__.rstrip("_") in NAMED),
    *(fk.fans, fk.calculate_gain, fk.kaiming, fk.shard_slices),
    *(fk.Normal, fk.Uniform, fk.TruncatedNormal, fk.Generator, fk.Key),
]


def fill(choices: Choices) -> None:
    out, memory = array(choices)
    before = memory.tobytes()
    try:
        function = choices.one_of(FUNCTIONS)
        function(out, **options(choices, function))
    except ALLOWED_ERRORS:
        assert memory.tobytes() == before, "an array was changed although the call raised"
        raise
    if memory.size:
        out.view(f"V{out.itemsize}")[...] = np.full(out.itemsize, GUARD, np.uint8).view(f"V{out.itemsize}")[0]
        assert (memory == GUARD).all(), "bytes outside the elements were written"


def make(choices: Choices) -> None:
    """Call a function that returns numbers, distributions or new arrays."""
    function = choices.one_of(OTHERS)
    function(**options(choices, function))


def text(choices: Choices) -> str:
    """Return a string that resembles a rule or JSON."""
    return "".join(choices.some(lambda: choices.one_of(TOKENS), 24))


def rules(choices: Choices) -> None:
    arrays = {"a.weight": np.zeros((4, 3), np.float32), "a.bias": np.zeros(4, np.float32)}
    fk.init_(arrays, rng=1, rules={choices.one_of(("*", "a.*", "[", "*bias")): text(choices)})


def recipe(choices: Choices) -> None:
    value: Any = choices.one_of((text(choices), [4, 3], {"shape": [4, choices.one_of(NUMBERS)]}, NUMBERS[:4], None))
    tables = {
        "tensors": {"a": value},
        "rules": {"*": text(choices)},
        "seed": choices.one_of(NUMBERS),
        "dtype": "bfloat16",
    }
    checkpoint.plan({name: tables[name] for name in choices.some(lambda: choices.one_of(sorted(tables)), 4)})


def source(choices: Choices) -> None:
    """Read a JSON, TOML or safetensors file, which may be damaged."""
    entry = {"dtype": choices.one_of(("F32", "BF16", "F9")), "shape": [choices.one_of((2, 0, -1, 2**62))]}
    table = json.dumps({"a": entry | {"data_offsets": [0, choices.one_of((8, 4, 0, 2**63))]}}).encode()
    body = bytearray(choices.one_of((table, text(choices).encode(), b"[tensors]\na = [2, 2]")))
    for _ in range(choices.below(3)):
        body[choices.below(len(body) or 1) : choices.below(len(body) or 1)] = bytes([choices.below(256)])
    suffix = choices.one_of((".safetensors", ".json", ".toml"))
    prefix = len(body).to_bytes(8, "little") if suffix == ".safetensors" else b""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"source{suffix}"
        path.write_bytes(prefix + bytes(body) + bytes(8))
        checkpoint.plan(path)


CALLS = (fill, make, rules, recipe, source)


def call(data: bytes) -> None:
    """Make one call. Exceptions other than the allowed ones propagate."""
    choices = Choices(data)
    try:
        choices.one_of(CALLS)(choices)
    except ALLOWED_ERRORS as error:
        if not str(error) or "\n" in str(error):
            raise AssertionError("an error must have a message of one line") from error


def random_calls(seed: int, count: int) -> None:
    """Make calls from random bytes, for environments without atheris."""
    rng = random.Random(seed)
    for _ in range(count):
        call(rng.randbytes(rng.randint(1, 64)))


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, call)
    atheris.Fuzz()
