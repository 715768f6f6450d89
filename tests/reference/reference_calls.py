"""Public Kaiming calls as section 3 of docs/stream-v1.md defines them; reference.py generates the values.

Run as a program, it computes the table of their digests:

    python tests/reference/reference_calls.py > tests/vectors/calls.txt
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import reference
from reference import Place
from reference_arithmetic import Precision, Reals

GAINS = {
    "relu": math.sqrt(2),
    "tanh": 5 / 3,
    "selu": 3 / 4,
}  # 1 for the others; that of leaky_relu depends on its slope
PRECISIONS: dict[str, Precision] = {"float32": np.float32, "float64": np.float64}


@dataclass(frozen=True)
class Call:
    """A call with an integer `rng`, for weights with the axes outputs, inputs and receptive field."""

    function: str
    dtype: str
    shape: tuple[int, ...]
    mode: str
    a: float
    nonlinearity: str
    seed: int

    @property
    def fan(self) -> float:
        outputs, inputs, *field = self.shape
        fan_in, fan_out = inputs * math.prod(field), outputs * math.prod(field)
        if self.mode == "fan_avg":
            return (fan_in + fan_out) / 2
        if self.mode == "fan_geo_avg":
            return math.sqrt(fan_in * fan_out)
        return float(fan_in if self.mode == "fan_in" else fan_out)

    @property
    def gain(self) -> float:
        if self.nonlinearity == "leaky_relu":
            return math.sqrt(2 / (1 + self.a * self.a))
        return GAINS.get(self.nonlinearity, 1.0)

    @property
    def std(self) -> float:
        return self.gain / math.sqrt(self.fan)

    @property
    def bound(self) -> float:
        return math.sqrt(3) * self.std

    def values(self) -> Reals:
        place = Place(reference.philox_key(self.seed), stream=0, first=0, count=math.prod(self.shape))
        precision = PRECISIONS[self.dtype]
        if self.function == "kaiming_normal_":
            return reference.normal(place, reference.normal_parameters(0, self.std, precision))
        return reference.uniform(place, reference.uniform_parameters(-self.bound, self.bound, precision))

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.function} {self.dtype} {shape} {self.mode} {self.a.hex()} {self.nonlinearity} {self.seed}"


def frozen_calls() -> Iterator[Call]:
    layers: list[tuple[tuple[int, ...], str, float, str]] = [
        ((64, 37), "fan_in", 0.0, "leaky_relu"),
        ((16, 3, 7, 7), "fan_out", 0.01, "leaky_relu"),
        ((23, 12, 5), "fan_avg", math.sqrt(5), "leaky_relu"),
        ((30, 14), "fan_geo_avg", -0.3, "leaky_relu"),
        ((11, 6, 3, 3), "fan_in", 0.0, "relu"),
        ((19, 10, 2, 2, 2), "fan_out", 0.0, "tanh"),
        ((8, 13), "fan_avg", 0.0, "selu"),
        ((7, 3, 9), "fan_geo_avg", 0.0, "linear"),
        ((21, 40), "fan_in", 0.5, "sigmoid"),  # whose gain does not depend on the slope
    ]
    for function, dtype in product(("kaiming_normal_", "kaiming_uniform_"), PRECISIONS):
        for seed, layer in enumerate(layers):
            yield Call(function, dtype, *layer, seed)


if __name__ == "__main__":
    print("# Stream v1, frozen: public calls and the SHA-256 of the weights, in C order, elements little-endian.")
    print("#")
    print("# Computed from docs/stream-v1.md, without the library, by the command")
    print("#")
    print("#     python tests/reference/reference_calls.py > tests/vectors/calls.txt")
    print("#")
    print("# The seed is the integer given for rng; the slope a is hexadecimal.")
    print("#")
    print("# function dtype shape mode a nonlinearity seed sha256")
    for call in frozen_calls():
        print(call, reference.digest(call.values()))
