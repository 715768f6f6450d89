"""Figures that several tables share: how each is computed, its unit, and its absolute numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from harness import Figure, median

if TYPE_CHECKING:
    from harness import Result

CALLS = 1000  # per batch, because a single call is too short to be timed

# The minimum values of shares were set on a machine on which two threads usually store 37 GB/s. Some runs reach 48 to
# 61, if the two CPUs happen to be on different chiplets; the share is then computed from the usual bandwidth.
USUAL_BANDWIDTH = 37e9
UNUSUAL_BANDWIDTH = 40e9


def store_bandwidth(result: Result) -> list[float]:
    """Return the costs of stores: those of this run, or the usual cost if the stores of this run are unusually fast."""
    usual = result.case.itemsize / USUAL_BANDWIDTH
    unusual = median(result.other_costs) < result.case.itemsize / UNUSUAL_BANDWIDTH
    return [usual] * len(result.other_costs) if unusual else result.other_costs


def share_detail(result: Result) -> str:
    usual = result.case.itemsize / USUAL_BANDWIDTH
    own_cost = median(result.own_costs)
    rate, limit = (1e-9 * result.case.itemsize / median(costs) for costs in (result.own_costs, result.other_costs))
    share = median(result.against(result.other_costs))
    share_of_usual = median(result.against([usual] * len(result.own_costs)))
    return (
        f"{rate:.1f} GB/s, {1e9 * own_cost:.3f} ns per element; {share:.2f} of this run's {limit:.1f} GB/s "
        f"({result.other}), {share_of_usual:.2f} of the usual {1e-9 * USUAL_BANDWIDTH:.0f}"
    )


def pair_detail(result: Result) -> str:
    own, other = (1e9 * median(costs) for costs in (result.own_costs, result.other_costs))
    return f"{own:.3g} ns per element against {other:.3g} ({result.other})"


def calls_detail(result: Result) -> str:
    """Return the time of the other library's call, and fastkaiming's time as a share of it in the same round."""
    share = float(np.median(np.divide(result.own_costs, result.other_costs)))
    return f"{share:.2f} of the time of {result.other}, {1e6 * median(result.other_costs):.2f} us"


def seconds_detail(result: Result) -> str:
    own, other = (1e3 * median(costs) for costs in (result.own_costs, result.other_costs))
    return f"{own:.4g} ms against {other:.4g} ms ({result.other})"


def processes_detail(result: Result) -> str:
    return f"the peaks of {len(result.own_costs)} processes"


SHARE = Figure(
    lambda cost, stores: stores / cost, ".2f", "", True, "seconds per element", share_detail, yardstick=store_bandwidth
)
SPEED_UP = Figure(lambda cost, other: other / cost, ".3g", "x", True, "seconds per element", pair_detail)
SLOWDOWN = Figure(lambda cost, other: cost / other, ".3g", "x the time", False, "seconds per element", pair_detail)
CALL_TIME = Figure(lambda cost, _: 1e6 * cost, ".2f", " us", False, "seconds per call", calls_detail)
WHOLE_SPEED_UP = Figure(lambda cost, other: other / cost, ".2f", "x", True, "seconds", seconds_detail)
MEMORY = Figure(lambda cost, _: cost / 2**20, ".2f", " MiB", False, "bytes", processes_detail)
