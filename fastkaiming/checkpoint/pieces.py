"""Runs of consecutive elements as boxes: what a fill takes is a slice along each axis."""

import math
from collections.abc import Iterator

Box = tuple[slice, ...]


def boxes(shape: tuple[int, ...], first: int, stop: int) -> Iterator[Box]:
    """Cut elements ``first`` to ``stop`` of a tensor, in row-major order, into boxes that follow each other in memory.

    >>> for box in boxes((4, 5), 3, 17):
    ...     print(box)
    (slice(0, 1, None), slice(3, 5, None))
    (slice(1, 3, None), slice(0, 5, None))
    (slice(3, 4, None), slice(0, 2, None))
    """
    if first >= stop:
        return
    if not shape:
        yield ()
        return
    row = math.prod(shape[1:])
    begin, offset = divmod(first, row)
    if offset or stop - first < row:
        end = min(stop, (begin + 1) * row)
        for box in boxes(shape[1:], offset, offset + end - first):
            yield slice(begin, begin + 1), *box
    else:
        rows = (stop - first) // row
        end = first + rows * row
        yield slice(begin, begin + rows), *(slice(0, size) for size in shape[1:])
    yield from boxes(shape, end, stop)


def shape_of(box: Box) -> tuple[int, ...]:
    """Return the shape of a box."""
    return tuple(part.stop - part.start for part in box)
