"""The quick battery passes, and its trials fail if the values have a flaw."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import battery
import dependence
import marginals
import numpy as np
import pytest
import raw_words
import reference
import sampling
import verdicts
from battery import SEED, TRIALS, Trial
from numpy.typing import NDArray
from verdicts import ALARM, Finding

import fastkaiming as fk

Array = NDArray[Any]


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_quick_battery_passes(trial: Trial) -> None:
    rows = list(battery.rows_of(trial, SEED, quick=True))
    assert rows
    assert not [battery.printed(row) for row in rows if not row.passed]


def follows_its_neighbour(values: Array) -> Array:
    return np.asarray(values + np.float32(0.05) * np.roll(values, 1))


def larger_where_positive(values: Array) -> Array:
    """Make the radius larger in the first quadrant, so that it depends on the angle."""
    pairs = values.reshape(-1, 2)
    return np.asarray(np.where(np.all(pairs > 0, axis=1)[:, None], np.float32(1.03) * pairs, pairs).reshape(-1))


FLAWS: list[tuple[str, Any, Callable[[Array], Array]]] = [
    ("float32 normal, moments", marginals, lambda values: values * np.float32(1.01)),
    ("float64 uniform, moments", marginals, lambda values: values + 0.01),
    ("float32 normal, autocorrelation", dependence, follows_its_neighbour),
    ("float32 uniform, autocorrelation", dependence, follows_its_neighbour),
    ("float32 normal, bins", marginals, lambda values: values.astype(np.float16).astype(np.float32)),
    ("float32 uniform, bins", marginals, lambda values: values * np.float32(0.99)),
    ("float32 normal, pairs", dependence, larger_where_positive),
    ("float64 normal, radii", dependence, lambda values: values.round(1)),
    ("float32 normal, tails", marginals, lambda values: np.clip(values, -4.7, 4.7)),
    ("float32 normal, repetitions", marginals, lambda values: values.astype(np.float16).astype(np.float32)),
    ("float32 uniform, repetitions", marginals, lambda values: (values * 2**18).round() / 2**18),
    ("words, bits", raw_words, lambda words: words | (words >> np.uint32(8) & np.uint32(1))),
    ("words, bytes", raw_words, lambda words: words | (words << np.uint32(8) & np.uint32(256))),
    ("words, weights", raw_words, lambda words: np.repeat(words[: words.size // 2], 2)),
    ("words, birthdays", raw_words, lambda words: words & np.uint32(0xFFFFF000)),
    (
        "words, ranks",
        raw_words,
        lambda words: np.where(np.arange(words.size) % 64, words, np.roll(words, -1)),
    ),
]


@pytest.mark.parametrize(("name", "module", "flaw"), FLAWS, ids=[flaw[0] for flaw in FLAWS])
def test_trial_detects_flaw(
    monkeypatch: pytest.MonkeyPatch, name: str, module: Any, flaw: Callable[[Array], Array]
) -> None:
    def flawed(measure: Callable[[Array], Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        return sampling.map_blocks(lambda values: measure(flaw(values)), *arguments, **options)

    monkeypatch.setattr(module, "map_blocks", flawed)
    trial = next(trial for trial in TRIALS if trial.name == name)
    assert verdicts.worst(trial.test(SEED, trial.quick)).p < ALARM


KEYS: list[tuple[str, Callable[[fk.Key], fk.Key]]] = [
    ("seeds s and s + 1", lambda key: fk.Key(key.seed & ~1, key.stream)),
    ("seeds s and s xor 2^i", lambda key: fk.Key(key.seed & ~(1 << 40), key.stream)),
    ("streams s and s xor 2^i", lambda key: fk.Key(key.seed, key.stream & ~(1 << 63))),
    ("streams of names", lambda key: fk.Key(key.seed, key.stream & 0x7F)),
]


@pytest.mark.parametrize(("family", "confused"), KEYS, ids=[family for family, _ in KEYS])
def test_equal_keys_are_detected(
    monkeypatch: pytest.MonkeyPatch, family: str, confused: Callable[[fk.Key], fk.Key]
) -> None:
    original = fk.normal
    monkeypatch.setattr(fk, "normal", lambda size, rng: original(size, rng=confused(rng)))
    findings = dependence.neighbouring_keys(SEED, 1 << 10)
    assert min(finding.p for finding in findings if finding.what.startswith(family)) < ALARM


def trial_of(*probabilities: float) -> Trial:
    """Return a trial that returns these p-values in turn."""
    found = iter(probabilities)
    return Trial("a trial", lambda _seed, _size: [Finding("a figure", "0", next(found))], 1, 1)


@pytest.mark.parametrize(
    ("probabilities", "passed"),
    [((1e-3,), True), ((1e-10,), False), ((1e-5, 0.1, 0.2, 0.3), True), ((1e-5, 0.1, 0.2, 1e-5), False)],
)
def test_figures_in_doubt_are_repeated(probabilities: tuple[float, ...], passed: bool) -> None:
    if passed or probabilities[0] > ALARM:
        rows = list(battery.rows_of(trial_of(*probabilities), 0, quick=True))
    else:
        rows = list(battery.rows_of(trial_of(*probabilities, 0.5, 0.5, 0.5), 0, quick=True))
    assert [row.passed for row in rows] == [passed]


@pytest.mark.parametrize(
    ("count", "mean", "p"),
    [  # sums of exp(-mean) mean**k / k!, computed by hand
        (0, 2.0, 2 * math.exp(-2)),
        (1, 0.5, 2 * (1 - math.exp(-0.5))),
        (3, 1.0, 2 * (1 - 2.5 * math.exp(-1))),
        (0, 1e-9, 1.0),
    ],
)
def test_two_sided_poisson_probability(count: int, mean: float, p: float) -> None:
    assert math.isclose(verdicts.poisson_two_sided(count, mean), p, rel_tol=1e-12)


def test_poisson_is_nearly_normal_far_from_zero() -> None:
    assert math.isclose(verdicts.poisson_two_sided(10**6 + 3000, 1e6), verdicts.two_sided(3.0), rel_tol=0.01)


def test_rank_over_gf2() -> None:
    identity = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    dependent = identity.copy()
    dependent[5] = dependent[6] ^ dependent[7]
    zeros, equal = np.zeros(32, np.uint32), np.full(32, 7, np.uint32)
    assert raw_words.rank(np.array([identity, dependent, zeros, equal])).tolist() == [32, 31, 0, 1]


def test_pipe_writes_the_words_in_order() -> None:
    count = sampling.BLOCK + 5  # more than one block
    program = [sys.executable, raw_words.__file__, "7"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        piped = np.frombuffer(process.stdout.read(4 * count), "<u4")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert np.array_equal(piped, reference.words(reference.Place(reference.philox_key(7), 0, 0, count)))


def test_probabilities_of_normal_bins_sum_to_one() -> None:
    edges, probabilities = marginals.normal_edges()
    assert np.all(np.diff(edges) > 0)
    assert math.isclose(math.fsum(probabilities), 1.0, rel_tol=1e-12)
    assert np.allclose(probabilities, 1 / marginals.BINS, rtol=2e-3)
