"""Arrays whose bytes have a known value, so that a test can detect writes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MARK = 0xA5


def marked(shape: tuple[int, ...] = (4, 6), dtype: Any = np.float32) -> NDArray[Any]:
    """Return a new array all of whose bytes are MARK."""
    out = np.empty(shape, dtype)
    out.view(np.uint8)[...] = MARK
    return out
