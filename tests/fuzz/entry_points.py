"""Any bytes become a call of the public functions, which must fill, or refuse in one line and write nothing.

    pip install atheris
    python tests/fuzz/entry_points.py -max_total_time=600 -len_control=0 -max_len=64

What a call may raise is TypeError, ValueError or OSError, in one line; an array that was refused keeps its bytes.
"""

import json
import random
import sys
import tempfile
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fastkaiming as fk
from fastkaiming import checkpoint

REFUSALS = (TypeError, ValueError, OSError)
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 2**31, 2**32, 2**63, 2**64, -(2**63), True, None, "x", 1.5, -0.0, 1e-45, 1e300)
REALS = (*NUMBERS, float("nan"), float("inf"), float("-inf"), np.float32(0.02), np.int64(3), 1j, [1.0])
WORDS = ("fan_in", "fan_out", "fan_avg", "relu", "leaky_relu", "tanh", "OI*", "*IO", "BOI*", "IO*", "OO", "", "é", 3)
DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ">f4", np.int32, "S3", object, np.complex64)
PIECES = ("normal", "(", ")", "std=", "0.02", ",", "'relu'", "{", "}", "[", "]", ":", '"', "\\", "\n", "é", "-", "9")
GUARD = 0xA5


class Choices:
    """Reads decisions from bytes; when they end, every decision is the first one."""

    def __init__(self, data: bytes) -> None:
        self.data = iter(data)

    def below(self, bound: int) -> int:
        return next(self.data, 0) % bound

    def one_of(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def some(self, option: Callable[[], Any], most: int) -> list[Any]:
        return [option() for _ in range(self.below(most + 1))]


def array(choices: Choices) -> Any:
    """Return memory of some shape, dtype and layout, a few kilobytes of it."""
    shape = choices.some(lambda: choices.one_of((1, 2, 3, 8, 0, 17)), 4)
    dtype = np.dtype(choices.one_of(DTYPES))
    if dtype.hasobject:
        return np.zeros(shape, dtype)
    memory = np.full(int(np.prod(shape)) * dtype.itemsize * 2 + 8, GUARD, np.uint8)
    whole = memory[choices.below(3) :][: int(np.prod(shape)) * dtype.itemsize * 2].view(dtype)
    made = whole.reshape(*shape, 2)[..., 0] if choices.below(2) else whole[: whole.size // 2].reshape(shape)
    if choices.below(3) == 1 and made.ndim:
        made = made[::-1].T
    if choices.below(8) == 1:
        made.flags.writeable = False
    return made


def part(choices: Choices) -> Any:
    ends = (0, 1, 3, 8, 17, None, -1, 2**31, 2**63, 2**64)
    return slice(choices.one_of(ends), choices.one_of(ends), choices.one_of((None, 1, 2, -1, 0, 2**63)))


def options(choices: Choices, function: Callable[..., Any]) -> dict[str, Any]:
    """Return some of the keyword arguments of a function, of the right kind as a rule."""
    makers: dict[str, Callable[[], Any]] = {
        "a": lambda: choices.one_of(REALS),
        "mode": lambda: choices.one_of(WORDS),
        "nonlinearity": lambda: choices.one_of(WORDS),
        "gain": lambda: choices.one_of(REALS),
        "mean": lambda: choices.one_of(REALS),
        "std": lambda: choices.one_of(REALS),
        "low": lambda: choices.one_of(REALS),
        "high": lambda: choices.one_of(REALS),
        "b": lambda: choices.one_of(REALS),
        "fan": lambda: choices.one_of(REALS),
        "layout": lambda: choices.one_of(WORDS),
        "groups": lambda: choices.one_of(NUMBERS),
        "transposed": lambda: choices.one_of((False, True, 1)),
        "rng": lambda: choices.one_of((*NUMBERS, fk.Key(2**64 - 1, 2**63), fk.Generator(3))),
        "global_shape": lambda: tuple(choices.some(lambda: choices.one_of(NUMBERS[:11]), 4)),
        "index": lambda: tuple(choices.some(lambda: part(choices), 4)),
        "threads": lambda: choices.one_of((*NUMBERS[:6], 10**9, None)),
    }
    names = [name for name in signature(function).parameters if name in makers]
    return {name: makers[name]() for name in choices.some(lambda: choices.one_of(names), 4)}


FUNCTIONS = (
    *(fk.kaiming_normal_, fk.kaiming_uniform_, fk.xavier_normal_, fk.lecun_uniform_, fk.variance_scaling_),
    *(fk.normal_, fk.uniform_, fk.trunc_normal_),
)


def fill(choices: Choices) -> None:
    out = array(choices)
    before = out.copy()
    try:
        function = choices.one_of(FUNCTIONS)
        function(out, **options(choices, function))
    except REFUSALS:
        assert out.tobytes() == before.tobytes(), "a refused array was written to"
        raise


def text(choices: Choices) -> str:
    """Return a text that is nearly a rule, or nearly JSON."""
    pieces = (
        "normal",
        "(",
        ")",
        "std=",
        "0.02",
        ",",
        "'relu'",
        "{",
        "}",
        "[",
        "]",
        ":",
        '"',
        "\\",
        "\n",
        "é",
        "-",
        "9",
    )
    return "".join(choices.some(lambda: choices.one_of(pieces), 24))


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
    """Read a file: JSON, TOML, or the header of safetensors, whole or bent."""
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


CALLS = (fill, rules, recipe, source)


def call(data: bytes) -> None:
    """Make one call; whatever it raises but a refusal comes out."""
    choices = Choices(data)
    try:
        choices.one_of(CALLS)(choices)
    except REFUSALS as error:
        if not str(error) or "\n" in str(error):
            raise AssertionError("a refusal must have a reason, in one line") from error


def random_calls(seed: int, count: int) -> None:
    """Make calls of random bytes, for where there is no atheris."""
    chance = random.Random(seed)
    for _ in range(count):
        call(chance.randbytes(chance.randint(1, 64)))


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, call)
    atheris.Fuzz()
