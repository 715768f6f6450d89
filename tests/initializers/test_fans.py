"""Fans against counts by hand, in the layouts of PyTorch, JAX and Keras; gains against torch's table."""

import math
import platform
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import python

import fastkaiming as fk

LAYOUT_RULE = (
    "layout must have one 'O' (outputs), one 'I' (inputs), any number of 'B' (batches) and at most one '*' "
    "(all other axes)"
)

# shape, arguments of fans, fan_in, fan_out
FANS: list[tuple[tuple[int, ...], dict[str, Any], int, int]] = [
    # torch.nn: Linear(128, 256), Conv1d(16, 33, 3), Conv2d(3, 64, 7), Conv3d(2, 5, (3, 4, 6))
    ((256, 128), {}, 128, 256),
    ((33, 16, 3), {}, 48, 99),
    ((64, 3, 7, 7), {}, 147, 3136),
    ((5, 2, 3, 4, 6), {}, 144, 360),
    # Conv2d(64, 128, 3, groups=4): 16 inputs of an output, 32 outputs of an input; depthwise: one of each
    ((128, 16, 3, 3), {"groups": 4}, 144, 288),
    ((32, 1, 3, 3), {"groups": 32}, 9, 9),
    # ConvTranspose2d(16, 33, (3, 5)), and ConvTranspose1d(64, 128, 5, groups=4) of shape (64, 128 / 4, 5)
    ((16, 33, 3, 5), {"transposed": True}, 240, 495),
    ((64, 32, 5), {"transposed": True, "groups": 4}, 80, 160),
    # Keras and JAX: Dense(256) on 128, Conv2D(64, 7) on 3, and Conv2DTranspose(33, 3) on 16, of shape (3, 3, 33, 16)
    ((128, 256), {"layout": "*IO"}, 128, 256),
    ((7, 7, 3, 64), {"layout": "*IO"}, 147, 3136),
    ((3, 3, 33, 16), {"layout": "*OI", "transposed": True}, 144, 297),
    # Keras' depthwise kernel with two outputs a channel, 3 x 3 x 8 x 2, seen as 8 groups of 1 input and 2 outputs
    ((3, 3, 1, 16), {"layout": "*IO", "groups": 8}, 9, 18),
    # experts: eight layers from 512 to 2048; and the receptive field in the middle or absent
    ((8, 2048, 512), {"layout": "BOI*"}, 512, 2048),
    ((8, 512, 2048), {"layout": "BIO"}, 512, 2048),
    ((4, 2, 2048, 512), {"layout": "BBOI"}, 512, 2048),
    ((64, 5, 5, 3), {"layout": "O*I"}, 75, 1600),
    ((6, 7), {"layout": "OI"}, 7, 6),
    # no elements, but the fan is not 0
    ((0, 5), {}, 5, 0),
]


@pytest.mark.parametrize(("shape", "arguments", "fan_in", "fan_out"), FANS)
def test_fans(shape: tuple[int, ...], arguments: dict[str, Any], fan_in: int, fan_out: int) -> None:
    fans = fk.fans(shape, **arguments)
    assert fans == (fan_in, fan_out)
    assert (fans.fan_in, fans.fan_out) == (fan_in, fan_out)


@given(st.permutations("OIBXY"), st.lists(st.integers(1, 50), min_size=5, max_size=5))
def test_fans_follow_the_letters_of_any_layout(letters: list[str], sizes: list[int]) -> None:
    size = dict(zip("OIBXY", sizes, strict=True))
    # The axes of the receptive field must be adjacent, so Y is moved behind X.
    order = [letter for letter in letters if letter != "Y"]
    order.insert(order.index("X") + 1, "Y")
    layout = "".join(order).replace("XY", "*")
    fans = fk.fans([size[letter] for letter in order], layout)
    assert fans == (size["I"] * size["X"] * size["Y"], size["O"] * size["X"] * size["Y"])


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64), st.integers(1, 7))
def test_a_grouped_layer_has_the_fans_of_one_of_its_groups(groups: int, outputs: int, inputs: int, field: int) -> None:
    one_group = (inputs * field, outputs * field)
    assert fk.fans((groups * outputs, inputs, field), groups=groups) == one_group
    assert fk.fans((groups * inputs, outputs, field), groups=groups, transposed=True) == one_group


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shape": ()}, ValueError, "fans need a shape of at least two axes, got ()"),
        ({"shape": 5}, ValueError, "fans need a shape of at least two axes, got (5,)"),
        ({"shape": (5,), "layout": "*IO"}, ValueError, "fans need a shape of at least two axes, got (5,)"),
        ({"shape": (5, -1)}, ValueError, "shape[1] must be an integer from 0 to"),
        ({"shape": (5, 2.0)}, TypeError, "shape[1] must be an integer, not float 2.0"),
        ({"layout": "OI"}, ValueError, "layout 'OI' must name every axis of the shape, got (4, 6, 3)"),
        ({"layout": "BBOI*"}, ValueError, "layout 'BBOI*' must name every axis of the shape, got (4, 6, 3)"),
        ({"layout": "OIHW"}, ValueError, f"{LAYOUT_RULE}, got 'OIHW'"),
        ({"layout": "oi*"}, ValueError, f"{LAYOUT_RULE}, got 'oi*'"),
        ({"layout": "O*"}, ValueError, f"{LAYOUT_RULE}, got 'O*'"),
        ({"layout": "OOI"}, ValueError, f"{LAYOUT_RULE}, got 'OOI'"),
        ({"layout": "O*I*"}, ValueError, f"{LAYOUT_RULE}, got 'O*I*'"),
        ({"layout": ""}, ValueError, f"{LAYOUT_RULE}, got ''"),
        ({"layout": 3}, TypeError, "layout must be a str, not int 3"),
        ({"groups": 3}, ValueError, "groups must divide the 4 channels of axis 'O', got 3"),
        ({"groups": 3, "transposed": True}, ValueError, "groups must divide the 4 channels of axis 'I', got 3"),
        ({"groups": 0}, ValueError, "groups must be an integer from 1 to"),
        ({"groups": True}, TypeError, "groups must be an integer, not bool True"),
        ({"groups": 2.0}, TypeError, "groups must be an integer, not float 2.0"),
        ({"transposed": 1}, TypeError, "transposed must be True or False, not int 1"),
    ],
)
def test_fans_rejects_invalid_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refusal:
        fk.fans(**({"shape": (4, 6, 3)} | arguments))
    assert str(refusal.value).startswith(f"fans: {message}")


@pytest.mark.parametrize(
    ("nonlinearity", "param", "gain"),
    [
        *((name, None, 1.0) for name in ("linear", "sigmoid", "conv1d", "conv2d", "conv3d")),
        *((f"conv_transpose{n}d", None, 1.0) for n in (1, 2, 3)),
        ("tanh", None, 5 / 3),
        ("relu", None, 1.4142135623730951),
        *(("relu", param, 1.4142135623730951) for param in (0.3, math.nan, 1e200, True, "0.1")),  # unused, as in torch
        ("selu", None, 0.75),
        ("leaky_relu", None, 1.4141428569978354),  # sqrt(2 / 1.0001)
        ("leaky_relu", 0, 1.4142135623730951),
        ("leaky_relu", -1, 1.0),
        ("leaky_relu", 0.2, 1.3867504905630728),  # torch's documented example
        ("leaky_relu", 7.0, 0.2),
    ],
)
def test_gain(nonlinearity: str, param: Any, gain: float) -> None:
    assert math.isclose(fk.calculate_gain(nonlinearity, param), gain, rel_tol=1e-15)


@pytest.mark.parametrize(
    ("nonlinearity", "param", "error", "message"),
    [
        ("sine", None, ValueError, "nonlinearity must be one of 'linear', 'conv1d', "),
        ("ReLU", None, ValueError, "nonlinearity must be one of "),
        ("sine", math.nan, ValueError, "nonlinearity must be one of "),
        ("leaky_relu", True, TypeError, "param must be a real number, not bool True"),
        ("leaky_relu", "0.1", TypeError, "param must be a real number, not str '0.1'"),
        ("leaky_relu", math.nan, ValueError, "param must be finite, got nan"),
        ("leaky_relu", -math.inf, ValueError, "param must be finite, got -inf"),
        ("leaky_relu", 1e200, ValueError, "param must have a finite square, got 1e+200"),
    ],
)
def test_gain_rejects_invalid_arguments(nonlinearity: Any, param: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as refusal:
        fk.calculate_gain(nonlinearity, param)
    assert str(refusal.value).startswith(f"calculate_gain: {message}")


IMPORT_IN_A_FOREIGN_ROUNDING_MODE = """
import ctypes, ctypes.util, sys
library = ctypes.CDLL(ctypes.util.find_library("m"))
assert library.fesetround(int(sys.argv[1])) == 0
import fastkaiming as fk
numbers = [fk.calculate_gain(name) for name in ("tanh", "relu", "selu", "leaky_relu")]
numbers.append(fk.calculate_gain("leaky_relu", 0.2))
numbers += [fk.calculate_gain("gelu"), fk.calculate_gain("elu", 0.5), fk.calculate_gain(lambda z: z)]
library.fesetround(0)
numbers += [fk.Normal().pdf(0.0), fk.Normal().cdf(-1.0), fk.Uniform().std, fk.TruncatedNormal().std]
print(*map(float.hex, numbers))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names of its rounding modes are not known")
@pytest.mark.parametrize("mode", [0x400, 0x800], ids=["downward", "upward"])
def test_rounding_mode_at_import_does_not_change_constants(mode: int) -> None:
    result = python(IMPORT_IN_A_FOREIGN_ROUNDING_MODE, str(mode))
    assert result.returncode == 0, result.stderr
    expected = [5 / 3, math.sqrt(2), 0.75, math.sqrt(2 / (1 + 0.01 * 0.01)), math.sqrt(2 / (1 + 0.2 * 0.2))]
    expected += [fk.calculate_gain("gelu"), fk.calculate_gain("elu", 0.5), fk.calculate_gain(lambda z: z)]
    expected += [1 / 2.5066282746310007, math.erfc(1 / math.sqrt(2)) / 2, 0.5 / math.sqrt(3)]  # sqrt(2 pi) = 2.50662...
    expected += [fk.TruncatedNormal().std]
    assert [float.fromhex(number) for number in result.stdout.split()] == expected
