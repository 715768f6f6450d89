"""The distributions of the initializers of PyTorch, JAX and Keras, recorded from the installed packages.

Each initializer is called with the random functions of its library replaced by recorders, which store the requested
distribution and its parameters. The program needs all three libraries, and computes this table:

    python tests/generators/framework_semantics.py > tests/vectors/semantics.txt

With the name of a library as argument, it prints only the rows of that library.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from itertools import product
from typing import Any
from unittest.mock import patch

Shape = tuple[int, ...]
Answer = tuple[str, tuple[float, ...]]  # the family and its parameters

LINEAR: Shape = (256, 128)
TORCH_LAYERS: list[Shape] = [LINEAR, (33, 16, 3), (64, 3, 7, 7), (5, 2, 3, 4, 6), (16, 33, 3, 5)]
KERNELS: list[Shape] = [(128, 256), (3, 16, 33), (7, 7, 3, 64)]  # of JAX and Keras


@dataclass(frozen=True)
class Case:
    """A call of a library's initializer."""

    library: str
    name: str
    shape: Shape = ()
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "-"
        arguments = ",".join(f"{name}={value!r}" for name, value in self.arguments.items()) or "-"
        return f"{self.library} {self.name} {shape} {arguments.replace(' ', '')}"


def torch_cases() -> Iterator[Case]:
    names = ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
    names += ["sigmoid", "tanh", "relu", "leaky_relu", "selu"]
    kaiming = ("kaiming_normal_", "kaiming_uniform_")
    for shape, mode, name in product(TORCH_LAYERS, ("fan_in", "fan_out"), kaiming):
        yield Case("torch", name, shape, {"mode": mode, "nonlinearity": "relu"})
    for nonlinearity, name in product(names, kaiming):
        yield Case("torch", name, LINEAR, {"nonlinearity": nonlinearity})
    for slope, name in product((0.01, 0.2, 5**0.5, -1), kaiming):
        yield Case("torch", name, LINEAR, {"a": slope})
    for shape, name in product(TORCH_LAYERS, ("xavier_normal_", "xavier_uniform_")):
        yield Case("torch", name, shape)
        yield Case("torch", name, shape, {"gain": 5 / 3})
    yield Case("torch", "trunc_normal_", LINEAR)
    yield Case("torch", "trunc_normal_", LINEAR, {"mean": 0.5, "std": 0.02, "a": 0.46, "b": 0.54})
    for nonlinearity in names:
        yield Case("torch", "calculate_gain", (), {"nonlinearity": nonlinearity})
    yield Case("torch", "calculate_gain", (), {"nonlinearity": "leaky_relu", "param": 0.2})


def jax_cases() -> Iterator[Case]:
    names = ("glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform", "he_normal", "he_uniform")
    for shape, name in product(KERNELS, names):
        yield Case("jax", name, shape)
    modes = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
    for mode, distribution in product(modes, ("truncated_normal", "normal", "uniform")):
        yield Case("jax", "variance_scaling", KERNELS[-1], {"scale": 0.3, "mode": mode, "distribution": distribution})
    for name in names[2:]:
        yield Case("jax", name, (64, 3, 7, 7), {"in_axis": 1, "out_axis": 0})
        yield Case("jax", name, (8, 128, 256), {"batch_axis": 0})
    yield Case("jax", "truncated_normal", LINEAR)
    yield Case("jax", "truncated_normal", LINEAR, {"stddev": 0.02, "lower": -3.0, "upper": 1.0})
    yield Case("jax", "normal", LINEAR, {"stddev": 0.3})
    yield Case("jax", "uniform", LINEAR, {"scale": 0.3})


def keras_cases() -> Iterator[Case]:
    names = ("GlorotNormal", "GlorotUniform", "LecunNormal", "LecunUniform", "HeNormal", "HeUniform")
    for shape, name in product(KERNELS, names):
        yield Case("keras", name, shape)
    distributions = ("truncated_normal", "normal", "untruncated_normal", "uniform")
    for mode, distribution in product(("fan_in", "fan_out", "fan_avg"), distributions):
        yield Case("keras", "VarianceScaling", KERNELS[-1], {"scale": 0.3, "mode": mode, "distribution": distribution})
    yield Case("keras", "RandomNormal", LINEAR)
    yield Case("keras", "RandomUniform", LINEAR, {"minval": -0.1, "maxval": 0.3})
    yield Case("keras", "TruncatedNormal", LINEAR, {"mean": 0.5, "stddev": 0.02})


def torch_answer(case: Case) -> Answer:
    torch: Any = import_module("torch")
    answers: list[Answer] = []

    def recorder(family: str) -> Callable[..., Any]:
        def record(tensor: Any, *numbers: float, generator: object = None) -> Any:
            del generator
            answers.append((family, tuple(map(float, numbers[:4]))))
            return tensor

        return record

    if case.name == "calculate_gain":
        return "gain", (float(torch.nn.init.calculate_gain(**case.arguments)),)
    with (
        patch.object(torch.Tensor, "normal_", recorder("normal")),
        patch.object(torch.Tensor, "uniform_", recorder("uniform")),
        patch.object(torch.nn.init, "_no_grad_trunc_normal_", recorder("truncated_normal")),
    ):
        getattr(torch.nn.init, case.name)(torch.empty(case.shape, device="meta"), **case.arguments)
    return answers[0]


def jax_answer(case: Case) -> Answer:
    jax: Any = import_module("jax")
    random: Any = import_module("jax._src.nn.initializers").random
    jax.config.update("jax_enable_x64", True)
    bounds: dict[str, tuple[float, ...]] = {}

    def normal(_key: object, shape: Shape, dtype: Any, **_: object) -> Any:
        bounds["normal"] = ()
        return jax.numpy.ones(shape, dtype)

    def uniform(_key: object, shape: Shape, dtype: Any, minval: float = 0.0, maxval: float = 1.0, **_: object) -> Any:
        bounds["uniform"] = minval, maxval
        return jax.numpy.ones(shape, dtype)

    def truncated_normal(_key: object, lower: float, upper: float, shape: Shape, dtype: Any, **_: object) -> Any:
        bounds["truncated_normal"] = lower, upper
        return jax.numpy.ones(shape, dtype)

    with patch.multiple(random, normal=normal, uniform=uniform, truncated_normal=truncated_normal):
        initializer = getattr(jax.nn.initializers, case.name)(**case.arguments)
        unit = float(initializer(jax.random.key(0), case.shape, jax.numpy.float64).ravel()[0])
    [(family, ends)] = bounds.items()
    return family, (*(() if family == "uniform" else (0.0, unit)), *(end * unit for end in ends))


def keras_answer(case: Case) -> Answer:
    os.environ["KERAS_BACKEND"] = "jax"
    jax, keras = import_module("jax"), import_module("keras")
    random: Any = import_module("keras.src.initializers.random_initializers").random
    backend = random.truncated_normal
    answers: list[Answer] = []

    def normal(*_: object, mean: float, stddev: float, **__: object) -> None:
        answers.append(("normal", (mean, stddev)))

    def uniform(*_: object, minval: float, maxval: float, **__: object) -> None:
        answers.append(("uniform", (minval, maxval)))

    def truncated_normal(*_: object, mean: float, stddev: float, **__: object) -> None:
        with patch.object(jax.random, "truncated_normal") as draw:  # the backend passes the bounds, in sigmas
            draw.return_value = jax.numpy.ones(())
            backend((), mean=mean, stddev=stddev, seed=0)
        call = draw.call_args
        lower, upper = (call.kwargs["lower"], call.kwargs["upper"]) if call.kwargs.get("upper") else call.args[1:3]
        answers.append(("truncated_normal", (mean, stddev, mean + lower * stddev, mean + upper * stddev)))

    with patch.multiple(random, normal=normal, uniform=uniform, truncated_normal=truncated_normal):
        getattr(keras.initializers, case.name)(seed=0, **case.arguments)(case.shape, "float64")
    return answers[0]


LIBRARIES: dict[str, tuple[Callable[[], Iterator[Case]], Callable[[Case], Answer]]] = {
    "torch": (torch_cases, torch_answer),
    "jax": (jax_cases, jax_answer),
    "keras": (keras_cases, keras_answer),
}


def rows(library: str) -> Iterator[str]:
    """Yield the rows of a library."""
    cases, answer = LIBRARIES[library]
    for case in cases():
        family, numbers = answer(case)
        yield " ".join([str(case), family, *(float(number).hex() for number in numbers)])


def main(libraries: list[str]) -> None:
    """Print the table, or only the rows of the given libraries."""
    if not libraries:
        versions = ", ".join(f"{library} {version(library).split('+')[0]}" for library in LIBRARIES)
        print("# What the initializers of PyTorch, JAX and Keras draw from.")
        print("#")
        print(f"# Asked of {versions} (with the jax backend), in double precision, by the command")
        print("#")
        print("#     python tests/generators/framework_semantics.py > tests/vectors/semantics.txt")
        print("#")
        print("# Shapes are in the library's own layout. The numbers, in hexadecimal: of a normal mean and std, of a")
        print("# uniform the ends, of a truncated normal mean and std before the cut and the bounds; or the gain.")
        print("#")
        print("# library initializer shape arguments family numbers")
    for library in libraries or LIBRARIES:
        for row in rows(library):
            print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
