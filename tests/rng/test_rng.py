"""Keys and generators: published words, streams of names against coreutils' b2sum, threads that share a generator."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from reference import philox_key

import fastkaiming as fk
from fastkaiming import _core
from fastkaiming.rng import key_from

LAST = 2**64 - 1
SEED_OF_KEY_0 = 2**64 - 0x782CB42F65763AD6  # its sum is 0, which the finalizer maps to 0


def test_words_are_philox() -> None:
    words = fk.Key(SEED_OF_KEY_0).words(4)
    assert words.dtype == np.uint32
    # Random123, kat_vectors: philox4x32 10, all zero
    assert words.tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_philox_key_is_the_finalizer_of_splitmix64() -> None:
    """The expected values are the first outputs of Vigna's splitmix64.c from state 1234567, as on Rosetta Code."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    summand = int.from_bytes(bytes.fromhex("d63a76652fb42c78"), "little")  # printf fastkaiming | b2sum -l 64
    states = [1234567 + n * 0x9E3779B97F4A7C15 for n in range(1, 6)]
    assert [fk.Key((state - summand) % 2**64).philox_key for state in states] == published


def test_philox_key_is_a_bijection() -> None:
    """Inverting each step with integers returns the seed; all streams of a seed have the same Philox key."""
    for seed in [0, 1, 42, LAST, *np.random.default_rng(0).integers(LAST, size=1000, dtype=np.uint64).tolist()]:
        key = fk.Key(seed, 5)
        z = without_shift(key.philox_key, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
        z = without_shift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
        assert (without_shift(z, 30) - 0x782CB42F65763AD6) % 2**64 == seed
        assert key.philox_key == fk.Key(seed).philox_key == philox_key(seed)


def without_shift(y: int, shift: int) -> int:
    """Return the 64-bit x for which x xor (x >> shift) is y."""
    x = y
    for _ in range(64 // shift):
        x = y ^ x >> shift
    return x


def test_philox_key_cannot_be_set() -> None:
    with pytest.raises((AttributeError, TypeError)):
        fk.Key(1).philox_key = 1  # type: ignore[misc]


def test_words_differ_from_philox_with_the_seed_as_key() -> None:
    """The latter are used by torch's CUDA generator and Triton, with stream and block as subsequence and offset."""
    raw = np.empty(32, np.uint32)
    _core.fill(raw, _core.WORDS_U32, 42, 5, 0)
    assert not set(fk.Key(42, 5).words(32)) & set(raw)


@pytest.mark.parametrize(("n", "start"), [(0, 0), (0, LAST), (1, LAST), (5, 2**64 - 5), (np.int64(3), np.uint64(7))])
def test_words_up_to_the_end_of_the_counter(n: int, start: int) -> None:
    assert fk.Key(1).words(n, start).shape == (n,)


@pytest.mark.parametrize(
    ("n", "start", "error", "message"),
    [
        (-1, 0, ValueError, "n must be an integer from 0 to 2305843009213693951, got -1"),
        (2**64, 0, ValueError, "n must be an integer from 0 to 2305843009213693951, got 18446744073709551616"),
        (2, LAST, ValueError, "n must be an integer from 0 to 1, got 2"),
        (1.0, 0, TypeError, "n must be an integer, not float 1.0"),
        (1, -1, ValueError, "start must be an integer from 0 to 18446744073709551615, got -1"),
        (1, 2**64, ValueError, "start must be an integer from 0 to 18446744073709551615, got 18446744073709551616"),
        (1, False, TypeError, "start must be an integer, not bool False"),
    ],
)
def test_words_rejects_invalid_arguments(n: Any, start: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refusal:
        fk.Key(1).words(n, start)
    assert str(refusal.value) == message


def test_keys_are_frozen_values() -> None:
    seven: Any = np.uint64(7)
    key = fk.Key(7)
    assert key == fk.Key(seven, 0)
    assert len({key, fk.Key(7, 0), fk.Key(7, 1), fk.Key(8)}) == 3
    assert repr(fk.Key(LAST, 5)) == "Key(seed=18446744073709551615, stream=5)"
    with pytest.raises(FrozenInstanceError):
        key.seed = 8  # type: ignore[misc]


SEEDS: list[tuple[Any, type[Exception], str]] = [
    (-1, ValueError, "must be an integer from 0 to 18446744073709551615, got -1"),
    (2**64, ValueError, "must be an integer from 0 to 18446744073709551615, got 18446744073709551616"),
    (True, TypeError, "must be an integer, not bool True"),
    (1.0, TypeError, "must be an integer, not float 1.0"),
    ("1", TypeError, "must be an integer, not str '1'"),
]


@pytest.mark.parametrize(("seed", "error", "message"), SEEDS)
def test_seeds_and_streams_are_64_bit_integers(seed: Any, error: type[Exception], message: str) -> None:
    for kind, name in ((fk.Key, "seed"), (fk.Key, "stream"), (fk.Generator, "seed")):
        arguments = {"seed": 0} | {name: seed}
        with pytest.raises(error) as refusal:
            kind(**arguments)
        assert str(refusal.value) == f"{name} {message}"


def test_generator_counts_streams() -> None:
    generator = fk.Generator(LAST)
    assert generator.seed == LAST
    assert [generator.next_key() for _ in range(3)] == [fk.Key(LAST, 1), fk.Key(LAST, 2), fk.Key(LAST, 3)]
    assert repr(generator) == "Generator(seed=18446744073709551615)"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(6))]
)
def test_copy_of_a_generator_continues_independently(copied: Callable[[fk.Generator], fk.Generator]) -> None:
    generator = fk.Generator(5)
    generator.next_key()
    other = copied(generator)
    assert [other.next_key(), other.next_key()] == [fk.Key(5, 2), fk.Key(5, 3)]
    assert generator.next_key() == fk.Key(5, 2)


def state(**changes: object) -> dict[str, object]:
    """Return the pickled state of a generator, or with changes the state that another release may write."""
    return {"stream_version": fk.STREAM_VERSION, "seed": 5, "next_stream": 1, **changes}


def pickled(state: object) -> bytes:
    class Forged:
        def __reduce__(self) -> tuple[object, ...]:
            return object.__new__, (fk.Generator,), state

    return pickle.dumps(Forged())


def test_next_key_raises_after_the_last_sequential_stream() -> None:
    generator = pickle.loads(pickled(state(next_stream=2**63 - 2)))
    assert [generator.next_key(), generator.next_key()] == [fk.Key(5, 2**63 - 2), fk.Key(5, 2**63 - 1)]
    for exhausted in (generator, copy.copy(generator), pickle.loads(pickle.dumps(generator))):
        for _ in range(2):
            with pytest.raises(OverflowError) as refusal:
                exhausted.next_key()
            assert str(refusal.value) == (
                "next_key() has already returned the last sequential stream of the generator, 9223372036854775807: "
                "use another seed"
            )
        assert exhausted.key("w") == fk.Generator(5).key("w")


@pytest.mark.parametrize("taken", [0, 1, 2**31 - 1, 2**31, 2**62, 2**63 - 2, 2**63 - 1])
def test_copy_continues_from_the_same_stream(taken: int) -> None:
    expected = state(next_stream=1 + taken)
    generator = pickle.loads(pickled(expected))
    for each in (generator, copy.copy(generator)):
        assert each.__getstate__() == expected


@pytest.mark.parametrize("version", [0, 2, 10**30])
@pytest.mark.parametrize("others", [{"seed": 5, "next_stream": 1}, {}, {"seed": "5", "position": [1, 2]}])
def test_unpickling_another_stream_version_raises(version: int, others: dict[str, object]) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        pickle.loads(pickled({"stream_version": version, **others}))
    assert str(refusal.value) == (
        f"the Generator was pickled under stream version {version} and cannot be unpickled under stream version 1, "
        "which gives other values"
    )


def test_unpickling_after_a_change_of_the_stream_version_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = pickle.dumps(fk.Generator(5))
    monkeypatch.setattr(_core, "STREAM_VERSION", 2)
    with pytest.raises(ValueError, match="pickled under stream version 1 and cannot be unpickled under stream version"):
        pickle.loads(earlier)
    assert pickle.loads(pickle.dumps(fk.Generator(5))).next_key() == fk.Key(5, 1)


@pytest.mark.parametrize(
    "unknown",
    [
        (5, 1),
        {},
        "state",
        {"seed": 5, "next_stream": 1},
        state(stream_version="1"),
        state(stream_version=True),
        state(seed=-1),
        state(seed=2**64),
        state(seed=5.0),
        state(seed=True),
        state(next_stream=0),
        state(next_stream=2**63 + 1),
        state(next_stream=None),
        state(next_stream=True),
        state(extra=0),
    ],
)
def test_unpickling_an_unknown_state_raises(unknown: object) -> None:
    with pytest.raises(ValueError, match="the pickled state of a Generator must be a dict of stream_version, seed and"):
        pickle.loads(pickled(unknown))


def test_huge_seed_raises_value_error() -> None:
    with pytest.raises(ValueError, match="seed must be an integer from 0 to 18446744073709551615, got <int "):
        fk.Key(10**5000)


# The stream is 2**63 + (digest mod 2**63), with the little-endian digest of `printf NAME | b2sum -l 64`.
@pytest.mark.parametrize(
    ("name", "digest"),
    [("encoder.weight", "a5f08dd8b48ac2fe"), ("é", "cb1abf8beff3192f"), ("", "e4a6a0577479b2b4")],
)
def test_streams_of_names_match_b2sum(name: str, digest: str) -> None:
    generator = fk.Generator(3)
    stream = 2**63 + int.from_bytes(bytes.fromhex(digest), "little") % 2**63
    assert generator.key(name) == fk.Key(3, stream)
    assert generator.next_key().stream == 1  # the key of a name does not advance the generator


@pytest.mark.parametrize("name", [b"weight", 3, None])
def test_key_rejects_names_that_are_not_str(name: Any) -> None:
    with pytest.raises(TypeError, match="name must be a str, not "):
        fk.Generator(0).key(name)


def test_generators_without_a_seed_differ() -> None:
    assert len({fk.Generator().seed for _ in range(8)}) == 8


def test_threads_never_share_a_stream() -> None:
    generator = fk.Generator(0)
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [generator.next_key().stream for _ in range(2000)], range(8)))
    assert sorted(stream for batch in batches for stream in batch) == list(range(1, 16001))


def test_key_from_every_kind_of_rng() -> None:
    nine: Any = np.int64(9)
    assert key_from(9) == key_from(nine) == fk.Key(9, 0)
    assert key_from(fk.Key(9, 4)) == fk.Key(9, 4)
    generator = fk.Generator(9)
    assert [key_from(generator), key_from(generator)] == [fk.Key(9, 1), fk.Key(9, 2)]
    assert key_from(None) != key_from(None)


def test_key_from_a_numpy_generator_takes_one_64_bit_seed() -> None:
    for bits in (np.random.PCG64, np.random.Philox, np.random.SFC64):
        generator, raw = np.random.Generator(bits(5)), bits(5)
        assert [key_from(generator) for _ in range(3)] == [fk.Key(int(raw.random_raw())) for _ in range(3)]


@pytest.mark.parametrize("rng", [True, 1.5, "42", [1], np.random.RandomState(0), np.float64(3.0)])
def test_key_from_rejects_other_types(rng: Any) -> None:
    kinds = "rng must be None, an integer, a Key, a Generator or a numpy.random.Generator, not "
    with pytest.raises(TypeError, match=kinds + type(rng).__name__):
        key_from(rng)


@pytest.mark.parametrize("rng", [-1, 2**64])
def test_key_from_rejects_integers_out_of_range(rng: int) -> None:
    with pytest.raises(ValueError, match=f"rng must be an integer from 0 to 18446744073709551615, got {rng}"):
        key_from(rng)
