"""Check initializations: signals through deep random networks, and statistics of weights against their distribution.

:mod:`fastkaiming.diagnostics.plot` and :mod:`fastkaiming.diagnostics.report` draw both; they need matplotlib.
"""

from fastkaiming.diagnostics._propagation import Propagation, propagate
from fastkaiming.diagnostics._statistics import Statistics, statistics

__all__ = ["Propagation", "Statistics", "propagate", "statistics"]
