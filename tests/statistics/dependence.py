"""Independence of values: along an array, within a pair, and across chunk borders, seeds, streams and names."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import verdicts
from numpy.typing import NDArray
from sampling import BLOCK, Array, Draw, map_blocks, standardized, total
from verdicts import Finding

import fastkaiming as fk
from fastkaiming import _core

CHUNK = _core.MAX_WORK_UNIT_ELEMENTS  # chunks of the core, which threads fill in turn
LAGS = (1, 2, 3, 4, 7, 8, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1)
GRID = 256
TAIL = 5.0  # one pair in 270,000 is farther from zero
DIGITS = 1e-13  # the relative error of a radius after its two values were rounded


def autocorrelation(seed: int, size: int, draw: Draw = fk.normal_) -> list[Finding]:
    """Test the autocorrelation of values and of their squares at several lags, and the variance at lag 0."""
    spread = 2.0 if draw is fk.normal_ else 0.8  # the variance of a square

    def sums(values: Array) -> NDArray[np.float64]:
        z = standardized(values, draw)
        squares = z * z - 1.0
        count = z.size - LAGS[-1]
        pairs = [(np.dot(z[:count], z[lag:][:count]), np.dot(squares[:count], squares[lag:][:count])) for lag in LAGS]
        return np.array([(np.sum(squares[:count]), 0.0), *pairs])

    (variance, _), *lagged = total(map_blocks(sums, fk.Key(seed), size + LAGS[-1], draw, overlap=LAGS[-1])) / math.sqrt(
        size
    )
    findings = [verdicts.of_sigmas("lag 0", variance / math.sqrt(spread))]
    for lag, (product, squares) in zip(LAGS, lagged, strict=True):
        findings += [
            verdicts.of_sigmas(f"lag {lag:,}", product),
            verdicts.of_sigmas(f"lag {lag:,}, squares", squares / spread),
        ]
    return findings


def radius_and_angle(seed: int, size: int, dtype: Any = np.float32) -> list[Finding]:
    """Test radius and angle of the pairs of values, on a grid of cells of equal probability."""

    def counts(values: Array) -> NDArray[np.int64]:
        even, odd = values.astype(np.float64).reshape(-1, 2).T
        radius = np.exp(-(even * even + odd * odd) / 2)  # uniform, for the square is exponential
        turn = np.arctan2(odd, even) / (2 * math.pi) + 0.5
        rows, columns = (np.minimum((GRID * each).astype(np.int64), GRID - 1) for each in (radius, turn))
        return np.bincount(GRID * rows + columns, minlength=GRID * GRID)

    found = total(map_blocks(counts, fk.Key(seed), size, dtype=dtype))
    grid = found.reshape(GRID, GRID)
    pairs = size // 2
    return [
        verdicts.of_counts("radius and angle", found, pairs / GRID**2),
        verdicts.of_counts("radius", grid.sum(1), pairs / GRID),
        verdicts.of_counts("angle", grid.sum(0), pairs / GRID),
    ]


def equal_radii(seed: int, size: int) -> list[Finding]:
    """Count equal radii of pairs far from zero in double precision; radii from 32 bits would repeat."""

    def radii(values: Array) -> NDArray[np.float64]:
        even, odd = values.reshape(-1, 2).T
        squares = even * even + odd * odd
        return np.asarray(np.sqrt(squares[squares > TAIL * TAIL]))

    found = np.sort(np.concatenate(list(map_blocks(radii, fk.Key(seed), size, dtype=np.float64))))
    tail = math.exp(-TAIL * TAIL / 2)
    equal = int(np.count_nonzero(np.diff(found) < DIGITS * found[1:]))
    # Neighbours among n radii of density r * exp((TAIL**2 - r**2) / 2) are closer than d in n**2 / 2 * TAIL * d cases.
    expected = found.size**2 / 2 * TAIL * DIGITS * TAIL
    by_32_bits = found.size**2 / 2 / (2**32 * tail)
    return [
        verdicts.of_rare(f"pairs beyond {TAIL}", found.size, size / 2 * tail),
        verdicts.of_rare(f"equal radii (32-bit radii would give {by_32_bits:,.0f})", equal, expected),
    ]


def correlations(arrays: Sequence[Array], pairs: Sequence[tuple[int, int]], what: str) -> list[Finding]:
    """Test the largest correlation of the given pairs, of values and of squares, and the sum of all squares."""
    z = [np.asarray(array, np.float64) for array in arrays]
    squares = [(each * each - 1.0) / math.sqrt(2.0) for each in z]
    found = np.array(
        [np.dot(kind[one], kind[other]) / math.sqrt(z[0].size) for kind in (z, squares) for one, other in pairs]
    )
    farthest = float(np.max(np.abs(found)))
    p = -math.expm1(found.size * math.log1p(-verdicts.two_sided(farthest))) if farthest > 0 else 1.0
    return [
        Finding(f"{what}: largest of {found.size:,} correlations", f"{farthest:.2f} sigma", p),
        verdicts.of_sigmas(
            f"{what}: sum of their squares", (np.sum(found**2) - found.size) / math.sqrt(2 * found.size)
        ),
    ]


def neighbouring_keys(seed: int, size: int) -> list[Finding]:
    """Test keys whose seeds or streams differ by one or in one bit, and streams of similar names."""
    generator = fk.Generator(seed)
    families = {
        "seeds s and s + 1": [fk.Key((seed + i) % 2**64) for i in range(65)],
        "seeds s and s xor 2^i": [fk.Key(seed), *(fk.Key(seed ^ 1 << i) for i in range(64))],
        "streams s and s xor 2^i": [fk.Key(seed, 0), *(fk.Key(seed, 1 << i) for i in range(64))],
        "seed and stream exchanged": [fk.Key(a, b) for a, b in itertools.permutations((0, 1, 2, seed), 2)],
        "streams in sequence": [fk.Key(seed, stream) for stream in range(65)],
        "streams of names": [generator.key(f"model.layers.{i}.weight") for i in range(65)],
    }
    findings = []
    for what, keys in families.items():
        arrays = [fk.normal(size, rng=key) for key in keys]
        star = "xor" in what
        pairs = [(0, i) for i in range(1, len(keys))] if star else list(itertools.combinations(range(len(keys)), 2))
        findings += correlations(arrays, pairs, what)
    return findings


def chunk_borders(seed: int, size: int) -> list[Finding]:
    """Test the elements around the borders of chunks, at which threads and shards are divided."""
    key, whole = fk.Key(seed), (size + 1) * CHUNK
    around = [
        fk.normal(
            size, rng=key, global_shape=(whole,), index=(slice(CHUNK + offset, size * CHUNK + offset + 1, CHUNK),)
        )
        for offset in range(-4, 4)
    ]
    pairs = list(itertools.combinations(range(len(around)), 2))
    z = np.concatenate(around).astype(np.float64)
    return [
        *correlations(around, pairs, "elements around borders"),
        verdicts.of_sigmas("mean around borders", float(np.sum(z)) / math.sqrt(z.size)),
        verdicts.of_sigmas("variance around borders", float(np.sum(z * z - 1)) / math.sqrt(2 * z.size)),
    ]


def one_index_of_many_seeds(seed: int, size: int) -> list[Finding]:
    """Test the same element of consecutive seeds: moments, bins and correlation of neighbours."""
    z = np.empty(size, np.float32)
    for i in range(size):
        fk.normal_(z[i : i + 1], rng=fk.Key((seed + i) % 2**64), global_shape=(BLOCK,), index=(slice(1234, 1235),))
    doubles = z.astype(np.float64)
    turns = np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in doubles])
    return [
        verdicts.of_sigmas("mean", float(np.mean(doubles)) * math.sqrt(size)),
        verdicts.of_sigmas("variance", float(np.sum(doubles**2 - 1)) / math.sqrt(2 * size)),
        verdicts.of_counts("values", np.histogram(turns, 256, (0.0, 1.0))[0], size / 256),
        verdicts.of_sigmas("neighbours", float(np.dot(doubles[1:], doubles[:-1])) / math.sqrt(size - 1)),
    ]
