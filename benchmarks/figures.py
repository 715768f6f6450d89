"""The figures that several tables share: how each is computed, its unit, and the absolute numbers beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from harness import Figure, median

if TYPE_CHECKING:
    from harness import Result

CALLS = 1000  # in a batch, because a single call is too short for the clock

# The minimum values of shares were set where two threads usually store 37 GB/s. Some runs reach 48 to 61, when the two
# CPUs happen to be on different chiplets; a share then means a share of the usual bandwidth.
USUAL_BANDWIDTH = 37e9
UNUSUAL_BANDWIDTH = 40e9


def store_bandwidth(result: Result) -> list[float]:
    """Return the costs of stores: those of this run, or the usual one where this run's are unusually fast."""
    usual = result.case.itemsize / USUAL_BANDWIDTH
    unusual = median(result.theirs) < result.case.itemsize / UNUSUAL_BANDWIDTH
    return [usual] * len(result.theirs) if unusual else result.theirs


def share_detail(result: Result) -> str:
    usual = result.case.itemsize / USUAL_BANDWIDTH
    rate, limit = (1e-9 * result.case.itemsize / median(costs) for costs in (result.ours, result.theirs))
    share = median(result.against(result.theirs))
    share_of_usual = median(result.against([usual] * len(result.ours)))
    return (
        f"{rate:.1f} GB/s, {1e9 * median(result.ours):.3f} ns an element; {share:.2f} of this run's {limit:.1f} GB/s "
        f"({result.other}), {share_of_usual:.2f} of the usual {1e-9 * USUAL_BANDWIDTH:.0f}"
    )


def pair_detail(result: Result) -> str:
    ours, theirs = (1e9 * median(costs) for costs in (result.ours, result.theirs))
    return f"{ours:.3g} ns an element against {theirs:.3g} ({result.other})"


def calls_detail(result: Result) -> str:
    """Return the time of the other library's own call, and what fastkaiming takes of it in the same round."""
    share = float(np.median(np.divide(result.ours, result.theirs)))
    return f"{share:.2f} of the time of {result.other}, {1e6 * median(result.theirs):.2f} us"


def seconds_detail(result: Result) -> str:
    ours, theirs = (1e3 * median(costs) for costs in (result.ours, result.theirs))
    return f"{ours:.4g} ms against {theirs:.4g} ms ({result.other})"


def processes_detail(result: Result) -> str:
    return f"the peaks of {len(result.ours)} processes"


SHARE = Figure(
    lambda ours, stores: stores / ours, ".2f", "", True, "seconds an element", share_detail, yardstick=store_bandwidth
)
SPEED_UP = Figure(lambda ours, theirs: theirs / ours, ".3g", "x", True, "seconds an element", pair_detail)
SLOWDOWN = Figure(lambda ours, theirs: ours / theirs, ".3g", "x the time", False, "seconds an element", pair_detail)
CALL_TIME = Figure(lambda ours, _: 1e6 * ours, ".2f", " us", False, "seconds a call", calls_detail)
WHOLE_SPEED_UP = Figure(lambda ours, theirs: theirs / ours, ".2f", "x", True, "seconds", seconds_detail)
MEMORY = Figure(lambda ours, _: ours / 2**20, ".2f", " MiB", False, "bytes", processes_detail)
