"""The compiled entry point: what it caches of a fill, and that different fills never share a cache entry."""

import math
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
from plans import put_off

import fastkaiming as fk

MAX_TEMPLATES = 4096  # the size of the cache in fastkaiming/_entry.pxi


def functions_called(call: Callable[[], object]) -> list[str]:
    """Return the names of the Python functions that run during a call."""
    names: list[str] = []

    def record(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            names.append(frame.f_code.co_name)

    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names[1:]


@pytest.mark.parametrize(
    ("fill", "arguments"),
    [
        (fk.uniform_, {"low": -1, "high": 1.0}),
        (fk.uniform_, {"high": np.float64(2.0)}),
        (fk.normal_, {"std": 0.02}),
        (fk.trunc_normal_, {"a": -math.inf}),
        (fk.zeros_, {}),
        (fk.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}),
        (fk.xavier_uniform_, {"layout": "IO*"}),
    ],
)
@pytest.mark.parametrize("rng", [3, fk.Key(3, 4)])
def test_second_of_two_equal_fills_calls_no_other_python_function(
    fill: Callable[..., Any], arguments: dict[str, Any], rng: Any
) -> None:
    first = fill(np.empty((7, 5), np.float32), rng=rng, **arguments)
    second = np.empty((7, 5), np.float32)
    assert functions_called(lambda: fill(second, rng=rng, **arguments)) == [fill.__name__]
    assert second.tobytes() == first.tobytes()


def test_templates_are_not_shared_between_dtypes_or_byte_orders() -> None:
    dtypes = [np.dtype(name) for name in ("f4", ">f4", "f8", ">f8", "f2", ">f2")]
    for _ in range(2):
        values = [fk.uniform_(np.empty(9, dtype), rng=5).astype(np.float64) for dtype in dtypes]
        for native, swapped in zip(values[::2], values[1::2], strict=True):
            assert np.array_equal(native, swapped)
        assert len({each.tobytes() for each in values}) == 3


def test_templates_of_fans_are_not_shared_between_shapes() -> None:
    with put_off() as plans:
        for shape in ((4, 9), (9, 4), (4, 9), (4, 3, 3)):
            fk.kaiming_normal_(np.empty(shape, np.float32), nonlinearity="linear")
    assert [distribution.std for distribution in plans.distributions()] == [1 / 3, 1 / 2, 1 / 3, 1 / 3]


def test_callable_nonlinearity_is_called_at_every_fill() -> None:
    slopes = [1.0]

    def nonlinearity(z: Any) -> Any:
        return slopes[0] * z

    out = np.empty((8, 8), np.float32)
    with put_off() as plans:
        for slopes[0] in (1.0, 2.0):
            fk.kaiming_normal_(out, nonlinearity=nonlinearity)
    assert [distribution.std for distribution in plans.distributions()] == pytest.approx([8**-0.5, 8**-0.5 / 2])


@pytest.mark.parametrize("nothing", [None, 0, 0.0, "", (), [], {}])
def test_none_is_not_a_distribution(nothing: Any) -> None:
    with pytest.raises(TypeError, match=r"^fill_: distribution must be a Normal, Uniform or TruncatedNormal, not "):
        fk.fill_(np.empty(3, np.float32), nothing)


def test_more_fills_than_the_cache_holds() -> None:
    out = np.empty(4, np.float32)
    first = fk.uniform_(out, 0.0, 1.0, rng=1).tobytes()
    for i in range(2 * MAX_TEMPLATES):
        assert 0 <= fk.uniform_(out, 0.0, 2.0 + i, rng=1)[0] < 2.0 + i
    assert fk.uniform_(out, 0.0, 1.0, rng=1).tobytes() == first


def test_threads_can_share_the_cache() -> None:
    def work(number: int) -> None:
        for i in range(3 * MAX_TEMPLATES):
            bound = 1.0 + (i * 7 + number) % (MAX_TEMPLATES + 100)
            out = fk.uniform_(np.empty(2, np.float32), 0.0, bound, rng=1)
            if not np.allclose(out, expected * bound, rtol=1e-6):
                wrong.append(bound)

    expected = fk.uniform_(np.empty(2, np.float32), rng=1)
    wrong: list[float] = []
    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
