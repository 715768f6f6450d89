"""fastkaiming.torch has the signatures, warnings and errors of torch.nn.init, and fastkaiming's values."""

import doctest
import inspect
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from processes import python

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
torch_init = torch.nn.init

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
SEED = 20260101


def take_seed(generator: Any = None) -> int:
    """Take one word of 64 bits from a generator, as a fill does."""
    return int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator)) % 2**64


@pytest.fixture
def seed() -> int:
    """Return the seed that the next fill takes from torch's default generator."""
    torch.manual_seed(SEED)
    word = take_seed()
    torch.manual_seed(SEED)
    return word


def values(tensor: Any) -> Any:
    return tensor.detach().double().numpy()


# ---- names ----


def test_every_public_name_has_torchs_signature_and_docstring() -> None:
    for name in torch_init.__all__:
        assert name in fk_torch.__all__
        assert inspect.signature(getattr(fk_torch, name)) == inspect.signature(getattr(torch_init, name))
        assert getattr(fk_torch, name).__doc__ == getattr(torch_init, name).__doc__ or name == "trunc_normal_"


def test_importing_fastkaiming_does_not_import_torch() -> None:
    result = python("import sys, fastkaiming; print('torch' in sys.modules)")
    assert result.stdout == "False\n", result.stderr


def test_missing_torch_error_names_the_extra_to_install() -> None:
    result = python("import sys; sys.modules['torch'] = None; import fastkaiming.torch")
    assert result.stderr.endswith(
        "ImportError: fastkaiming.torch needs torch: run pip install '.[torch]' in a checkout of fastkaiming\n"
    )


def test_widely_used_private_names_are_available() -> None:
    assert fk_torch._calculate_fan_in_and_fan_out(torch.empty(4, 3, 5)) == (15, 20)
    assert fk_torch._calculate_correct_fan is torch_init._calculate_correct_fan


def test_functions_can_be_pickled() -> None:
    """A pickled module may refer to its initializer, and multiprocessing sends functions by pickle."""
    for name in fk_torch.__all__:
        function = getattr(fk_torch, name)
        assert pickle.loads(pickle.dumps(function)) is function
        assert function.__module__.startswith("fastkaiming.torch") or function is getattr(torch_init, name)


def test_examples_in_torchs_docstrings_run() -> None:
    """Only the import differs."""
    run = 0
    for name in torch_init.__all__:
        for test in doctest.DocTestFinder().find(getattr(torch_init, name), name, globs={}):
            names = {"torch": torch, "nn": NN()}
            for example in test.examples:
                exec(example.source, names)
                run += 1
    assert run >= 31


class NN:
    """torch.nn, with fastkaiming.torch in place of torch.nn.init."""

    init = fk_torch

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.nn, name)


# ---- values ----

FILLS: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("normal_", {"mean": 0.5, "std": 2.0}, lambda s, d, k: fk.normal(s, d, 0.5, 2.0, rng=k)),
    ("uniform_", {"a": -0.25, "b": 0.25}, lambda s, d, k: fk.uniform(s, d, -0.25, 0.25, rng=k)),
    (
        "trunc_normal_",
        {"std": 0.02, "a": -0.04, "b": 0.05},
        lambda s, d, k: fk.trunc_normal(s, d, 0.0, 0.02, -0.04, 0.05, rng=k),
    ),
    ("xavier_normal_", {"gain": 1.5}, lambda s, d, k: fk.xavier_normal(s, d, 1.5, rng=k)),
    ("xavier_uniform_", {}, lambda s, d, k: fk.xavier_uniform(s, d, rng=k)),
    ("kaiming_normal_", {"mode": "fan_out"}, lambda s, d, k: fk.kaiming_normal(s, d, mode="fan_out", rng=k)),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, lambda s, d, k: fk.kaiming_uniform(s, d, math.sqrt(5), rng=k)),
    ("kaiming_normal_", {"nonlinearity": "selu"}, lambda s, d, k: fk.kaiming_normal(s, d, nonlinearity="selu", rng=k)),
]


@pytest.mark.parametrize(("name", "settings", "core"), FILLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_equal_those_of_the_numpy_initializers(
    name: str, settings: dict[str, Any], core: Any, dtype: str, seed: int
) -> None:
    for shape in ((30, 20), (3, 4, 5)):
        tensor = torch.full(shape, math.nan, dtype=DTYPES[dtype])
        torch.manual_seed(SEED)
        assert getattr(fk_torch, name)(tensor, **settings) is tensor
        assert np.array_equal(values(tensor), core(shape, dtype, seed).astype(np.float64))


def test_manual_seed_and_generator_give_equal_values(seed: int) -> None:
    by_seed = fk_torch.normal_(torch.empty(40))
    by_generator = fk_torch.normal_(torch.empty(40), generator=torch.Generator().manual_seed(SEED))
    by_position = fk_torch.kaiming_normal_(torch.empty(4, 9), 0, "fan_in", "relu", torch.Generator().manual_seed(SEED))
    assert torch.equal(by_seed, by_generator)
    assert np.array_equal(values(by_seed), fk.normal(40, rng=seed))
    assert np.array_equal(values(by_position), fk.kaiming_normal((4, 9), rng=seed))


def test_each_call_takes_one_word_from_the_generator() -> None:
    generator, reference = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    fk_torch.uniform_(torch.empty(1000, 100), generator=generator)
    fk_torch.trunc_normal_(torch.empty(7), generator=generator)
    for _ in range(2):
        take_seed(reference)
    assert torch.equal(generator.get_state(), reference.get_state())


def test_bounds_given_as_tensors_are_not_cached() -> None:
    bound, tensor = torch.tensor(1.0), torch.empty(1000)
    for value in (1.0, 0.125):
        bound.fill_(value)
        fk_torch.uniform_(tensor, 0.0, bound)
        assert 0.9 * value < tensor.max() < value


def views() -> dict[str, Any]:
    memory = torch.zeros(12, 10, 8)
    return {
        "transposed": memory[0].T,
        "stepped": memory[::2, 1::3, 2],
        "a parameter": torch.nn.Parameter(torch.zeros(5, 6)),
        "a part": memory[3:5, 2:, 1:],
        "one element": torch.zeros(()),
    }


@pytest.mark.parametrize("kind", views())
def test_any_memory_layout_is_filled(kind: str, seed: int) -> None:
    tensor = views()[kind]
    version = tensor._version
    fk_torch.normal_(tensor)
    assert np.array_equal(values(tensor), fk.normal(tuple(tensor.shape), rng=seed))
    assert tensor._version > version


def test_autograd_detects_the_in_place_change() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 3))
    product = (weight * weight).sum()
    fk_torch.kaiming_normal_(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_uniform_excludes_its_upper_bound() -> None:
    """The documented interval is [a, b); in bfloat16, rounding would turn one value in 500 into b."""
    for dtype in DTYPES.values():
        tensor = fk_torch.uniform_(torch.empty(1 << 16, dtype=dtype), 2.0, 3.0)
        assert 2.0 <= tensor.min() < 2.02 < 2.95 < tensor.max() < 3.0


def test_orthogonal_and_sparse_use_fastkaimings_values(seed: int) -> None:
    tensor = fk_torch.orthogonal_(torch.empty(20, 30))
    assert torch.allclose(tensor @ tensor.T, torch.eye(20), atol=1e-5)
    q, r = torch.linalg.qr(torch.from_numpy(fk.normal((20, 30), rng=seed)).T)
    assert torch.allclose(tensor, (q * r.diag().sign()).T, atol=1e-6)
    torch.manual_seed(SEED)
    sparse = fk_torch.sparse_(torch.empty(20, 30), 0.5)
    kept = sparse != 0
    assert kept.sum(0).tolist() == [10] * 30
    assert np.array_equal(values(sparse)[kept], fk.normal((20, 30), std=0.01, rng=seed)[kept])


def test_deprecated_names_warn_like_torchs() -> None:
    for name in ("uniform", "normal", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"):
        with pytest.warns(FutureWarning) as expected:
            getattr(torch_init, name)(torch.empty(4, 6))
        torch.manual_seed(SEED)
        with pytest.warns(FutureWarning) as found:
            tensor = getattr(fk_torch, name)(torch.empty(4, 6))
        assert str(found[0].message) == str(expected[0].message)
        assert found[0].filename == expected[0].filename == __file__
        torch.manual_seed(SEED)
        assert torch.equal(tensor, getattr(fk_torch, f"{name}_")(torch.empty(4, 6)))


# ---- tensors and calls that are passed to torch ----


class Subclass(torch.Tensor):  # type: ignore[name-defined, misc]
    pass


class Overriding(torch.Tensor):  # type: ignore[name-defined, misc]
    """Overrides a function by __torch_function__, as the tensors of quantization libraries do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch_init.normal_:
            return "overridden"
        return super().__torch_function__(func, types, args, kwargs)


def test_torch_function_of_a_subclass_is_called() -> None:
    tensor = torch.zeros(3, 3).as_subclass(Overriding)
    assert fk_torch.normal_(tensor) == torch_init.normal_(tensor) == "overridden"


def test_tensor_with_freed_storage_has_no_memory_regions() -> None:
    from fastkaiming.torch import _tensors

    tensor = torch.zeros(3)
    tensor.untyped_storage().resize_(0)
    assert _tensors.memory_regions(tensor) is None


def traced(fill: Any) -> str:
    from torch.fx.experimental.proxy_tensor import make_fx

    return str(make_fx(lambda tensor: fill(tensor), pre_dispatch=True)(torch.zeros(3)).code)


def slope(fill: Any) -> Any:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(torch.zeros(3), torch.ones(3))
        return torch.autograd.forward_ad.unpack_dual(fill(dual)).tangent


@pytest.mark.parametrize(
    "transformed",
    [
        lambda fill: torch.func.functionalize(lambda x: fill(x.clone()))(torch.zeros(50)),
        lambda fill: torch.vmap(lambda x: fill(x.clone()), randomness="different")(torch.zeros(2, 50)),
        lambda fill: torch.compile(fill, fullgraph=True, backend="eager")(torch.zeros(50)),
        lambda fill: torch.jit.trace(fill, torch.zeros(50), check_trace=False)(torch.zeros(50)),
        slope,
        traced,
    ],
    ids=["functionalize", "vmap", "compile", "trace", "forward mode", "make_fx"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit:FutureWarning")
def test_transformed_fills_are_performed_by_torch(transformed: Callable[[Any], Any]) -> None:
    found = []
    for function in (fk_torch.normal_, torch_init.normal_):
        torch.manual_seed(SEED)
        found.append(transformed(function))
    assert found[0] == found[1] if isinstance(found[0], str) else torch.equal(*found)


def unsupported() -> dict[str, Any]:
    return {
        "no elements": torch.empty(0, 3),
        "a subclass": torch.zeros(3, 3).as_subclass(Subclass),
        "complex numbers": torch.zeros(3, 3, dtype=torch.complex64),
        "memory of negatives": torch.zeros(1, dtype=torch.complex64).conj().imag.reshape(()),
        "contiguous memory of negatives": torch._neg_view(torch.zeros(3, 3)),
    }


@pytest.mark.parametrize("kind", unsupported())
def test_unsupported_tensors_are_filled_by_torch(kind: str) -> None:
    filled = [unsupported()[kind], unsupported()[kind]]
    fk_torch.normal_(torch.zeros(filled[0].shape))  # so that the distribution for this shape is cached
    for function, tensor in zip((fk_torch.normal_, torch_init.normal_), filled, strict=True):
        torch.manual_seed(SEED)
        assert function(tensor) is tensor
    assert torch.equal(*filled)
    states = []
    for function in (fk_torch.normal_, torch_init.normal_):
        torch.manual_seed(SEED)
        function(unsupported()[kind])
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_meta_tensors_are_never_passed_to_try_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """try_fill would request their memory, and torch takes a millisecond to raise the error."""
    from fastkaiming.torch import _initializers, _replacements

    for module in (_initializers, _replacements):
        monkeypatch.setattr(module, "try_fill", lambda *_: pytest.fail("called"))
    for name, settings, _ in FILLS:
        getattr(fk_torch, name)(torch.empty(3, 3, device="meta"), **settings)
    with fk_torch.accelerate():
        torch.empty(3, 3, device="meta").normal_()


def test_meta_tensors_take_nothing_from_the_generator() -> None:
    state = torch.get_rng_state()
    for name, settings, _ in FILLS:
        getattr(fk_torch, name)(torch.empty(3, 3, device="meta"), **settings)
    assert torch.equal(torch.get_rng_state(), state)


BAD_CALLS: list[tuple[str, tuple[int, ...], tuple[Any, ...]]] = [
    ("kaiming_normal_", (3,), ()),
    ("xavier_uniform_", (), ()),
    ("kaiming_uniform_", (3, 3), (0, "fan_avg")),
    ("kaiming_uniform_", (3, 3), (0, "fan_in", "gelu")),
    ("kaiming_normal_", (3, 3), ("one",)),
    ("kaiming_normal_", (3, 3), (True,)),
    ("normal_", (3,), (0.0, -1.0)),
    ("uniform_", (3,), (1.0, 0.0)),
    ("uniform_", (3,), (0.0, 1e39)),
    ("uniform_", (3,), (-3e38, 3e38)),
    ("normal_", (3,), (0.0, 1.0, 42)),
    ("trunc_normal_", (3,), (0.0, 0.0)),
    ("normal_", (3,), (1, 2, 3, 4, 5)),
    ("normal_", (3,), ([1], 2)),
]


@pytest.mark.parametrize(("name", "shape", "arguments"), BAD_CALLS)
def test_errors_equal_torchs(name: str, shape: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    fk_torch.kaiming_normal_(torch.zeros(3, 3), 1)  # caches the distribution for 1, which equals True
    errors, tensor, state = [], torch.zeros(shape), torch.get_rng_state()
    for function in (getattr(fk_torch, name), getattr(torch_init, name)):
        with pytest.raises(Exception) as error:  # noqa: PT011
            function(tensor, *arguments)
        errors.append((type(error.value), str(error.value)))
    assert errors[0] == errors[1]
    assert not tensor.any()
    assert torch.equal(torch.get_rng_state(), state)


def test_generator_given_twice_raises_type_error() -> None:
    for function in (fk_torch.normal_, torch_init.normal_):
        with pytest.raises(TypeError, match="got multiple values for argument 'generator'"):
            function(torch.zeros(3), 0.0, 1.0, torch.Generator(), generator=torch.Generator())


def test_argument_that_is_not_a_tensor_raises_torchs_error() -> None:
    for function in (fk_torch.normal_, torch_init.normal_):
        with pytest.raises(AttributeError, match="'list' object has no attribute"):
            function([1.0])


def test_inference_tensor_raises_torchs_error() -> None:
    with torch.inference_mode():
        tensor = torch.zeros(3)
    for function in (fk_torch.normal_, torch_init.normal_):
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
            function(tensor)


def test_expanded_tensor_raises_torchs_error() -> None:
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory"):
        fk_torch.normal_(torch.zeros(3, 1).expand(3, 4))


def test_warnings_equal_torchs() -> None:
    calls: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("kaiming_normal_", torch.empty(0, 3), ()),
        ("trunc_normal_", torch.empty(3), (5.0,)),
        ("trunc_normal_", torch.empty(3), (0.0, 0.1, 0.5, 1.0)),
        ("trunc_normal_", torch.empty(3), (0.0, 0.3, -0.5, 1.0)),
    ]
    for name, tensor, arguments in calls:
        seen = []
        for function in (getattr(fk_torch, name), getattr(torch_init, name)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                function(tensor, *arguments)
            seen.append([(warning.category, str(warning.message)) for warning in caught])
        assert seen[0] == seen[1]
