"""The error for an ``rng`` of another library says what to pass instead, and that works."""

import random
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

KINDS = "rng must be None, an integer, a Key, a Generator or a numpy.random.Generator, not "
OF_JAX = ": call an initializer of fastkaiming.jax, which takes keys of JAX, or pass an integer seed"
OF_PYTHON = ": pass an integer, such as random.getrandbits(64)"
WORDS = ": pass numpy.random.default_rng(array), or call an initializer of fastkaiming.jax if the array is a key of JAX"


def message_of(rng: Any) -> str:
    """Return the message of the error that every kind of function raises for an ``rng``."""
    weights: Any = np.zeros((3, 4), np.float32)
    calls: dict[str, Any] = {
        "kaiming_normal_": lambda: fk.kaiming_normal_(weights, rng=rng),
        "kaiming_normal": lambda: fk.kaiming_normal((3, 4), rng=rng),
        "fill_": lambda: fk.fill_(weights, fk.Normal(), rng=rng),
        "init_": lambda: fk.init_({"w": weights}, rng),
    }
    messages = set()
    for name, call in calls.items():
        with pytest.raises(TypeError) as raised:
            call()
        text = str(raised.value)
        assert text.startswith(f"{name}: {KINDS}{type(rng).__name__} ")
        assert "\n" not in text
        messages.add(text.removeprefix(f"{name}: "))
    assert not weights.any()
    (message,) = messages
    return message


@pytest.mark.parametrize(
    ("rng", "hint"),
    [
        (
            np.random.SeedSequence(5),
            ": pass numpy.random.default_rng(sequence) or int(sequence.generate_state(1, numpy.uint64)[0])",
        ),
        (np.random.PCG64(5), ": pass numpy.random.Generator(bit_generator)"),
        (np.random.MT19937(5), ": pass numpy.random.Generator(bit_generator)"),
        (np.random.RandomState(5), ": pass numpy.random.default_rng(seed) or an integer"),
        (np.random, ": pass numpy.random.default_rng(seed) or an integer"),
        (np.random.default_rng, ": pass what it returns, for example default_rng(seed)"),
        (fk.Generator, ": pass what it returns, for example Generator(seed)"),
        (random.Random(5), OF_PYTHON),
        (random, OF_PYTHON),
        (random.random, ""),
        (42.0, ": pass 42"),
        (np.float32(42.0), ": pass 42"),
        (-1.0, ""),
        (1e30, ""),
        ("4" * 30, ": pass Generator(seed).key(name) for the stream of a name"),
        ("42", ": pass int('42')"),
        ("encoder.weight", ": pass Generator(seed).key(name) for the stream of a name"),
        (b"42", ""),
        (0.5, ""),
        (True, ""),
        ([1, 2], ": pass numpy.random.default_rng(sequence)"),
        ((1, 2, 3), ": pass numpy.random.default_rng(sequence)"),
        (np.array([1, 2]), ": pass numpy.random.default_rng(array)"),
        (np.array([1, 2], np.uint32), WORDS),
        (np.array([1, 2, 3, 4], np.uint32), WORDS),
    ],
)
def test_hint(rng: Any, hint: str) -> None:
    message = message_of(rng)
    assert message.endswith(hint)
    assert (": " in message) == bool(hint)


def test_hint_for_keys_of_jax() -> None:
    jax = pytest.importorskip("jax")
    raw = jax.random.PRNGKey(5)
    for rng in (jax.random.key(5), raw, np.asarray(raw), jax.random.key(5, impl="rbg"), jax.random.split(raw, 3)):
        assert message_of(rng).endswith(OF_JAX)
    with pytest.raises(TypeError) as raised:
        jax.jit(lambda key: fk.kaiming_normal((3, 4), rng=key))(raw)
    assert str(raised.value).endswith(OF_JAX)


def test_hint_for_a_generator_of_torch() -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator()
    hint = ": call a function of fastkaiming.torch, which takes generator=, or pass generator.initial_seed()"
    assert message_of(generator).endswith(hint)
    assert fk.kaiming_normal((3, 4), rng=generator.initial_seed()).any()


def test_what_the_hints_name_works() -> None:
    sequence, bits = np.random.SeedSequence(5), np.random.PCG64(5)
    for rng in (
        int(sequence.generate_state(1, np.uint64)[0]),
        np.random.default_rng(sequence),
        np.random.Generator(bits),
        random.getrandbits(64),
        np.random.default_rng([1, 2]),
        np.random.default_rng(np.array([1, 2], np.uint32)),
        fk.Generator(5).key("encoder.weight"),
    ):
        assert fk.kaiming_normal((3, 4), rng=rng).any()
