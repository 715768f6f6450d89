"""Speed of fastkaiming.jax and of jax.nn.initializers, measured in pairs (see harness.py).

    python benchmarks/jax_fills.py [--quick]

Every row creates one array of 256 MiB on JAX's default device and waits for it. JAX's functions are compiled before the
timing starts.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import jax
from figures import SPEED_UP
from harness import Case, Timed, plain
from machine import machine, one_line

import fastkaiming.jax

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
SIDE, QUICK_SIDE = 8192, 256
NAMES = ("he_normal", "he_uniform", "normal")


def cases(side: int) -> list[Case]:
    """Return the rows: `make`, an eager call and a compiled one, each against JAX's initializer of the same name."""
    key, shape = jax.random.key(0), (side, side)

    def timed(name: str, made: Callable[[], Any]) -> Timed:
        return Timed(name, list, lambda kept: kept.append(made().block_until_ready()), side * side)  # freed untimed

    def case(name: str, how: str, minimum: float, target: float) -> Case:
        initializer, jax_initializer = (getattr(module, name)() for module in (fastkaiming.jax, jax.nn.initializers))
        compiled = jax.jit(initializer, static_argnums=1)
        calls = {
            "make": lambda: fastkaiming.jax.make(initializer, key, shape),
            "eager": lambda: initializer(key, shape),
            "under jit": lambda: compiled(key, shape),
        }
        other = timed(f"jax.nn.initializers.{name}", lambda: jax_initializer(key, shape))
        return Case(
            f"float32 {name}, {how}, against JAX", SPEED_UP, minimum, target, timed("fastkaiming", calls[how]), (other,)
        )

    made = [case(name, "make", 10, 20) for name in NAMES]
    return [*made, case("he_normal", "eager", 10, 20), case("he_normal", "under jit", 5, 10)]


def main() -> None:
    command = argparse.ArgumentParser(description="Measure fastkaiming.jax against jax.nn.initializers.")
    command.add_argument("--quick", action="store_true", help="use small arrays, to check that the program runs")
    quick = command.parse_args().quick
    print(one_line(machine() | {"JAX": jax.__version__, "device": jax.devices()[0].device_kind}), flush=True)
    for row in cases(QUICK_SIDE if quick else SIDE):
        print(plain(row.measure(1 if quick else ROUNDS)), flush=True)


if __name__ == "__main__":
    main()
