"""What torch's models and tensors cost to initialize, under fastkaiming against plain torch (see harness.py).

    python benchmarks/torch_fills.py [--rounds N] [--only PATTERN] [--quick]

The models need transformers; their configurations stand here, and nothing is downloaded. A model is built anew in every
run, in fresh memory, and let go at the end. Both sides have as many threads as torch takes by itself.
"""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from harness import Case, Figure, Timed, UnavailableError, median, plain

import fastkaiming.torch as ours

if TYPE_CHECKING:
    from collections.abc import Callable

MILLISECONDS = 1e3

SPEED_UP = Figure(
    lambda ours, theirs: theirs / ours,
    *(".2f", "x", True, "seconds"),
    lambda result: f"{MILLISECONDS * median(result.ours):.4g} ms against {MILLISECONDS * median(result.theirs):.4g} ms",
)


def under_ours(make: Callable[[], object]) -> Callable[[Any], object]:
    def run(_: Any) -> object:
        with ours.accelerate():
            return make()

    return run


def built(name: str, make: Callable[[], object], floor: float, aim: float, repeats: int = 1) -> Case:
    """Return a row for code that runs as it is, in the block and out of it."""
    accelerated = Timed("fastkaiming", lambda: None, under_ours(make), 1)
    return Case(
        name, SPEED_UP, floor, aim, accelerated, (Timed("torch", lambda: None, lambda _: make(), 1),), 0, repeats
    )


def filled(name: str, tensor: Any, floor: float, aim: float, **arguments: float) -> Case:
    """Return a row for one initializer on memory that was touched before."""
    mine, theirs = getattr(ours, name), getattr(torch.nn.init, name)
    title = f"{name} on {' x '.join(map(str, tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"
    return Case(
        title,
        SPEED_UP,
        *(floor, aim),
        Timed("fastkaiming", lambda: tensor, lambda target: mine(target, **arguments), 1),
        (Timed("torch", lambda: tensor, lambda target: theirs(target, **arguments), 1),),
    )


def from_config(kind: str, **settings: object) -> Callable[[], object]:
    """Return what builds a model of transformers."""

    def make() -> object:
        if find_spec("transformers") is None:
            raise UnavailableError("transformers is not installed")
        import transformers

        return transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings))

    return make


def cases(scale: int) -> list[Case]:
    """Return the table's rows; ``scale`` divides the width of everything."""
    llama = from_config(
        "LlamaConfig",
        hidden_size=2048 // scale,
        intermediate_size=8192 // scale,
        num_hidden_layers=16 if scale == 1 else 2,
        num_attention_heads=32 // scale,
        num_key_value_heads=8 // scale,
        vocab_size=128256 // scale,
        tie_word_embeddings=True,
    )
    gpt2 = from_config(
        "GPT2Config",
        n_embd=1600 // scale,
        n_layer=48 if scale == 1 else 2,
        n_head=25 if scale == 1 else 2,
        vocab_size=50257 // scale,
    )
    side = 4096 // scale
    matrix, narrow = torch.zeros(side, side), torch.zeros(side, side, dtype=torch.bfloat16)
    return [
        built("Llama of 1.24e9 parameters, from_config", llama, 8, 12),
        built("GPT-2 XL, from_config", gpt2, 12, 16),
        built(f"16 x nn.Linear({side}, {side})", lambda: [torch.nn.Linear(side, side) for _ in range(16)], 7, 10),
        built("2,000 x nn.Linear(16, 16)", lambda: [torch.nn.Linear(16, 16) for _ in range(2000)], 1, 1.2, repeats=3),
        filled("kaiming_normal_", matrix, 10, 14),
        filled("kaiming_normal_", narrow, 10, 14),
        filled("trunc_normal_", matrix, 60, 80, std=0.02, a=-0.04, b=0.04),
    ]


def main() -> None:
    """Print one row after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only rows whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="tiny models and tensors, to see that it works")
    options = parser.parse_args()
    for case in cases(8 if options.quick else 1):
        if re.search(options.only, case.name):
            print(plain(case.measure(options.rounds)), flush=True)


if __name__ == "__main__":
    main()
