"""Values follow their distribution: moments, distribution functions, tails, and independence.

Seeds are fixed, so that the verdict is the same in every run. For other seeds, a threshold would be exceeded about once
in a billion runs: it is SIGMAS standard errors of a nearly normal statistic, or a p-value of ALARM.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chi_squared
import numpy as np
import pytest
from marginals import normal_moment, uniform_moment
from numpy.typing import NDArray

import fastkaiming as fk

Doubles = NDArray[np.float64]
Float = type[np.float32] | type[np.float64]

SIGMAS = 6.0
ALARM = 1e-9
SEED = 20150206

FLOATS: tuple[Float, ...] = (np.float32, np.float64)
EACH_FLOAT = pytest.mark.parametrize("dtype", FLOATS)


class Case(NamedTuple):
    """An initializer, and its expected distribution for an array of shape (2048, 2048)."""

    name: str
    fill: Callable[..., Any]
    arguments: dict[str, Any]
    distribution: fk.Normal | fk.Uniform
    mean: float
    std: float
    moment: Callable[[int], float]


SHAPE = (2048, 2048)
CASES = [
    Case("normal", fk.normal_, {}, fk.Normal(), 0.0, 1.0, normal_moment),
    Case("elsewhere", fk.normal_, {"mean": -3.0, "std": 0.25}, fk.Normal(-3.0, 0.25), -3.0, 0.25, normal_moment),
    Case("uniform", fk.uniform_, {}, fk.Uniform(), 0.5, math.sqrt(1 / 12), uniform_moment),
    Case("wide", fk.uniform_, {"low": -1.0, "high": 5.0}, fk.Uniform(-1.0, 5.0), 2.0, math.sqrt(3), uniform_moment),
    # relu: sqrt(2 / 2048) = 1 / 32; the slope of torch.nn.Linear: sqrt(2 / (1 + 5) / 2048), and sqrt(3) times that
    Case(
        "kaiming_normal",
        fk.kaiming_normal_,
        {"nonlinearity": "relu"},
        fk.Normal(0.0, 1 / 32),
        0.0,
        1 / 32,
        normal_moment,
    ),
    Case(
        "kaiming_uniform",
        fk.kaiming_uniform_,
        {"a": math.sqrt(5)},
        fk.Uniform(-math.sqrt(1 / 2048), math.sqrt(1 / 2048)),
        0.0,
        math.sqrt(1 / 6144),
        uniform_moment,
    ),
]


class Sample(NamedTuple):
    case: Case
    values: NDArray[Any]
    z: Doubles  # standardized by the exact mean and standard deviation


@pytest.fixture(
    scope="module", params=itertools.product(CASES, FLOATS), ids=lambda both: f"{both[0].name}-{both[1].__name__}"
)
def sample(request: pytest.FixtureRequest) -> Sample:
    case, dtype = request.param
    values = case.fill(np.empty(SHAPE, dtype), rng=SEED, **case.arguments).reshape(-1)
    return Sample(case, values, (values.astype(np.float64) - case.mean) / case.std)


@pytest.fixture(scope="module")
def probabilities(sample: Sample) -> Doubles:
    """Return a part of the sample transformed by its distribution function, which makes it uniform on (0, 1)."""
    return np.asarray(sample.case.distribution.cdf(sample.values[: 1 << 18]))


def kolmogorov(x: float) -> float:
    """Return the probability of a Kolmogorov-Smirnov statistic sqrt(n) D above x, as n grows.

    Kolmogorov, "Sulla determinazione empirica di una legge di distribuzione", Giorn. Ist. Ital. Attuari 4 (1933).
    """
    return 2 * math.fsum((-1.0) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))


def kolmogorov_smirnov(probabilities: Doubles) -> float:
    """Return the probability of a larger distance between the empirical distribution function and the exact one."""
    n = probabilities.size
    steps = np.arange(n + 1) / n
    ordered = np.sort(probabilities)
    return kolmogorov(math.sqrt(n) * max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1])))


def chi_squared_sigmas(probabilities: Doubles, bins: int) -> float:
    """Return Pearson's statistic over equiprobable bins minus its mean, in standard deviations."""
    counts = np.histogram(probabilities, bins, (0.0, 1.0))[0]
    return chi_squared.sigmas(counts, probabilities.size / bins)


def correlation_sigmas(columns: Doubles, moment: Callable[[int], float]) -> Doubles:
    """Return the correlations of columns, of their squares, and of columns with squares, in standard errors.

    Columns must have mean 0 and variance 1; their moments give the variance of the squares. The correlations of a
    column with itself and with its own square are set to 0.
    """
    squares = (columns**2 - 1) / math.sqrt(moment(4) - 1)
    both = np.hstack([columns, squares])
    correlations = both.T @ both / math.sqrt(len(columns))
    correlations[np.tile(np.eye(columns.shape[1], dtype=bool), (2, 2))] = 0.0
    return np.asarray(correlations)


@pytest.mark.parametrize(("x", "probability"), [(0.82757, 0.5), (1.22385, 0.1), (1.35810, 0.05), (1.62762, 0.01)])
def test_kolmogorov_matches_smirnovs_table(x: float, probability: float) -> None:
    assert math.isclose(kolmogorov(x), probability, abs_tol=2e-5)


def test_first_four_moments(sample: Sample) -> None:
    powers = np.ones_like(sample.z)
    for k in range(1, 5):
        powers *= sample.z
        exact = sample.case.moment(k)
        standard_error = math.sqrt((sample.case.moment(2 * k) - exact**2) / sample.z.size)
        assert abs(np.mean(powers) - exact) < SIGMAS * standard_error, f"E[z**{k}]"


def test_kolmogorov_smirnov(probabilities: Doubles) -> None:
    assert ALARM < kolmogorov_smirnov(probabilities) < 1 - ALARM


def test_chi_squared_over_equiprobable_bins(probabilities: Doubles) -> None:
    assert abs(chi_squared_sigmas(probabilities, 256)) < SIGMAS


def test_neighbours_are_independent(sample: Sample) -> None:
    # Eight elements are two Philox blocks in single precision and four in double precision.
    assert np.max(np.abs(correlation_sigmas(sample.z.reshape(-1, 8), sample.case.moment))) < SIGMAS


@EACH_FLOAT
def test_angles_of_pairs_are_uniform(dtype: Float) -> None:
    even, odd = fk.normal((1 << 18, 2), dtype, rng=SEED).T
    turns = np.arctan2(odd, even, dtype=np.float64) / (2 * math.pi) + 0.5
    assert abs(chi_squared_sigmas(turns, 256)) < SIGMAS
    assert ALARM < kolmogorov_smirnov(turns) < 1 - ALARM


@EACH_FLOAT
def test_tails_have_the_expected_counts(dtype: Float) -> None:
    z = fk.normal(1 << 24, dtype, rng=SEED)
    for distance in (3.0, 4.0, 4.5):
        probability = math.erfc(distance / math.sqrt(2)) / 2
        standard_error = math.sqrt(z.size * probability * (1 - probability))
        for beyond in (z > distance, z < -distance):
            assert abs(np.count_nonzero(beyond) - z.size * probability) < SIGMAS * standard_error, distance
    # The expected number of values beyond the largest one has an exponential distribution.
    beyond_all = z.size * math.erfc(float(np.max(np.abs(z))) / math.sqrt(2))
    assert ALARM < beyond_all < -math.log(ALARM)


@EACH_FLOAT
def test_uniform_values_come_close_to_both_bounds(dtype: Float) -> None:
    u = fk.uniform(1 << 24, dtype, rng=SEED).astype(np.float64)
    assert 0.0 < np.min(u) < -math.log(ALARM) / u.size
    assert 0.0 <= 1 - np.max(u) < -math.log(ALARM) / u.size


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 24), (np.float64, 53)])
def test_symmetric_uniform_values_are_odd_multiples_with_fair_bits(dtype: Float, bits: int) -> None:
    u = fk.uniform(1 << 20, dtype, -1.0, 1.0, rng=SEED).astype(np.float64)
    multiples = u * 2.0**bits
    assert np.all(np.abs(multiples) < 2.0**bits)
    assert np.all(multiples % 2 == 1)  # so a value is never 0
    words = (multiples.astype(np.int64) - 1) // 2
    for bit in range(bits):
        ones = np.count_nonzero(words >> bit & 1)
        assert abs(ones - u.size / 2) < SIGMAS * math.sqrt(u.size) / 2, f"bit {bit}"


KEYS = [fk.Key(seed, stream) for seed, stream in itertools.product((0, 1, 2, 1 << 32), repeat=2)]


@EACH_FLOAT
def test_neighbouring_keys_are_independent(dtype: Float) -> None:
    columns = np.column_stack([fk.normal(1 << 16, dtype, rng=key) for key in KEYS]).astype(np.float64)
    assert np.max(np.abs(correlation_sigmas(columns, normal_moment))) < SIGMAS


def test_neighbouring_keys_differ_in_half_of_their_bits() -> None:
    words = [key.words(1 << 16) for key in KEYS]
    for one, other in itertools.combinations(words, 2):
        bits = np.unpackbits((one ^ other).view(np.uint8))
        assert abs(np.count_nonzero(bits) - bits.size / 2) < SIGMAS * math.sqrt(bits.size) / 2


@EACH_FLOAT
@pytest.mark.parametrize("key", [lambda i: fk.Key(i), lambda i: fk.Key(SEED, i)], ids=["seeds", "streams"])
def test_first_elements_of_consecutive_keys_follow_the_distribution(dtype: Float, key: Callable[[int], fk.Key]) -> None:
    first = np.concatenate([fk.normal(4, dtype, rng=key(i)) for i in range(4096)])
    probabilities = np.asarray(fk.Normal().cdf(first))
    assert ALARM < kolmogorov_smirnov(probabilities) < 1 - ALARM
    assert abs(chi_squared_sigmas(probabilities, 64)) < SIGMAS
