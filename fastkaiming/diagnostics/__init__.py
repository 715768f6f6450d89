"""Check an initialization: propagate signals through deep random networks, and compare weights with a distribution.

:mod:`fastkaiming.diagnostics.plot` draws the results, and :mod:`fastkaiming.diagnostics.report` writes an HTML report.
Both need matplotlib; this module needs only NumPy.
"""

from fastkaiming.diagnostics._propagation import Propagation, propagate
from fastkaiming.diagnostics._statistics import Statistics, statistics

__all__ = ["Propagation", "Statistics", "propagate", "statistics"]
