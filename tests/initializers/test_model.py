"""``init_``: the rule and the stream of each array, and that all arrays are filled in one parallel region."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
from marked_arrays import marked
from numpy.typing import NDArray

import fastkaiming as fk


def model() -> dict[str, NDArray[Any]]:
    return {
        "embed.weight": marked((50, 16)),
        "layers.0.fc.weight": marked((32, 16)),
        "layers.0.fc.bias": marked((32,)),
        "layers.0.norm.weight": marked((16,)),
        "head.weight": marked((10, 32), dtype=np.float64),
    }


def stream(seed: int, name: str) -> fk.Key:
    return fk.Generator(seed).key(name)


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_default_rules() -> None:
    params = model()
    report = fk.init_(params, rng=3)
    assert same(params["embed.weight"], fk.normal((50, 16), std=0.02, rng=stream(3, "embed.weight")))
    assert same(params["layers.0.fc.weight"], fk.kaiming_normal((32, 16), rng=stream(3, "layers.0.fc.weight")))
    assert same(params["layers.0.fc.bias"], np.zeros(32, np.float32))
    assert same(params["layers.0.norm.weight"], np.ones(16, np.float32))
    assert same(params["head.weight"], fk.kaiming_normal((10, 32), np.float64, rng=stream(3, "head.weight")))
    assert report.filled == {
        "embed.weight": "*embed*",
        "layers.0.fc.weight": "*",
        "layers.0.fc.bias": "*bias",
        "layers.0.norm.weight": "*norm*",
        "head.weight": "*",
    }
    assert report.shared == {}
    assert report.unused == ("*running_mean", "*running_var")


def test_default_seed_is_0() -> None:
    a, b = model(), model()
    fk.init_(a)
    fk.init_(b, 0)
    assert all(same(a[name], b[name]) for name in a)


def test_values_do_not_depend_on_other_arrays_or_their_order() -> None:
    whole, part = model(), dict(reversed(model().items()))
    del part["layers.0.norm.weight"]
    part["new"] = marked((7, 7))
    fk.init_(whole, rng=9)
    fk.init_(part, rng=9)
    assert all(same(part[name], whole[name]) for name in part if name != "new")


@pytest.mark.parametrize(
    ("rng", "seed"),
    [(5, 5), (np.int64(5), 5), (fk.Generator(5), 5)],
    ids=["an integer", "NumPy's integer", "a Generator"],
)
def test_sources_of_the_seed(rng: Any, seed: int) -> None:
    out = marked((8, 8))
    fk.init_({"w": out}, rng)
    assert same(out, fk.kaiming_normal((8, 8), rng=stream(seed, "w")))


def test_generator_is_not_advanced() -> None:
    generator = fk.Generator(5)
    fk.init_({"w": marked((8, 8))}, generator)
    assert generator.next_key() == fk.Key(5, 1)


def test_numpy_generator_provides_the_seed() -> None:
    out = marked((8, 8))
    fk.init_({"w": out}, np.random.default_rng(1))
    seed = int(np.random.default_rng(1).integers(2**64 - 1, dtype=np.uint64, endpoint=True))
    assert same(out, fk.kaiming_normal((8, 8), rng=stream(seed, "w")))


def test_rng_none_uses_new_entropy() -> None:
    a, b = marked((8, 8)), marked((8, 8))
    fk.init_({"w": a}, None)
    fk.init_({"w": b}, None)
    assert not same(a, b)


RULES: dict[str, tuple[Any, Callable[[fk.Key], NDArray[Any]]]] = {
    "a name": ("kaiming_uniform", lambda key: fk.kaiming_uniform((6, 5), rng=key)),
    "a name with an underscore": ("kaiming_uniform_", lambda key: fk.kaiming_uniform((6, 5), rng=key)),
    "a call": ("normal()", lambda key: fk.normal((6, 5), rng=key)),
    "keyword arguments": ("normal(std=2.5, mean=-1)", lambda key: fk.normal((6, 5), mean=-1, std=2.5, rng=key)),
    "positional arguments": (" uniform(-3, 0.5) ", lambda key: fk.uniform((6, 5), low=-3, high=0.5, rng=key)),
    "a text as argument": (
        "kaiming_normal(nonlinearity='tanh', layout='IO')",
        lambda key: fk.kaiming_normal((6, 5), nonlinearity="tanh", layout="IO", rng=key),
    ),
    "a constant": ("constant(0.25)", lambda _key: np.full((6, 5), 0.25, np.float32)),
    "a function": (fk.kaiming_uniform_, lambda key: fk.kaiming_uniform((6, 5), rng=key)),
    "a partial function": (partial(fk.normal_, std=3.0), lambda key: fk.normal((6, 5), std=3.0, rng=key)),
    "a user's function": (
        lambda out, rng: fk.normal_(out, std=3.0, rng=rng).__imul__(np.float32(2)),
        lambda key: 2 * fk.normal((6, 5), std=3.0, rng=key),
    ),
}


@pytest.mark.parametrize(("rule", "expected"), RULES.values(), ids=RULES)
def test_rules(rule: Any, expected: Callable[[fk.Key], NDArray[Any]]) -> None:
    out = marked((6, 5))
    fk.init_({"some.name": out}, rng=4, rules={"*": rule})
    assert same(out, expected(stream(4, "some.name")))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*.bias", "a.b.bias", True),
        ("*.bias", "bias", False),
        ("*bias", "bias", True),
        ("*.Bias", "a.bias", False),
        ("layer.?.w", "layer.3.w", True),
        ("layer.?.w", "layer.12.w", False),
        ("layer.[0-2].w", "layer.1.w", True),
        ("layer.[!0-2].w", "layer.1.w", False),
        ("a.w", "b.a.w", False),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    params, rules = {name: marked((3, 3)), "other": marked((3, 3))}, {pattern: "ones", "*": "zeros"}
    with nullcontext() if matches else pytest.warns(UserWarning, match="some rules filled no array: no name matches"):
        report = fk.init_(params, rules=rules)
    assert report.filled == {name: pattern if matches else "*", "other": "*"}


def test_first_matching_rule_applies() -> None:
    out = marked((4, 4))
    with pytest.warns(
        UserWarning, match="filled no array: no name matches 'x', and other rules came before 'fc.weight'$"
    ):
        report = fk.init_({"fc.weight": out}, rules={"x": "zeros", "fc.*": "ones", "fc.weight": "zeros"})
    assert same(out, np.ones((4, 4), np.float32))
    assert report.unused == ("x", "fc.weight")


def test_shared_memory_is_filled_once_under_the_first_name() -> None:
    for names in (("lm_head.weight", "embed.weight"), ("embed.weight", "lm_head.weight")):
        out = marked((20, 8))
        with pytest.warns(UserWarning, match=r"other rules came before 'lm_head\*'"):
            report = fk.init_(
                dict.fromkeys(names, out), rng=1, rules={"embed*": "normal(std=0.02)", "lm_head*": "ones"}
            )
        assert report.filled == dict.fromkeys(names, "embed*")
        assert report.shared == {"lm_head.weight": "embed.weight"}
        assert same(out, fk.normal((20, 8), std=0.02, rng=stream(1, "embed.weight")))


def test_empty_arrays_share_nothing() -> None:
    empty = marked((0, 8))
    assert fk.init_({"a": empty, "b": empty}).shared == {}


def test_interleaved_views_do_not_overlap() -> None:
    both = marked((8, 6))
    fk.init_({"even": both[:, ::2], "odd": both[:, 1::2]}, rng=2)
    assert np.array_equal(both[:, ::2], fk.kaiming_normal((8, 3), rng=stream(2, "even")))
    assert np.array_equal(both[:, 1::2], fk.kaiming_normal((8, 3), rng=stream(2, "odd")))


def test_all_arrays_are_filled_in_one_parallel_region() -> None:
    reports: list[tuple[int, int]] = []
    params = {f"w{i}": marked((30, 40)) for i in range(500)}
    with fk.progress(lambda done, total: reports.append((done, total))):
        fk.init_(params, threads=3)
    assert reports[-1] == (600_000, 600_000)
    assert {total for _, total in reports} == {600_000}


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_values_do_not_depend_on_threads_or_sizes(threads: int | None) -> None:
    sizes = [(1, 1), (700, 900), (3, 5), (1, 300_001), (2000, 1100), (7, 7), (256, 256)]
    params = {f"{i}": marked(size) for i, size in enumerate(sizes)}
    params["F"] = np.asfortranarray(marked((611, 517)))
    params["half"] = marked((900, 300), dtype=np.float16)
    fk.init_(params, rng=8, threads=threads)
    for name, out in params.items():
        assert np.array_equal(out, fk.kaiming_normal(out.shape, out.dtype, rng=stream(8, name)))


def test_exception_of_a_progress_callback_stops_the_fill() -> None:
    def stop(_done: int, _total: int) -> None:
        raise InterruptedError

    with fk.progress(stop), pytest.raises(InterruptedError):
        fk.init_({f"w{i}": marked((300, 400)) for i in range(20)})


def test_rule_keep_leaves_the_array_unchanged() -> None:
    params = {"frozen": np.ones((3, 4), np.float32), "head": np.empty((4, 5), np.float32)}
    assert fk.init_(params, rng=7, rules={"frozen": "keep", "*": "kaiming_normal"}).filled["frozen"] == "frozen"
    assert (params["frozen"] == 1).all()
    assert np.array_equal(params["head"], fk.kaiming_normal((4, 5), rng=fk.Generator(7).key("head")))
    with pytest.raises(ValueError, match="the rule 'frozen' must not set rng"):
        fk.init_(params, rules={"frozen": "keep(rng=3)", "*": "zeros"})


def test_rule_of_the_user_without_a_layout_reads_three_or_more_axes_as_torch_does() -> None:
    """The axes are those of a convolution: outputs, inputs, and the receptive field."""
    out = marked((6, 4, 3, 3))
    fk.init_({"w": out}, rng=5, rules={"*": "kaiming_normal"})
    assert same(out, fk.normal((6, 4, 3, 3), std=(2 / 36) ** 0.5, rng=stream(5, "w")))


def test_default_rules_without_fans_apply_to_any_number_of_axes() -> None:
    params = {"pos_embed": marked((1, 5, 4)), "norm": marked((4, 1, 1)), "experts.bias": marked((3, 2, 2))}
    fk.init_(params, rng=5)
    assert same(params["pos_embed"], fk.normal((1, 5, 4), std=0.02, rng=stream(5, "pos_embed")))
    assert same(params["norm"], np.ones((4, 1, 1), np.float32))
    assert same(params["experts.bias"], np.zeros((3, 2, 2), np.float32))


def test_report_lists_the_names_that_were_kept() -> None:
    params = {"frozen": np.ones((3, 4), np.float32), "head": np.empty((4, 5), np.float32)}
    assert fk.init_(params, rules={"frozen": "keep", "*": "kaiming_normal"}).kept == ("frozen",)
    assert fk.init_({"head": params["head"]}).kept == ()
