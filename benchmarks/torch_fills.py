"""The time to initialize torch's models and tensors, with fastkaiming and with plain torch (see harness.py).

    python benchmarks/torch_fills.py [--rounds N] [--quick] [--only PATTERN] [--json FILE] [--markdown FILE]

The models need transformers; their configurations are below, and nothing is downloaded. Every run builds a model in
newly allocated memory. The first build of each side is discarded. Before each build, the previous model is freed, and
the same model is built by fastkaiming and freed, twice. Both sides use torch's default number of threads.
"""

from __future__ import annotations

import gc
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from command import parser, run
from figures import WHOLE_SPEED_UP
from harness import Case, Timed, UnavailableError

import fastkaiming.torch

if TYPE_CHECKING:
    from collections.abc import Callable


def accelerated_build(make: Callable[[], object]) -> Callable[[Any], object]:
    def run(_: Any) -> object:
        with fastkaiming.torch.accelerate():
            return make()

    return run


def reset_build(make: Callable[[], Any]) -> Callable[[Any], object]:
    def run(_: Any) -> object:
        with torch.device("meta"):
            model = make()
        fastkaiming.torch.reset_module_(model.to_empty(device="cpu"), 0)
        return model

    return run


def built(
    name: str,
    make: Callable[[], Any],
    minimum: float,
    target: float,
    repeats: int = 1,
    own_build: Callable[[Callable[[], Any]], Callable[[Any], object]] = accelerated_build,
) -> Case:
    """Return a row for unchanged code, and for the same model built by fastkaiming.

    Before each measurement, the same model is built by fastkaiming and freed, twice. So the memory that the measured
    build allocates was touched just before, and the host of a virtual machine has already provided it. After only one
    such build, the host still had to provide a part of it.
    """
    build = own_build(make)

    def prepare() -> None:
        for _ in range(2):
            gc.collect()  # frees the previous model, if it refers to itself
            build(None)
        gc.collect()

    own, plain = Timed("fastkaiming", prepare, build, 1), Timed("torch", prepare, lambda _: make(), 1)
    return Case(name, WHOLE_SPEED_UP, minimum, target, own, (plain,), repeats=repeats)


def filled(name: str, tensor: Any, minimum: float, target: float, **arguments: float) -> Case:
    """Return a row for one initializer on already touched memory."""
    own, other = getattr(fastkaiming.torch, name), getattr(torch.nn.init, name)
    title = f"{name} on {' x '.join(map(str, tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"
    return Case(
        title,
        WHOLE_SPEED_UP,
        *(minimum, target),
        Timed("fastkaiming", lambda: tensor, lambda weights: own(weights, **arguments), 1),
        (Timed("torch", lambda: tensor, lambda weights: other(weights, **arguments), 1),),
    )


def from_config(kind: str, **settings: object) -> Callable[[], object]:
    """Return a function that builds a model of transformers."""

    def make() -> object:
        if find_spec("transformers") is None:
            raise UnavailableError("transformers is not installed")
        import transformers

        return transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings))

    return make


def linears(side: int) -> list[torch.nn.Linear]:
    return [torch.nn.Linear(side, side) for _ in range(2000)]


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
        built("Llama of 1.24e9 parameters, from_config", llama, 9, 13),
        built("GPT-2 XL, from_config", gpt2, 9, 14),
        built("Llama of 1.24e9 parameters, on the meta device and reset_module_", llama, 12, 20, 1, reset_build),
        built("GPT-2 XL, on the meta device and reset_module_", gpt2, 12, 20, 1, reset_build),
        built(f"16 x nn.Linear({side}, {side})", lambda: [torch.nn.Linear(side, side) for _ in range(16)], 7, 10),
        built("2,000 x nn.Linear(16, 16)", lambda: linears(16), 0.8, 1.0, repeats=3),
        built("2,000 x nn.Linear(64, 64)", lambda: linears(64), 1.1, 1.5, repeats=3),
        filled("kaiming_normal_", matrix, 10, 14),
        filled("kaiming_normal_", narrow, 10, 14),
        filled("trunc_normal_", matrix, 60, 80, std=0.02, a=-0.04, b=0.04),
    ]


def main() -> None:
    command = parser("Measure the initialization of torch's models and tensors, with and without fastkaiming.")
    run(command, lambda options: cases(8 if options.quick else 1), 5)


if __name__ == "__main__":
    main()
