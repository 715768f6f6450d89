"""Signals grow and shrink in random networks as the formulas predict; statistics are equal to those of NumPy."""

import math
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

import fastkaiming as fk
from fastkaiming import diagnostics
from fastkaiming.diagnostics import _statistics
from fastkaiming.diagnostics._activations import ACTIVATIONS

SIGMAS = 6.0
WIDTH, DEPTH, NETWORKS = 256, 12, 12


def mean_growth(mean_squares: NDArray[np.float64]) -> float:
    """Return the mean ratio of the mean squares of a layer and the previous layer."""
    return float(np.mean(mean_squares[:, 1:] / mean_squares[:, :-1]))


# The relative variance of a ratio is at most the variance of the mean of 2 * relu(z)**2 over a layer, which is
# (E[4 relu(z)**4] - 1) / WIDTH = 5 / WIDTH. The ratios of different layers are uncorrelated.
TOLERANCE = SIGMAS * math.sqrt(5 / (WIDTH * DEPTH * NETWORKS))


@pytest.mark.parametrize(
    ("initializer", "growth"),
    [
        ("kaiming_normal(nonlinearity='relu')", 1.0),
        ("kaiming_uniform(nonlinearity='relu')", 1.0),
        ("he_normal", 1.0),
        ("xavier_normal", 0.5),
        ("normal(std=0.01)", WIDTH * 0.01**2 / 2),
    ],
)
def test_relu_layer_multiplies_mean_squares_by_half_of_width_times_variance(initializer: str, growth: float) -> None:
    assert TOLERANCE < 0.1
    found = diagnostics.propagate(DEPTH, WIDTH, "relu", initializer, networks=NETWORKS, rng=1)
    assert found.forward.shape == found.backward.shape == (NETWORKS, DEPTH + 1)
    assert mean_growth(found.forward) == pytest.approx(growth, rel=TOLERANCE)
    assert mean_growth(found.backward[:, ::-1]) == pytest.approx(growth, rel=TOLERANCE)


def test_inputs_and_gradients_are_standard_normal() -> None:
    found = diagnostics.propagate(1, 100, networks=30, batch=50, rng=2)
    error = SIGMAS * math.sqrt(2 / (100 * 50))  # the variance of z**2 is 2
    assert np.ptp(found.forward[:, 0]) > 0.0
    assert found.forward[:, 0] == pytest.approx(1.0, abs=error)
    assert found.backward[:, 1] == pytest.approx(1.0, abs=error)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_one_layer_equals_explicit_computation(name: str) -> None:
    found = diagnostics.propagate(1, 3, name, networks=1, batch=2, rng=7)
    streams = fk.Generator(7)
    weights = fk.kaiming_normal((3, 3), nonlinearity="relu", rng=streams.key("0.0.weight")).astype(np.float64)
    inputs, gradients = (
        fk.normal((2, 3), np.float64, rng=streams.key(f"0.{each}")) for each in ("inputs", "gradients")
    )
    value, derivative = ACTIVATIONS[name](np.einsum("oi,bi->bo", weights, inputs))
    input_gradients = np.einsum("oi,bo->bi", weights, derivative * gradients)
    np.testing.assert_allclose(found.forward, [[np.mean(inputs**2), np.mean(value**2)]], rtol=1e-12)
    np.testing.assert_allclose(found.backward, [[np.mean(input_gradients**2), np.mean(gradients**2)]], rtol=1e-12)


VALUES_AT_1_AND_MINUS_1 = {  # from the formulas in the documentation of torch
    "linear": (1.0, -1.0),
    "relu": (1.0, 0.0),
    "leaky_relu": (1.0, -0.01),
    "tanh": (math.tanh(1.0), -math.tanh(1.0)),
    "sigmoid": (1 / (1 + math.exp(-1)), 1 / (1 + math.e)),
    "gelu": (math.erfc(-math.sqrt(0.5)) / 2, -math.erfc(math.sqrt(0.5)) / 2),
    "silu": (1 / (1 + math.exp(-1)), -1 / (1 + math.e)),
    "elu": (1.0, math.exp(-1) - 1),
    "selu": (1.0507009873554805, 1.0507009873554805 * 1.6732632423543772 * (math.exp(-1) - 1)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_documented_values_and_correct_derivatives(name: str) -> None:
    activation = ACTIVATIONS[name]
    assert activation(np.array([1.0, -1.0]))[0] == pytest.approx(VALUES_AT_1_AND_MINUS_1[name], rel=1e-14)
    z, step = np.linspace(-6.03, 6.0, 400), 1e-6  # no point is close to 0, where some derivatives jump
    differences = (activation(z + step)[0] - activation(z - step)[0]) / (2 * step)
    np.testing.assert_allclose(activation(z)[1], differences, atol=1e-8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_large_signals_raise_no_warning(name: str) -> None:
    found = diagnostics.propagate(3, 8, name, "normal(std=1000.0)", networks=2, batch=4)
    assert np.isfinite(found.forward).all()


def test_initializer_may_be_any_function_of_array_and_key() -> None:
    keys = []

    def identity(out: NDArray[Any], *, rng: fk.Key) -> None:
        keys.append(rng)
        out[:] = np.eye(len(out))

    found = diagnostics.propagate(4, 16, "linear", identity, networks=2, batch=3, rng=fk.Generator(9))
    assert keys == [fk.Generator(9).key(f"{network}.{layer}.weight") for network in range(2) for layer in range(4)]
    assert np.array_equal(found.forward, np.repeat(found.forward[:, :1], 5, axis=1))
    assert np.array_equal(found.backward, np.repeat(found.backward[:, :1], 5, axis=1))
    assert (found.seed, found.initializer, found.depth, found.width) == (9, identity, 4, 16)


def test_seed_of_result_reproduces_a_run_with_rng_none() -> None:
    first = diagnostics.propagate(2, 8, rng=None)
    again = diagnostics.propagate(2, 8, rng=first.seed)
    assert np.array_equal(first.forward, again.forward)
    assert not np.array_equal(first.forward, diagnostics.propagate(2, 8).forward)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 0}, ValueError, "depth must be an integer from 1"),
        ({"width": 2.0}, TypeError, "width must be an integer"),
        ({"networks": 0}, ValueError, "networks must be"),
        ({"batch": True}, TypeError, "batch must be"),
        ({"nonlinearity": "softmax"}, ValueError, "nonlinearity must be one of 'linear', .*, got 'softmax'"),
        ({"nonlinearity": np.tanh}, TypeError, "nonlinearity must be a str"),
        (
            {"initializer": "kaming_normal"},
            ValueError,
            "initializer must name one of .* did you mean 'kaiming_normal'",
        ),
        ({"initializer": 1}, TypeError, "initializer must be a str or a function, not int 1"),
        ({"rng": fk.Key(1)}, TypeError, "rng must be None, an integer, a Generator"),
    ],
    ids=str,
)
def test_propagate_raises_error_for_invalid_arguments(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        diagnostics.propagate(**arguments)


# ---- statistics ----

DTYPES = [
    np.float32,
    np.float64,
    ">f4",
    np.float16,
    ml_dtypes.bfloat16,
    np.dtype(ml_dtypes.bfloat16).newbyteorder(),
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    np.int16,
    np.uint8,
    np.bool_,
]


def normal_values(dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    return (3.0 + 2.0 * np.random.default_rng(5).standard_normal(shape)).clip(0, 100).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "transform",
    [
        lambda array: array,
        lambda array: array.T,
        lambda array: array.reshape(2, 5, -1),
        lambda array: array.reshape(1, -1),
        lambda array: array[::-3, 5::2],
        lambda array: array.reshape(-1),
        lambda array: array[7, 9],
    ],
    ids=["whole", "Fortran", "3 axes", "row", "strided", "1 axis", "scalar"],
)
def test_statistics_equal_those_of_numpy(dtype: DTypeLike, transform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statistics, "_BLOCK_SIZE", 1000)
    array = normal_values(dtype, (30, 1200))
    array[[3, 4, 29]] = 0
    array = np.asarray(transform(array))
    exact = array.astype(np.float64)
    found = diagnostics.statistics(array)
    assert (found.count, found.minimum, found.maximum) == (exact.size, exact.min(), exact.max())
    assert found.zeros == np.sum(exact == 0.0)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-13)
    assert found.std == pytest.approx(exact.std(), rel=1e-12)
    dead = int(np.sum(np.all(exact == 0.0, axis=tuple(range(1, exact.ndim))))) if exact.ndim > 1 else None
    assert found.dead_rows == dead
    assert (found.expected_mean, found.expected_std, found.z_mean, found.z_std, found.outliers) == (None,) * 5


def test_dead_rows_are_counted_if_rows_are_longer_or_shorter_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statistics, "_BLOCK_SIZE", 10)
    for columns in (1, 3, 10, 11, 99):
        array = np.zeros((7, columns))
        array[[1, 2, 5], columns - 1] = -1.0
        assert diagnostics.statistics(array).dead_rows == 4


def test_std_is_accurate_if_mean_is_large() -> None:
    array = 1e9 + fk.normal((1 << 20), np.float64, rng=3)
    assert diagnostics.statistics(array).std == pytest.approx(array.std(), rel=1e-9)


DISTRIBUTIONS = [
    fk.Normal(0.1, 0.02),
    fk.Uniform(-0.3, 0.3),
    fk.Uniform(0.1, 0.6),
    fk.TruncatedNormal(0.0, 0.5, -1.0, 1.0),
    fk.TruncatedNormal(0.0, 1.0, 2.0, math.inf),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@pytest.mark.parametrize("dtype", [each for each in DTYPES if np.dtype(each).kind not in "iub"], ids=str)
def test_statistics_of_filled_arrays_agree_with_distribution(distribution: Any, dtype: DTypeLike) -> None:
    array = fk.fill_(np.empty((1000, 1100), dtype), distribution, rng=11)
    found = diagnostics.statistics(array, distribution)
    assert found.z_mean is not None
    assert found.z_std is not None
    assert abs(found.z_mean) < SIGMAS
    assert abs(found.z_std) < SIGMAS
    assert found.outliers == found.dead_rows == 0
    assert (found.expected_mean == 0.0) == (distribution.mean == 0.0)
    if array.itemsize > 1:  # the numbers of float8 are so far apart that rounding changes the std
        assert found.expected_std == pytest.approx(distribution.std, rel=1e-3)


def test_z_scores_are_standard_normal() -> None:
    """The test uses many arrays of a normal, a uniform and a truncated normal distribution."""
    for distribution in (fk.Normal(2.0, 3.0), fk.Uniform(-1.0, 2.0), fk.TruncatedNormal(0.0, 1.0, -1.0, 1.5)):
        rng = fk.Generator(12)
        found = [
            diagnostics.statistics(fk.fill_(np.empty(4000), distribution, rng=rng), distribution) for _ in range(2000)
        ]
        for z in ([each.z_mean for each in found], [each.z_std for each in found]):
            scores = np.array(z, np.float64)
            assert abs(scores.mean()) < SIGMAS / math.sqrt(2000) + 0.02  # the mean of s is sigma * (1 - O(1 / n))
            assert abs(scores.std() - 1.0) < SIGMAS / math.sqrt(2 * 2000)


@pytest.mark.parametrize(
    ("distribution", "kurtosis"),
    [
        (fk.Normal(-5.0, 1e-3), 3.0),
        (fk.Uniform(1.0, 4.0), 9 / 5),
        (fk.TruncatedNormal(1.0, 2.0, -math.inf, math.inf), 3.0),
        (fk.TruncatedNormal(0.0, 1.0, 0.0, math.inf), 3 + 8 * (math.pi - 3) / (math.pi - 2) ** 2),  # half-normal
        (fk.TruncatedNormal(0.0, 1e6, -1.0, 1.0), 9 / 5),
        (fk.TruncatedNormal(0.0, 1.0, 1e5, math.inf), 9.0),  # approximately exponential
    ],
    ids=str,
)
def test_kurtosis_equals_closed_form(distribution: Any, kurtosis: float) -> None:
    assert _statistics._kurtosis(distribution) == pytest.approx(kurtosis, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
@pytest.mark.parametrize("low", [0.0, -1.0, 0.5, 0.5 + 1e-10, -1.0 - 1e-10])
def test_uniform_values_in_narrow_formats_have_expected_moments(dtype: DTypeLike, low: float) -> None:
    """The bounds are numbers of the format, either exactly or after rounding to float32, and are never stored."""
    for high in (1.0, 1.0 + 1e-10):
        found = diagnostics.statistics(fk.uniform((512, 512), dtype, low=low, high=high, rng=2), fk.Uniform(low, high))
        assert abs(found.z_mean) < SIGMAS  # type: ignore[arg-type]
        assert abs(found.z_std) < SIGMAS  # type: ignore[arg-type]


def test_wrong_mean_or_std_gives_large_z_score() -> None:
    weights = fk.normal((1000, 1000), std=1.01, rng=4)
    found = diagnostics.statistics(weights, fk.Normal(0.0, 1.0))
    assert found.z_std == pytest.approx(0.01 * math.sqrt(2e6), abs=SIGMAS)  # the standard error is sigma / sqrt(2 n)
    found = diagnostics.statistics(weights, fk.Normal(0.02, 1.01))
    assert found.z_mean == pytest.approx(-0.02 / 1.01 * 1e3, abs=SIGMAS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16], ids=str)
def test_outliers_and_non_finite_values_are_counted(dtype: DTypeLike) -> None:
    array = fk.normal(1000, dtype, std=0.5, rng=6)
    array[[3, 5, 9, 11]] = -5.0, 5.0, math.nan, math.inf
    found = diagnostics.statistics(array, fk.Normal(0.0, 0.5))
    assert found.outliers == 4
    assert math.isnan(found.mean)
    assert math.isnan(found.minimum)
    array = np.array([0.1, 0.3, 0.2, 0.32, 0.09], dtype)  # the bounds themselves, rounded
    assert diagnostics.statistics(array, fk.Uniform(0.1, 0.3)).outliers == 2
    assert diagnostics.statistics(array, fk.TruncatedNormal(0.2, 1.0, 0.1, 0.3)).outliers == 2


def test_limits_of_normal_values_are_wider_in_float64() -> None:
    distribution = fk.Normal(1.0, 2.0)
    for dtype, sigmas in ((np.float32, 7.54), (np.float64, 9.49)):  # sqrt(2 * ln(2**41)), sqrt(2 * ln(2**65))
        for sign in (-1, 1):
            array = np.array([1.0 + sign * 2.0 * sigmas, 1.0 + sign * 2.0 * (sigmas + 0.02)], dtype)
            assert diagnostics.statistics(array, distribution).outliers == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.float8_e4m3fn], ids=str)
def test_constant_arrays_equal_expected_values_exactly(dtype: DTypeLike) -> None:
    array = fk.fill_(np.empty((1000, 1000), dtype), fk.Normal(0.1, 0.0))
    found = diagnostics.statistics(array, fk.Normal(0.1, 0.0))
    assert (found.std, found.z_mean, found.z_std, found.outliers) == (0.0, 0.0, 0.0, 0)
    array[5, 5] = 2.0
    found = diagnostics.statistics(array, fk.Normal(0.1, 0.0))
    assert (found.z_mean, found.z_std, found.outliers) == (math.inf, math.inf, 1)


def test_empty_array_has_nan_moments_and_zero_counts() -> None:
    found = diagnostics.statistics(np.empty((0, 3), np.float32), fk.Normal())
    assert (found.count, found.zeros, found.dead_rows, found.outliers) == (0, 0, 0, 0)
    assert all(math.isnan(each or 0.0) for each in (found.mean, found.std, found.minimum, found.z_mean, found.z_std))


def test_memory_mapped_arrays_are_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float32, (64, 1 << 17))  # 32 MiB
    fk.normal_(array, rng=8)
    mapped = np.load(path, mmap_mode="r")
    tracemalloc.start()
    found = diagnostics.statistics(mapped, fk.Normal())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.count == 1 << 23
    assert peak < 10 << 20


@pytest.mark.parametrize(
    ("array", "distribution", "message"),
    [
        ([1.0], None, "array must be a NumPy array, not list"),
        (np.ones(3, np.complex64), None, "array must hold real numbers, not complex64"),
        (np.array(["a"]), None, "array must hold real numbers, not <U1"),
        (
            np.ones(3, np.int32),
            fk.Normal(),
            "array must be of dtype float32, .* if a distribution is given, not int32",
        ),
        (np.ones(3), "normal", "distribution must be a Normal, Uniform or TruncatedNormal, not str 'normal'"),
    ],
    ids=str,
)
def test_statistics_raises_type_error_for_invalid_arguments(array: Any, distribution: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        diagnostics.statistics(array, distribution)
