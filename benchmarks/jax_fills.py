"""fastkaiming.jax beside jax.nn.initializers, measured in pairs (see harness.py); JAX has compiled its own beforehand.

    python benchmarks/jax_fills.py [--quick]

Every row is one array of 256 MiB on JAX's default device, made and waited for.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import jax
from figures import SPEED_UP
from harness import Case, Timed, plain
from machine import in_words, machine

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
        return Timed(name, list, lambda kept: kept.append(made().block_until_ready()), side * side)  # freed unclocked

    def case(name: str, how: str, minimum: float, target: float) -> Case:
        initializer, theirs = (getattr(module, name)() for module in (fastkaiming.jax, jax.nn.initializers))
        compiled = jax.jit(initializer, static_argnums=1)
        ways = {
            "make": lambda: fastkaiming.jax.make(initializer, key, shape),
            "eager": lambda: initializer(key, shape),
            "under jit": lambda: compiled(key, shape),
        }
        other = timed(f"jax.nn.initializers.{name}", lambda: theirs(key, shape))
        return Case(
            f"float32 {name}, {how}, against JAX", SPEED_UP, minimum, target, timed("fastkaiming", ways[how]), (other,)
        )

    made = [case(name, "make", 10, 20) for name in NAMES]
    return [*made, case("he_normal", "eager", 10, 20), case("he_normal", "under jit", 5, 10)]


def main() -> None:
    command = argparse.ArgumentParser(description="Measure fastkaiming.jax against jax.nn.initializers.")
    command.add_argument("--quick", action="store_true", help="small arrays: shows that it runs, no more")
    quick = command.parse_args().quick
    print(in_words(machine() | {"JAX": jax.__version__, "device": jax.devices()[0].device_kind}), flush=True)
    for row in cases(QUICK_SIDE if quick else SIDE):
        print(plain(row.measure(1 if quick else ROUNDS)), flush=True)


if __name__ == "__main__":
    main()
