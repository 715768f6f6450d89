"""Activation checkpointing in blocks of ``accelerate()``: the recomputation has the values of the forward pass.

``torch.utils.checkpoint`` runs a function again during the backward pass, from the same state of torch's generator.
This run gives the same values only if the same library performs the fills. Therefore the function is recomputed within
a block if and only if its forward pass ran within one, wherever the backward pass runs.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from torch.utils import checkpoint

from fastkaiming.torch._blocks import checks_ranks, innermost_open, no_block
from fastkaiming.torch._replacements import Patch

Function = Callable[..., Any]


def checkpoint_patches(run_in_block: Function) -> tuple[Patch, ...]:
    """Return the patches of ``torch.utils.checkpoint``.

    ``run_in_block(check_ranks, function, *args)`` calls a function within a block.
    """

    def store(original: Function) -> Function:
        """Return the replacement of a function that stores its second argument for the recomputation."""

        @wraps(original)
        def replacement(owner: Any, function: Function, *args: Any, **kwargs: Any) -> Any:
            if innermost_open() is not None:
                function = partial(run_in_block, checks_ranks(), function)
            return original(owner, function, *args, **kwargs)

        return replacement

    reentrant, frame = checkpoint.CheckpointFunction, checkpoint._CheckpointFrame
    return (
        Patch(reentrant, "forward", staticmethod(store(reentrant.forward))),
        Patch(reentrant, "backward", staticmethod(_recompute(reentrant.backward))),
        Patch(frame, "__init__", store(frame.__init__)),
        Patch(checkpoint, "_run_fn_with_dynamo_disabled", _recompute(checkpoint._run_fn_with_dynamo_disabled)),
    )


def _recompute(original: Function) -> Function:
    """Return the replacement of a function that calls the stored function, which opens a block if it needs one."""

    @wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        with no_block():
            return original(*args, **kwargs)

    return replacement
