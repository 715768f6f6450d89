"""Xavier, LeCun, He, variance scaling and truncated normals: their distributions against formulas, and their errors."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from plans import Plans, put_off

import fastkaiming as fk

Fill = Callable[..., Any]

CUT = 0.87962566103423978  # the standard deviation of N(0, 1) between -2 and 2
LAYOUT = {"layout": "*IO"}
LAYER = (3, 3, 16, 32)  # the fans in that layout are 144 and 288; their means are 216 and sqrt(2) * 144


@pytest.fixture
def plans() -> Iterator[Plans]:
    """Return the list of the plans of all fills; none of the fills runs."""
    with put_off() as plans:
        yield plans


# function, arguments, family and variance of its distribution
VARIANCES: list[tuple[Fill, dict[str, Any], str, float]] = [
    (fk.xavier_normal_, {}, "normal", 1 / 216),
    (fk.xavier_normal_, {"gain": 5 / 3}, "normal", 25 / 9 / 216),
    (fk.xavier_normal_, {"fan": 8}, "normal", 1 / 8),
    (fk.xavier_normal_, {"gain": 0.0}, "normal", 0.0),
    (fk.xavier_uniform_, {}, "uniform", 1 / 216),
    (fk.xavier_uniform_, {"gain": 2.0, "groups": 4}, "uniform", 4 / 108),
    (fk.lecun_normal_, {}, "truncated_normal", 1 / 144),
    (fk.lecun_normal_, {"fan": 0.5}, "truncated_normal", 2.0),
    (fk.lecun_uniform_, {}, "uniform", 1 / 144),
    (fk.lecun_uniform_, {"transposed": True, "groups": 2}, "uniform", 1 / 72),
    (fk.he_normal_, {}, "normal", 2 / 144),
    (fk.he_normal_, {"mode": "fan_out"}, "normal", 2 / 288),
    (fk.he_uniform_, {}, "uniform", 2 / 144),
    (fk.he_uniform_, {"mode": "fan_avg", "fan": 6}, "uniform", 2 / 6),
    (fk.variance_scaling_, {}, "truncated_normal", 1 / 144),
    (fk.variance_scaling_, {"scale": 2.0, "mode": "fan_out"}, "truncated_normal", 2 / 288),
    (fk.variance_scaling_, {"mode": "fan_avg", "distribution": "normal"}, "normal", 1 / 216),
    (fk.variance_scaling_, {"mode": "fan_geo_avg", "distribution": "untruncated_normal"}, "normal", 1 / 144 / 2**0.5),
    (fk.variance_scaling_, {"scale": 3, "distribution": "uniform"}, "uniform", 3 / 144),
    (fk.variance_scaling_, {"scale": 0.1, "fan": 10}, "truncated_normal", 0.01),
    (fk.variance_scaling_, {"scale": 0.0}, "truncated_normal", 0.0),
]


def expected_numbers(family: str, std: float) -> tuple[type, dict[str, float]]:
    if family == "normal":
        return fk.Normal, {"mean": 0.0, "std": std}
    if family == "uniform":
        return fk.Uniform, {"low": -math.sqrt(3) * std, "high": math.sqrt(3) * std}
    return fk.TruncatedNormal, {"loc": 0.0, "scale": std / CUT, "low": -2 * std / CUT, "high": 2 * std / CUT}


@pytest.mark.parametrize(("fill", "arguments", "family", "variance"), VARIANCES)
def test_distribution(plans: Plans, fill: Fill, arguments: dict[str, Any], family: str, variance: float) -> None:
    out = np.empty(LAYER, np.float32)
    assert fill(out, **LAYOUT, **arguments) is out
    kind, numbers = expected_numbers(family, math.sqrt(variance))
    (distribution,) = plans.distributions()
    assert type(distribution) is kind
    for name, number in numbers.items():
        assert math.isclose(getattr(distribution, name), number, rel_tol=8e-16)
    assert distribution.mean == 0.0
    assert math.isclose(distribution.std, math.sqrt(variance), rel_tol=2e-15)


@pytest.mark.parametrize(("fill", "arguments", "family", "variance"), VARIANCES)
def test_fan_of_a_shard_is_that_of_the_global_shape(
    plans: Plans, fill: Fill, arguments: dict[str, Any], family: str, variance: float
) -> None:
    del family, variance
    index = (slice(None), slice(None), slice(0, 3), slice(1, None, 2))
    fill(np.empty(LAYER, np.float32), **LAYOUT, **arguments)
    fill(np.empty((3, 3, 3, 16), np.float32), **LAYOUT, **arguments, global_shape=list(LAYER), index=index)
    nothing = (slice(0), *index[1:])
    fill(np.empty((0, 3, 3, 16), np.float32), **LAYOUT, **arguments, global_shape=LAYER, index=nothing)
    of_whole, of_shard, of_nothing = plans.distributions()
    assert of_whole == of_shard == of_nothing


@pytest.mark.parametrize("kaiming", [fk.kaiming_normal_, fk.kaiming_uniform_])
def test_fan_of_a_kaiming_shard_is_that_of_the_global_shape(plans: Plans, kaiming: Fill) -> None:
    kaiming(np.empty((8, 5), np.float32), global_shape=(8, 50), index=(slice(None), slice(5, 10)))
    kaiming(np.empty((8, 50), np.float32))
    shard, whole = plans.distributions()
    assert shard == whole


@pytest.mark.parametrize(("fill", "arguments", "family", "variance"), VARIANCES)
def test_values_have_the_variance(fill: Fill, arguments: dict[str, Any], family: str, variance: float) -> None:
    values = np.empty(LAYER, np.float64)
    fill(values, **LAYOUT, **arguments, rng=7)
    error = 5 * math.sqrt(2 / values.size)  # 5 standard errors of a normal, or more of the other families
    assert math.isclose(np.mean(values**2), variance, rel_tol=error)
    if family != "normal":
        bound = math.sqrt(variance) * (2 / CUT if family == "truncated_normal" else math.sqrt(3))
        assert 0.99 * bound <= abs(values).max() <= bound * (1 + 1e-15)


def test_trunc_normal(plans: Plans) -> None:
    out = np.empty((4, 4), np.float32)
    assert fk.trunc_normal_(out) is out
    fk.trunc_normal_(out, 1.0, 0.5, 0.0, 4)
    fk.trunc_normal_(out, std=0.02, a=-math.inf)
    assert plans.distributions() == [
        fk.TruncatedNormal(0.0, 1.0, -2.0, 2.0),
        fk.TruncatedNormal(1.0, 0.5, 0.0, 4.0),
        fk.TruncatedNormal(0.0, 0.02, -math.inf, 2.0),
    ]


def test_trunc_normal_values() -> None:
    values = fk.trunc_normal((500, 500), np.float64, 1.0, 2.0, 0.0, 1.5, rng=7)
    exact = fk.TruncatedNormal(1.0, 2.0, 0.0, 1.5)
    assert 0.0 <= values.min() < 1e-4
    assert 1.5 - 1e-4 < values.max() <= 1.5
    assert math.isclose(values.mean(), exact.mean, abs_tol=5 * exact.std / 500)
    assert math.isclose(values.std(), exact.std, rel_tol=5 / 500)


KAIMINGS: list[tuple[Fill, Fill]] = [(fk.he_normal_, fk.kaiming_normal_), (fk.he_uniform_, fk.kaiming_uniform_)]


@pytest.mark.parametrize(("he", "kaiming"), KAIMINGS)
def test_he_equals_kaiming_with_relu(he: Fill, kaiming: Fill) -> None:
    reading: dict[str, Any] = {"layout": "*OI", "transposed": True, "groups": 4, "rng": 3}
    for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
        mine, other = np.empty(LAYER, np.float32), np.empty(LAYER, np.float32)
        he(mine, mode, **reading)
        kaiming(other, mode=mode, nonlinearity="relu", **reading)
        assert np.array_equal(mine, other)


FAMILY: list[Fill] = list(dict.fromkeys(case[0] for case in VARIANCES))
MODES = "mode must be one of 'fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg', got 'fan_sum'"
REFUSED: list[tuple[list[Fill], dict[str, Any], type[Exception], str]] = [
    (FAMILY, {"fan": 0}, ValueError, "fan must be positive, got 0"),
    (FAMILY, {"fan": True}, TypeError, "fan must be a real number, not bool True"),
    (FAMILY, {"layout": "OIHW"}, ValueError, "layout must have one 'O' (outputs), one 'I' (inputs), "),
    (FAMILY, {"layout": ["OI"]}, TypeError, "layout must be a str, not list ['OI']"),
    (FAMILY, {"groups": 3}, ValueError, "groups must divide the 4 channels of axis 'O', got 3"),
    (FAMILY, {"groups": 0}, ValueError, "groups must be an integer from 1 to "),
    (FAMILY, {"transposed": 1}, TypeError, "transposed must be True or False, not int 1"),
    (FAMILY, {"threads": 0}, ValueError, "threads must be an integer from 1 to 1024, got 0"),
    (FAMILY, {"rng": "0"}, TypeError, "rng must be None, an integer, a Key, a Generator or a numpy.random.Generator,"),
    (FAMILY, {"global_shape": (4, -6)}, ValueError, "global_shape[1] must be an integer from 0 to "),
    (FAMILY, {"global_shape": 4}, ValueError, "fans need a shape of at least two axes, got (4,)"),
    (FAMILY[:2], {"gain": -1.0}, ValueError, "gain must not be negative, got -1.0"),
    (FAMILY[:2], {"gain": "relu"}, TypeError, "gain must be a real number, not str 'relu'"),
    (FAMILY[:2], {"gain": 1e308, "fan": 1e-300}, ValueError, "gain * sqrt(scale / fan) must not overflow "),
    (FAMILY[4:], {"mode": "fan_sum"}, ValueError, MODES),
    (FAMILY[6:], {"scale": -2.0}, ValueError, "scale must not be negative, got -2.0"),
    (FAMILY[6:], {"scale": math.inf}, ValueError, "scale must be finite, got inf"),
    (FAMILY[6:], {"scale": 1e308, "fan": 1e-308}, ValueError, "gain * sqrt(scale / fan) must not overflow "),
    (
        FAMILY[6:],
        {"distribution": "cauchy"},
        ValueError,
        "distribution must be one of 'normal', 'untruncated_normal', ",
    ),
    (FAMILY[6:], {"distribution": None}, TypeError, "distribution must be a str, not NoneType None"),
    ([fk.trunc_normal_], {"mean": math.inf}, ValueError, "mean must be finite, got inf"),
    ([fk.trunc_normal_], {"std": -1}, ValueError, "std must not be negative, got -1"),
    (
        [fk.trunc_normal_],
        {"std": 0, "mean": 3},
        ValueError,
        "mean must be within the bounds if std is 0, got m",
    ),
    ([fk.trunc_normal_], {"a": 2}, ValueError, "a must be below b, got mean=0.0, std=1.0, a=2.0, b=2.0"),
    ([fk.trunc_normal_], {"b": math.nan}, ValueError, "b must not be NaN, got nan"),
    ([fk.trunc_normal_], {"b": "2"}, TypeError, "b must be a real number, not str '2'"),
    (
        [fk.trunc_normal_],
        {"mean": 9, "std": 1e-160},
        ValueError,
        "the bounds must be less than 1e+154 std away from m",
    ),
]


@pytest.mark.parametrize(
    ("fill", "arguments", "error", "message"), [(fill, *case[1:]) for case in REFUSED for fill in case[0]]
)
def test_invalid_arguments_raise_before_anything_is_written(
    fill: Fill, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    out, generator = np.full((4, 6), -7.0, np.float32), fk.Generator(0)
    with pytest.raises(error) as refusal:
        fill(out, **({"rng": generator} | arguments))
    assert str(refusal.value).startswith(f"{fill.__name__}: {message}")
    assert (out == -7.0).all()
    assert generator.next_key().stream == 1


@pytest.mark.parametrize("fill", [*FAMILY, fk.trunc_normal_])
def test_invalid_out_raises_as_in_fill(fill: Fill) -> None:
    with pytest.raises(TypeError, match=rf"^{fill.__name__}: out must be "):
        fill([[1.0]])
    with pytest.raises(TypeError, match=rf"^{fill.__name__}: out must be "):
        fill(np.empty((4, 6), np.int32))


@pytest.mark.parametrize("fill", FAMILY)
def test_needs_two_axes_unless_the_fan_is_given(plans: Plans, fill: Fill) -> None:
    bias = np.empty(24, np.float32)
    with pytest.raises(
        ValueError, match=rf"^{fill.__name__}: fans need a shape of at least two axes, got \(24,\): pass fan=, "
    ):
        fill(bias)
    assert fill(bias, fan=4) is bias
    assert len(plans) == 1


@pytest.mark.parametrize("fill", FAMILY)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_weights_without_elements_are_accepted(shape: tuple[int, ...], fill: Fill) -> None:
    out = np.empty(shape, np.float32)
    assert fill(out) is out


def test_cached_rules_are_not_confused(plans: Plans) -> None:
    out = np.empty((4, 9), np.float32)
    for fill in (fk.he_uniform_, fk.lecun_uniform_, fk.xavier_uniform_, fk.he_uniform_):
        fill(out)
    assert [round(distribution.std**2, 12) for distribution in plans.distributions()] == [
        round(variance, 12) for variance in (2 / 9, 1 / 9, 2 / 13, 2 / 9)
    ]


VARIANTS: list[tuple[Fill, Fill]] = [
    (fk.lecun_normal, fk.lecun_normal_),
    (fk.lecun_uniform, fk.lecun_uniform_),
    (fk.he_normal, fk.he_normal_),
    (fk.he_uniform, fk.he_uniform_),
]


@pytest.mark.parametrize(("variant", "in_place"), VARIANTS)
def test_functional_variant_returns_the_values_of_the_in_place_function(variant: Fill, in_place: Fill) -> None:
    for dtype in (np.float32, np.float64):
        expected = in_place(np.empty((6, 9), dtype), fan=3, rng=3)
        assert np.array_equal(variant((6, 9), dtype, fan=3, rng=3), expected)
    assert variant([6, 9]).dtype == np.float32
