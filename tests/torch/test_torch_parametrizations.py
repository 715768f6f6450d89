"""Parametrized and normalized layers: after init_module_, their weights are what the parametrizations promise."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk
from fastkaiming import checkpoint

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn
parametrize = torch.nn.utils.parametrize
parametrizations = torch.nn.utils.parametrizations
_parametrizations = pytest.importorskip("fastkaiming.torch._parametrizations")
prune = pytest.importorskip("torch.nn.utils.prune")

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")


def spoil(module: Any) -> Any:
    """Overwrite the memory of a module, as if it had not been initialized."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.fill_(math.nan if tensor.is_floating_point() else 99)
    return module


def uninitialized(make: Callable[[], Any]) -> Any:
    with torch.device("meta"):
        module = make()
    return spoil(module.to_empty(device="cpu"))


# ---- orthogonal parametrizations ----

LAYERS: dict[str, Callable[[], Any]] = {
    "square": lambda: nn.Linear(6, 6),
    "tall": lambda: nn.Linear(5, 8),
    "wide": lambda: nn.Linear(8, 5),
    "one column": lambda: nn.Linear(1, 7),
    "a batch of matrices": lambda: nn.Conv2d(3, 4, (2, 3)),
    "float64": lambda: nn.Linear(5, 8, dtype=torch.float64),
}
MAPS = [*product(("matrix_exp", "cayley", "householder"), (True, False))]


def orthogonal(make: Callable[[], Any], orthogonal_map: str, use_trivialization: bool) -> Any:
    return parametrizations.orthogonal(make(), orthogonal_map=orthogonal_map, use_trivialization=use_trivialization)


def check_orthogonal(weight: Any) -> None:
    tall = weight.detach() if weight.size(-2) >= weight.size(-1) else weight.detach().mT
    product = (tall.mT @ tall).double()
    assert torch.allclose(product, torch.eye(tall.size(-1)).double().expand(product.shape), atol=1e-5), weight


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("orthogonal_map", "use_trivialization"), MAPS)
@pytest.mark.parametrize("from_meta", [False, True])
def test_orthogonal_weight_is_orthogonal(
    kind: str, orthogonal_map: str, use_trivialization: bool, from_meta: bool
) -> None:
    def make() -> Any:
        return orthogonal(LAYERS[kind], orthogonal_map, use_trivialization)

    def initialized(seed: int) -> Any:
        # torch cannot register the parametrization of a square matrix on the meta device.
        module = (spoil(make()) if kind == "square" else uninitialized(make)) if from_meta else make()
        report = fk_torch.init_module_(module, rng=seed)
        assert not [name for name in report.kept if "base" in name]
        return module

    torch.manual_seed(1)
    module = initialized(5)
    check_orthogonal(module.weight)
    torch.manual_seed(2)  # torch's own values, in memory and in its generator, do not matter
    assert torch.allclose(initialized(5).weight, module.weight, atol=1e-5)
    if kind != "one column":
        assert not torch.allclose(initialized(6).weight, module.weight, atol=1e-2)


def test_orthogonal_weight_is_the_orthogonal_factor_of_normal_values() -> None:
    """Its distribution is uniform on the orthogonal matrices, like that of torch.nn.init.orthogonal_."""
    values = fk.normal((8, 5), std=math.sqrt(2 / 5), rng=fk.Generator(5).key("parametrizations.weight.original"))
    factor, triangle = np.linalg.qr(values.astype(np.float64))
    expected = factor * np.sign(np.diag(triangle))
    for orthogonal_map, use_trivialization in MAPS:
        if use_trivialization or orthogonal_map == "householder":  # torch cannot assign to the others
            module = orthogonal(lambda: nn.Linear(5, 8), orthogonal_map, use_trivialization)
            fk_torch.init_module_(module, rng=5)
            assert np.allclose(module.weight.detach().numpy(), expected, atol=1e-5), orthogonal_map


@pytest.mark.parametrize(("orthogonal_map", "use_trivialization"), MAPS)
@pytest.mark.parametrize("rule", ["zeros", "ones", "normal(std=0.02)", lambda out, rng: fk.normal_(out.data, rng=rng)])
def test_orthogonal_weight_is_orthogonal_for_rules_of_the_user(
    orthogonal_map: str, use_trivialization: bool, rule: Any
) -> None:
    module = orthogonal(LAYERS["tall"], orthogonal_map, use_trivialization)
    name = "parametrizations.weight.original"
    assert fk_torch.init_module_(module, rng=5, rules={name: rule}).filled[name] == name
    check_orthogonal(module.weight)


def test_kept_orthogonal_weight_is_unchanged() -> None:
    for keeps in (True, False):
        module = orthogonal(LAYERS["tall"], "householder", use_trivialization=True)
        module.parametrizations.weight.original.requires_grad_(keeps)
        before = module.weight.detach().clone()
        rules = {"*.original": "keep"} if keeps else {}
        report = fk_torch.init_module_(module, rng=5, rules=rules)
        assert torch.equal(module.weight, before)
        assert report.kept == ("parametrizations.weight.original", "parametrizations.weight.0.base")


# ---- spectral normalizations ----

NORMALIZED: dict[str, Callable[[], Any]] = {
    "Linear": lambda: nn.Linear(40, 24),
    "wide Linear": lambda: nn.Linear(9, 300),
    "Conv2d": lambda: nn.Conv2d(6, 8, 3, groups=2),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(6, 8, 5),
    "Bilinear": lambda: nn.Bilinear(3, 4, 5),
    "one row": lambda: nn.Linear(7, 1),
    "float64": lambda: nn.Linear(6, 5, dtype=torch.float64),
    "bfloat16": lambda: nn.Linear(40, 24, dtype=torch.bfloat16),
}


def spectral_norm(layer: Any, old: bool, **settings: Any) -> Any:
    return (torch.nn.utils.spectral_norm if old else parametrizations.spectral_norm)(layer, **settings)


def largest_singular_value(weight: Any, axis: int = 0) -> float:
    matrix = weight.detach().double().transpose(0, axis).flatten(1)
    return float(torch.linalg.matrix_norm(matrix, 2))


def vector_names(old: bool) -> tuple[str, ...]:
    return ("weight_u", "weight_v") if old else tuple(f"parametrizations.weight.0._{vector}" for vector in "uv")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", NORMALIZED)
@pytest.mark.parametrize("is_spoiled", [False, True])
def test_spectral_norm_is_1_at_once(kind: str, old: bool, is_spoiled: bool) -> None:
    module = spectral_norm(NORMALIZED[kind](), old).eval()
    if is_spoiled:
        module = spoil(module) if old else uninitialized(lambda: spectral_norm(NORMALIZED[kind](), old)).eval()
    report = fk_torch.init_module_(module, rng=5)
    axis, tolerance = int("Transpose" in kind), 1e-2 if kind == "bfloat16" else 1e-3
    assert largest_singular_value(module.weight, axis) == pytest.approx(1, abs=tolerance)
    assert {report.filled[name].partition(": ")[2] for name in vector_names(old)} == {"singular vectors"}
    assert report.kept == ()
    module.train()
    assert largest_singular_value(module.weight, axis) == pytest.approx(1, abs=tolerance)


def test_spectral_norm_of_a_large_layer_is_1() -> None:
    """The largest singular values are close to each other, so that the power iteration converges slowly."""
    for old in (False, True):
        module = spectral_norm(nn.Linear(1024, 1024), old).eval()
        fk_torch.init_module_(module, rng=5)
        assert largest_singular_value(module.weight) == pytest.approx(1, abs=2e-3)


def test_spectral_norm_along_another_axis_is_1() -> None:
    for old in (False, True):
        module = spectral_norm(nn.Conv1d(6, 8, 3), old, dim=1).eval()
        fk_torch.init_module_(module, rng=5)
        assert largest_singular_value(module.weight, axis=1) == pytest.approx(1, abs=1e-3)


def test_spectral_norm_of_a_vector_is_1() -> None:
    module = parametrizations.spectral_norm(nn.Linear(6, 5), "bias").eval()
    fk_torch.init_module_(module, rng=5, rules={"*bias*": "normal"})
    assert float(module.bias.detach().norm()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rows", [[[3, 0], [0, 2], [0, 2], [0, 2]], [[1, 1], [1, 1]], [[0, 0], [0, 4]], [[1e-20, 0]]])
def test_power_iteration_finds_the_largest_singular_value(rows: Any) -> None:
    matrix = torch.tensor(rows, dtype=torch.float32)

    def fill(out: Any, rng: Any) -> None:  # noqa: ARG001
        out.copy_(matrix)

    for old in (False, True):
        module = spectral_norm(nn.Linear(2, len(rows), bias=False), old, eps=1e-30).eval()
        fk_torch.init_module_(module, rules={"*": fill})
        assert largest_singular_value(module.weight) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("old", [False, True])
def test_vectors_depend_only_on_the_weight(old: bool) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        module = spoil(spectral_norm(nn.Linear(6, 5), old)) if seed == 2 else spectral_norm(nn.Linear(6, 5), old)
        weight = module.weight_orig if old else module.parametrizations.weight.original
        with torch.no_grad():
            weight.copy_(torch.linspace(-1, 1, 30).view(5, 6) ** 3)
        state = torch.get_rng_state()
        _parametrizations.restart_power_iteration(module, "weight")
        assert torch.equal(torch.get_rng_state(), state)
        found.append([module.get_buffer(name).clone() for name in vector_names(old)])
        assert largest_singular_value(module.eval().weight) == pytest.approx(1, abs=1e-3)
    assert all(map(torch.equal, *found))


def test_vectors_of_a_zero_weight_are_unit_vectors() -> None:
    """A later power iteration can start from them."""
    for old in (False, True):
        module = spoil(spectral_norm(nn.Linear(6, 5), old))
        with torch.no_grad():
            (module.weight_orig if old else module.parametrizations.weight.original).zero_()
        _parametrizations.restart_power_iteration(module, "weight")
        assert all(float(buffer.norm()) == pytest.approx(1, abs=1e-5) for buffer in module.buffers())


def test_power_iteration_of_another_layer_raises() -> None:
    with pytest.raises(ValueError, match="'weight' of Linear must have a spectral normalization, got none"):
        _parametrizations.restart_power_iteration(nn.Linear(3, 3), "weight")
    with pytest.raises(ValueError, match="'bias' of Linear must have a spectral normalization, got none"):
        _parametrizations.restart_power_iteration(torch.nn.utils.spectral_norm(nn.Linear(3, 3)), "bias")


def test_kept_weight_has_unchanged_vectors_unless_buffers_are_set() -> None:
    for old in (False, True):
        module = spoil(spectral_norm(nn.Linear(6, 5), old))
        original = "weight_orig" if old else "parametrizations.weight.original"
        with torch.no_grad():
            module.get_parameter(original).copy_(torch.eye(5, 6) * 3)
        report = fk_torch.init_module_(module, rules={original: "keep"})
        assert {original, *dict(module.named_buffers())} == set(report.kept)
        assert all(buffer.isnan().all() for buffer in module.buffers())
        report = fk_torch.init_module_(module, rules={original: "keep"}, buffers=True)
        assert report.kept == (original,)
        assert largest_singular_value(module.eval().weight) == pytest.approx(1, abs=1e-3)


# ---- several parametrizations, other normalizations, and what is not possible ----


def test_spectral_norm_after_other_parametrizations_is_1() -> None:
    for first in (parametrizations.orthogonal, parametrizations.weight_norm):
        module = spectral_norm(first(nn.Linear(8, 5)), old=False).eval()
        spoil(module)
        fk_torch.init_module_(module, rng=5)
        assert largest_singular_value(module.weight) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_attribute_of_the_old_weight_norm_is_computed_at_once(dim: int | None) -> None:
    module = torch.nn.utils.weight_norm(nn.Linear(8, 5), dim=dim)
    fk_torch.init_module_(module, rng=5)
    expected = fk.normal((5, 8), std=math.sqrt(2 / 8), rng=fk.Generator(5).key("weight_v"))
    assert np.allclose(module.weight.detach().numpy(), expected, rtol=1e-5)


def test_attribute_of_a_pruned_layer_is_computed_at_once() -> None:
    module = prune.random_unstructured(nn.Linear(8, 5), "weight", 0.5)
    fk_torch.init_module_(module, rng=5)
    expected = fk.normal((5, 8), std=math.sqrt(2 / 8), rng=fk.Generator(5).key("weight_orig"))
    assert np.array_equal(module.weight.detach().numpy(), expected * module.weight_mask.numpy())


def test_orthogonal_after_another_parametrization_is_rejected_by_name() -> None:
    module = nn.ModuleDict({"first": nn.Linear(3, 3), "layer": spectral_norm(nn.Linear(5, 5), old=False)})
    parametrizations.orthogonal(module["layer"])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    message = r"orthogonal must be the first parametrization of layer.parametrizations.weight.original, got it after"
    with pytest.raises(ValueError, match=message):
        fk_torch.init_module_(module, rng=5)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert "first.weight" in fk_torch.init_module_(module, rng=5, rules={"layer.*.original": "keep"}).filled


ZEROS: dict[str, tuple[Callable[[], Any], str]] = {
    "spectral_norm": (lambda: spectral_norm(nn.Linear(3, 3), old=False), "parametrizations.weight.original"),
    "old spectral_norm": (lambda: spectral_norm(nn.Linear(3, 3), old=True), "weight_orig"),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(3, 3)), "parametrizations.weight.original1"),
    "old weight_norm": (lambda: torch.nn.utils.weight_norm(nn.Linear(3, 3)), "weight_v"),
    "spectral_norm of a vector": (
        lambda: parametrizations.spectral_norm(nn.Linear(3, 3), "bias"),
        "parametrizations.bias.original",
    ),
}


@pytest.mark.parametrize("kind", ZEROS)
@pytest.mark.parametrize("rule", ["zeros", "constant(0)", "normal(std=0.0)"])
def test_zeros_that_are_divided_by_their_norm_are_rejected_by_name(kind: str, rule: str) -> None:
    make, name = ZEROS[kind]
    module = nn.ModuleDict({"first": nn.Linear(3, 3), "layer": make()})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=rf"parameter 'layer.{name}' must not be filled with zeros, .*'\*\.{name}'"):
        fk_torch.init_module_(module, rules={f"*.{name}": rule})
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_vectors_without_memory_are_rejected_before_anything_is_written() -> None:
    module = spectral_norm(nn.Linear(3, 3), old=False)
    module.parametrizations.weight[0]._u = module.parametrizations.weight[0]._u.to("meta")
    before = module.parametrizations.weight.original.detach().clone()
    with pytest.raises(
        ValueError, match=r"buffer 'parametrizations.weight.0._u' must have memory, got the meta device"
    ):
        fk_torch.init_module_(module)
    assert torch.equal(module.parametrizations.weight.original, before)


# ---- checkpoints ----

COMPUTED: dict[str, tuple[Callable[[], Any], str]] = {
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(5, 8)), "parametrizations.weight.original"),
    "spectral_norm": (lambda: spectral_norm(nn.Linear(5, 8), old=False), "parametrizations.weight.0._u"),
    "old spectral_norm": (lambda: spectral_norm(nn.Linear(5, 8), old=True), "weight_u"),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(5, 8)), "parametrizations.weight.original0"),
    "old weight_norm": (lambda: torch.nn.utils.weight_norm(nn.Linear(5, 8)), "weight_g"),
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_checkpoint_has_no_default_for_what_a_parametrization_computes(kind: str) -> None:
    make, name = COMPUTED[kind]
    module = nn.ModuleDict({"norm": make()})  # the default rule for this name would be ones
    message = (
        rf"must have a rule, because a parametrization computes them from other tensors, got none for 'norm.{name}'"
    )
    with pytest.raises(ValueError, match=message):
        checkpoint.plan(module)
    plan = checkpoint.plan(module, rules={"*": "ones"})
    assert f"norm.{name}" in {tensor.name for tensor in plan.tensors}
