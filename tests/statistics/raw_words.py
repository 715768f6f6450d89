"""Tests of the 32-bit words before any transform, and a program that pipes them to other test batteries.

    python tests/statistics/raw_words.py SEED | dieharder -a -g 200
    python tests/statistics/raw_words.py SEED | RNG_test stdin32 -tlmax 1TB

RNG_test is part of PractRand. The words are in the order of the stream, in little-endian byte order.
"""

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import verdicts
from numpy.typing import NDArray
from sampling import BLOCK, map_blocks, total
from verdicts import Finding

import fastkaiming as fk

Words = NDArray[np.uint32]
BIRTHDAYS = 1 << 12  # in a year of 2**32 days; 4 repeated spacings are expected
RANK_PROBABILITIES = (0.2887880951538411, 0.5775761901732046, 0.1283502644829343, 0.0052854502)  # 32, 31, 30, fewer


def words_(out: Words, *, rng: fk.Key, index: tuple[slice], **_where: Any) -> None:
    """Fill an array with the words of a key, with the arguments of an initializer."""
    out[:] = rng.words(out.size, index[0].start)


def counted(measure: Callable[[Words], Any], seed: int, size: int) -> Any:
    """Return the sum of ``measure`` over all blocks of words of a seed."""
    return total(map_blocks(measure, fk.Key(seed), size, words_, np.uint32))


def bits(seed: int, size: int) -> list[Finding]:
    """Test how often each of the 32 bits is set, and how often it changes from one word to the next."""

    def counts(words: Words) -> NDArray[np.int64]:
        both = (words, words[1:] ^ words[:-1])
        return np.array([[np.count_nonzero(each >> np.uint32(bit) & 1) for bit in range(32)] for each in both])

    found = counted(counts, seed, size)
    borders = -(-size // BLOCK)
    findings = []
    for what, ones, n in (("set", found[0], size), ("changed", found[1], size - borders)):
        z = (2 * ones - n) / math.sqrt(n)
        farthest = float(np.max(np.abs(z)))
        p = -math.expm1(32 * math.log1p(-verdicts.two_sided(farthest)))
        findings += [
            Finding(f"bits {what}, the largest deviation of 32", f"{farthest:.2f} sigma", p),
            verdicts.of_sigmas(f"bits {what}, sum of squares", (float(np.sum(z * z)) - 32) / 8),
        ]
    return findings


def bytes_in_pairs(seed: int, size: int) -> list[Finding]:
    """Test pairs of bytes within words, across words, and four words apart."""

    def counts(words: Words) -> NDArray[np.int64]:
        octets = words.view(np.uint8).astype(np.uint32)
        return np.array(
            [np.bincount(256 * octets[:-gap] + octets[gap:], minlength=1 << 16) for gap in (1, 3, 4, 16)], np.int64
        )

    found = counted(counts, seed, size)
    return [
        verdicts.of_counts(f"bytes {gap} apart", row[:, None].ravel(), row.sum() / row.size)
        for gap, row in zip((1, 3, 4, 16), found, strict=True)
    ]


def weights(seed: int, size: int) -> list[Finding]:
    """Test the number of set bits in words, and its correlation between words."""
    lags = (1, 2, 4, 8)

    def sums(words: Words) -> NDArray[np.float64]:
        z = (np.bitwise_count(words).astype(np.float64) - 16) / math.sqrt(8)
        return np.array([np.sum(z), *(np.dot(z[lag:], z[:-lag]) for lag in lags)])

    found = counted(sums, seed, size)
    borders = -(-size // BLOCK)
    names = [(0, "mean"), *((lag, f"lag {lag}") for lag in lags)]
    return [
        verdicts.of_sigmas(f"bits set in a word, {name}", value / math.sqrt(size - borders * lag))
        for (lag, name), value in zip(names, found, strict=True)
    ]


def birthdays(seed: int, size: int) -> list[Finding]:
    """Test repeated birthday spacings (Marsaglia & Tsang, "Some difficult-to-pass tests of randomness", 2002)."""

    def repeated(words: Words) -> NDArray[np.int64]:
        years = np.sort(words[: words.size // BIRTHDAYS * BIRTHDAYS].reshape(-1, BIRTHDAYS), axis=1)
        spacings = np.sort(np.diff(years, axis=1), axis=1)
        return np.bincount(np.count_nonzero(np.diff(spacings, axis=1) == 0, axis=1), minlength=BIRTHDAYS)

    counts = counted(repeated, seed, size)
    years = int(counts.sum())
    mean = BIRTHDAYS**3 / 2**34
    poisson = np.array([math.exp(-mean) * mean**k / math.factorial(k) for k in range(13)])
    expected = years * np.append(poisson, 1 - poisson.sum())
    observed = np.append(counts[:13], counts[13:].sum())
    return [verdicts.of_counts("years by repeated spacings", observed, expected)]


def ranks(seed: int, size: int) -> list[Finding]:
    """Test the ranks of 32 x 32 bit matrices, with one word per row.

    Marsaglia & Tsay, "Matrices and the structure of random number sequences", Linear Algebra Appl. 67 (1985).
    """

    def counts(words: Words) -> NDArray[np.int64]:
        found = np.bincount(rank(words[: words.size // 32 * 32].reshape(-1, 32).copy()), minlength=33)
        return np.array([found[32], found[31], found[30], found[:30].sum()])

    observed = counted(counts, seed, size)
    return [verdicts.of_counts("matrices by rank", observed, observed.sum() * np.array(RANK_PROBABILITIES))]


def rank(matrices: Words) -> NDArray[np.int64]:
    """Return the ranks over GF(2), by elimination, of all matrices at once."""
    found = np.zeros(len(matrices), np.int64)
    rows = np.arange(len(matrices))
    for bit in range(32):
        has = (matrices >> np.uint32(bit) & 1).astype(bool)
        pivots = np.where(has.any(1), has.argmax(1), -1)
        pivot_rows = np.where(pivots >= 0, matrices[rows, pivots], 0)
        matrices ^= np.where(has, pivot_rows[:, None], 0).astype(np.uint32)  # the row of the pivot becomes zero
        found += pivots >= 0
    return found


def pipe(seed: int, output: Any) -> None:
    """Write the words of a seed until the reader closes the pipe."""
    key = fk.Key(seed)
    try:
        for begin in itertools.count(0, BLOCK):
            output.write(key.words(BLOCK, begin).astype("<u4").data)
    except BrokenPipeError:
        sys.stderr.close()  # prevents an error message of the interpreter at exit


if __name__ == "__main__":
    pipe(int(sys.argv[1]) if len(sys.argv) > 1 else 0, sys.stdout.buffer)
