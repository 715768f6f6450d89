"""Activation checkpointing: the recomputation has the values of the forward pass."""

import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn, accelerate = torch.nn, fk_torch.accelerate

from test_torch import SEED  # noqa: E402
from torch.utils.checkpoint import checkpoint, checkpoint_sequential  # noqa: E402

Within = Callable[[], AbstractContextManager[Any]]
each_kind = pytest.mark.parametrize("use_reentrant", [False, True])
BLOCKS = {"in a block": accelerate, "outside of blocks": nullcontext}
each_forward = pytest.mark.parametrize("forward", BLOCKS.values(), ids=BLOCKS)
each_backward = pytest.mark.parametrize("backward", BLOCKS.values(), ids=BLOCKS)


class Noisy(nn.Module):  # type: ignore[name-defined, misc]
    """Multiplies by noise, and records it."""

    def __init__(self) -> None:
        super().__init__()
        self.noise: list[Any] = []

    def forward(self, x: Any) -> Any:
        noise = torch.stack([torch.empty(5).normal_(), torch.empty(5).uniform_(), nn.Linear(2, 5).bias.detach()])
        self.noise.append(noise)
        return (x * noise).sin()


def gradient(apply: Callable[[Noisy, Any], Any], forward: Within, backward: Within) -> tuple[Any, list[Any]]:
    """Return the gradient of a function, and the noise of each of its runs."""
    x, noisy = torch.ones(3, 5, requires_grad=True), Noisy()
    torch.manual_seed(SEED)
    with forward():
        y = apply(noisy, x)
    torch.manual_seed(SEED + 1)
    with backward():
        y.sum().backward()
    return x.grad, noisy.noise


@each_kind
@each_forward
@each_backward
def test_recomputation_has_the_values_of_the_forward_pass(
    use_reentrant: bool, forward: Within, backward: Within
) -> None:
    expected, (noise,) = gradient(lambda noisy, x: noisy(x), forward, nullcontext)
    found, runs = gradient(partial(checkpoint, use_reentrant=use_reentrant), forward, backward)
    assert len(runs) == 2
    assert all(torch.equal(run, noise) for run in runs)
    assert torch.equal(found, expected)


@each_kind
@each_backward
def test_decorated_function_always_runs_in_a_block(use_reentrant: bool, backward: Within) -> None:
    def apply(noisy: Noisy, x: Any) -> Any:
        return checkpoint(accelerate(noisy.forward), x, use_reentrant=use_reentrant)

    expected, _ = gradient(lambda noisy, x: noisy(x), accelerate, nullcontext)
    assert torch.equal(gradient(apply, nullcontext, backward)[0], expected)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@each_kind
@each_forward
@each_backward
def test_nested_and_sequential_functions(use_reentrant: bool, forward: Within, backward: Within) -> None:
    def nested(noisy: Noisy, x: Any) -> Any:
        return checkpoint(
            lambda x: checkpoint(noisy, noisy(x), use_reentrant=use_reentrant), x, use_reentrant=use_reentrant
        )

    def sequential(noisy: Noisy, x: Any) -> Any:
        return checkpoint_sequential([noisy] * 3, 2, x, use_reentrant=use_reentrant)

    for apply, calls in ((nested, 2), (sequential, 3)):

        def plain(noisy: Noisy, x: Any, calls: int = calls) -> Any:
            for _ in range(calls):
                x = noisy(x)
            return x

        assert torch.equal(gradient(apply, forward, backward)[0], gradient(plain, forward, nullcontext)[0])


@each_kind
def test_recomputation_in_another_thread(use_reentrant: bool) -> None:
    expected, _ = gradient(lambda noisy, x: noisy(x), accelerate, nullcontext)
    x, noisy = torch.ones(3, 5, requires_grad=True), Noisy()
    torch.manual_seed(SEED)
    with accelerate():
        y = checkpoint(noisy, x, use_reentrant=use_reentrant)
        thread = threading.Thread(target=y.sum().backward)
        thread.start()
        thread.join()
    assert torch.equal(x.grad, expected)


@each_kind
def test_function_that_opens_a_block_itself(use_reentrant: bool) -> None:
    def partly(noisy: Noisy, x: Any) -> Any:
        with accelerate():
            x = noisy(x)
        return noisy(x)

    expected, _ = gradient(partly, nullcontext, nullcontext)
    for backward in (accelerate, nullcontext):
        found, _ = gradient(
            lambda noisy, x: checkpoint(partial(partly, noisy), x, use_reentrant=use_reentrant), nullcontext, backward
        )
        assert torch.equal(found, expected)


def test_errors_of_the_recomputation_are_torchs() -> None:
    """For example, the function returns a tensor of another shape, or it ends before its end."""
    sizes = iter([5, 4] * 3)

    def changing(x: Any) -> Any:
        return (x[:, : next(sizes)] * torch.empty(3, 1).normal_()).sin()

    messages = []
    for forward, backward in ((nullcontext, nullcontext), (accelerate, nullcontext), (nullcontext, accelerate)):
        with forward():
            y = checkpoint(changing, torch.ones(3, 5, requires_grad=True), use_reentrant=False)
        with backward(), pytest.raises(torch.utils.checkpoint.CheckpointError) as error:
            y.sum().backward()
        messages.append(str(error.value))
    assert messages == messages[:1] * 3


def test_checkpoint_works_as_before_after_a_block() -> None:
    module = torch.utils.checkpoint
    owners = [module, module.CheckpointFunction, module._CheckpointFrame]
    before = [dict(vars(owner)) for owner in owners]
    with accelerate(), warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint(Noisy(), torch.ones(3, 5, requires_grad=True), use_reentrant=False)
    assert [dict(vars(owner)) for owner in owners] == before
