"""Arrays whose bytes have a known value, so that a test sees what a fill has written."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MARK = 0xA5


def marked(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    out = np.empty(shape, dtype)
    out.view(np.uint8)[...] = MARK
    return out
