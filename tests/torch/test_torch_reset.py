"""``reset_module_``: the module's own initialization, each tensor from the stream of its name."""

import copy
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn


def key(name: str, seed: int = 7) -> fk.Key:
    return fk.Generator(seed).key(name)


def with_nan(module: Any) -> Any:
    """Fill all floating-point tensors of a module with NaN, as memory without an initialization may be."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.detach().fill_(torch.nan if tensor.is_floating_point() else 77)
    return module


def reset(module: Any, **options: Any) -> Any:
    """Reset a module with seed 7 and return its tensors as NumPy arrays."""
    fk_torch.reset_module_(with_nan(module), 7, **options)
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict(keep_vars=True).items()}


def uniform(shape: tuple[int, ...], bound: float, name: str) -> Any:
    return fk.uniform(shape, low=-bound, high=bound, rng=key(name))


class Layer(nn.Module):  # type: ignore[misc,name-defined]
    """A module with parameters of the given shapes, which a function resets."""

    def __init__(self, reset_parameters: Any, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self.function = reset_parameters

    def _reset_parameters(self) -> None:
        self.function(self)


def test_linear_layer_has_the_bounds_of_torch_and_the_streams_of_its_names() -> None:
    values = reset(nn.Sequential(nn.Linear(64, 32)))
    assert np.array_equal(values["0.weight"], uniform((32, 64), 1 / 8, "0.weight"))
    assert np.array_equal(values["0.bias"], uniform((32,), 1 / 8, "0.bias"))


def test_values_do_not_depend_on_other_modules() -> None:
    alone = reset(nn.ModuleDict({"b": nn.Linear(8, 4)}))
    among = reset(nn.ModuleDict({"a": nn.Conv2d(3, 4, 3), "b": nn.Linear(8, 4), "c": nn.LayerNorm(4)}))
    assert all(np.array_equal(among[name], values) for name, values in alone.items())


def test_a_module_on_the_meta_device_is_initialized_after_to_empty() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    values = reset(module.to_empty(device="cpu"))
    assert np.array_equal(values["0.weight"], uniform((4, 8), 8**-0.5, "0.weight"))
    assert values["1.running_mean"].tolist() == [0.0] * 4
    assert values["1.running_var"].tolist() == values["1.weight"].tolist() == [1.0] * 4
    assert values["1.num_batches_tracked"] == 0


def test_padding_row_is_zero() -> None:
    weight = reset(nn.Embedding(5, 4, padding_idx=2))["weight"]
    expected = fk.normal((5, 4), rng=key("weight"))
    expected[2] = 0.0
    assert np.array_equal(weight, expected)


def test_parts_of_a_parameter_have_the_values_of_their_indices() -> None:
    def reset_parameters(layer: Any) -> None:
        for part, gain in zip(layer.fused.chunk(3), (1.0, 2.0, 3.0), strict=True):
            nn.init.xavier_uniform_(part, gain)
        nn.init.normal_(layer.transposed.T[1:])
        nn.init.uniform_(layer.columns[:, ::2], 1.0, 2.0)
        nn.init.zeros_(layer.columns[:, 1::2])
        nn.init.normal_(layer.flattened.view(6, -1))

    shapes = {"fused": (12, 8), "transposed": (5, 3), "columns": (4, 6), "flattened": (6, 3, 2)}
    values = reset(Layer(reset_parameters, **shapes), keep="*")
    bounds = np.repeat([1.0, 2.0, 3.0], 4)[:, None] * (6 / 12) ** 0.5
    ones = fk.uniform((12, 8), low=-1.0, high=1.0, rng=key("fused"))
    np.testing.assert_allclose(values["fused"], ones * bounds, rtol=1e-6)
    assert np.array_equal(values["transposed"][:, 1:], fk.normal((5, 3), rng=key("transposed"))[:, 1:])
    assert np.isnan(values["transposed"][:, 0]).all()
    assert np.array_equal(values["columns"][:, ::2], fk.uniform((4, 6), low=1.0, high=2.0, rng=key("columns"))[:, ::2])
    assert not values["columns"][:, 1::2].any()
    assert np.array_equal(values["flattened"], fk.normal((6, 3, 2), rng=key("flattened")))


def test_truncated_normal_has_the_values_of_the_function() -> None:
    values = reset(Layer(lambda layer: nn.init.trunc_normal_(layer.weight, 0.0, 0.02, -0.04, 0.04), weight=(50, 60)))
    assert np.array_equal(
        values["weight"], fk.trunc_normal((50, 60), mean=0.0, std=0.02, a=-0.04, b=0.04, rng=key("weight"))
    )


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_values_of_other_dtypes_are_those_of_the_function(dtype: str) -> None:
    layer = Layer(lambda layer: nn.init.normal_(layer.weight, std=0.5), weight=(8, 16)).to(getattr(torch, dtype))
    fk_torch.reset_module_(layer, 7)
    expected = fk.normal((8, 16), dtype, std=0.5, rng=key("weight")).astype(np.float64)
    assert np.array_equal(layer.weight.detach().double().numpy(), expected)


def test_strides_of_a_parameter_do_not_change_the_values() -> None:
    def reset_parameters(layer: Any) -> None:
        nn.init.normal_(layer.weight)
        nn.init.uniform_(layer.weight[1:, :, 0])

    plain = Layer(reset_parameters, weight=(4, 6, 3, 3))
    channels_last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert not channels_last.weight.is_contiguous()
    assert np.array_equal(reset(plain)["weight"], reset(channels_last)["weight"])


def test_fills_that_are_overwritten_are_not_performed() -> None:
    class Model(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 32)

        def init_weights(self) -> None:
            nn.init.normal_(self.layer.weight, std=0.02)
            nn.init.zeros_(self.layer.bias)

    filled: list[int] = []
    model = Model()
    with fk.progress(lambda done, total: filled.append(total) if done == total else None):
        report = fk_torch.reset_module_(model, 7)
    assert filled == [64 * 32]
    assert report.filled == {"layer.weight": "Model.init_weights", "layer.bias": "Model.init_weights"}
    assert np.array_equal(model.layer.weight.detach().numpy(), fk.normal((32, 64), std=0.02, rng=key("layer.weight")))
    assert not model.layer.bias.any()


def test_code_can_read_what_it_has_written() -> None:
    def reset_parameters(layer: Any) -> None:
        nn.init.normal_(layer.first)
        with torch.no_grad():
            layer.second.copy_(2.0 * layer.first)
            layer.first.mul_(layer.first.abs().max().reciprocal())

    values = reset(Layer(reset_parameters, first=(30, 20), second=(30, 20)))
    expected = fk.normal((30, 20), rng=key("first"))
    assert np.array_equal(values["second"], 2.0 * expected)
    np.testing.assert_allclose(values["first"], expected / abs(expected).max(), rtol=1e-6)


def test_random_temporaries_depend_on_the_seed_and_the_module_only() -> None:
    def reset_parameters(layer: Any) -> None:
        nn.init.orthogonal_(layer.weight)

    def orthogonal() -> Any:
        return Layer(reset_parameters, weight=(6, 6))

    alone = reset(nn.ModuleDict({"b": orthogonal()}))["b.weight"]
    values = reset(nn.ModuleDict({"a": orthogonal(), "b": orthogonal()}))
    np.testing.assert_allclose(alone @ alone.T, np.eye(6), atol=1e-6)
    assert np.array_equal(values["b.weight"], alone)
    assert not np.allclose(values["a.weight"], alone)
    fk_torch.reset_module_(module := nn.ModuleDict({"b": orthogonal()}), 8)
    assert not np.allclose(module["b"].weight.detach().numpy(), alone)


def test_generator_of_torch_is_restored() -> None:
    def fail(_: Any) -> None:
        torch.randn(3)
        raise ArithmeticError

    layer = nn.Linear(3, 2)
    state = torch.get_rng_state()
    fk_torch.reset_module_(layer)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ArithmeticError):
        fk_torch.reset_module_(Layer(fail, weight=(2,)))
    assert torch.equal(torch.get_rng_state(), state)


def test_tied_parameters_are_initialized_by_the_layer_that_has_the_first_name() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(6, 4), "head": nn.Linear(4, 6, bias=False)})
    model["head"].weight = model["embedding"].weight
    report = fk_torch.reset_module_(model, 7)
    assert report.shared == {"head.weight": "embedding.weight"}
    assert model["head"].weight is model["embedding"].weight
    assert np.array_equal(model["embedding"].weight.detach().numpy(), fk.normal((6, 4), rng=key("embedding.weight")))


def test_tensors_that_no_code_initializes_raise_an_error_or_are_kept() -> None:
    layer = Layer(lambda layer: nn.init.ones_(layer.weight), weight=(3,), scale=(2,), shift=(2,))
    message = "by a method of the module or match a pattern of keep, got neither for 'scale', 'shift': if only the"
    with pytest.raises(ValueError, match=message):
        fk_torch.reset_module_(layer)
    with torch.no_grad():
        layer.scale.fill_(5.0)
    report = fk_torch.reset_module_(layer, keep=["sc*", "shift"])
    assert report.filled == {"weight": "Layer._reset_parameters", "scale": "keep: sc*", "shift": "keep: shift"}
    assert layer.scale.tolist() == [5.0, 5.0]


@pytest.mark.parametrize(
    "derive",
    [
        pytest.param(lambda layer: setattr(layer.weight, "data", layer.weight.data * 1.0), id="assigned"),
        pytest.param(lambda layer: layer.weight.data.mul_(0.5), id="in place"),
        pytest.param(lambda layer: layer.weight.data.copy_(layer.other.data + 1.0), id="copied"),
    ],
)
def test_values_computed_from_uninitialized_memory_do_not_count(derive: Any) -> None:
    with pytest.raises(ValueError, match="got neither for 'weight', 'other'"):
        fk_torch.reset_module_(Layer(derive, weight=(3,), other=(3,)))


def test_assigned_memory_and_new_tensors_count() -> None:
    def reset_parameters(layer: Any) -> None:
        layer.weight.data = torch.zeros(3)
        layer.other = nn.Parameter(torch.randn(3))

    layer = with_nan(Layer(reset_parameters, weight=(3,), other=(3,)))
    assert fk_torch.reset_module_(layer, 7).filled == {"weight": "assignment", "other": "assignment"}
    assert layer.weight.tolist() == [0.0] * 3
    assert torch.isfinite(layer.other).all()


def test_memory_that_code_assigns_is_filled() -> None:
    def reset_parameters(layer: Any) -> None:
        nn.init.zeros_(layer.weight)
        layer.weight.data = torch.empty(4, 3)
        nn.init.normal_(layer.weight)

    values = reset(Layer(reset_parameters, weight=(4, 3)))
    assert np.array_equal(values["weight"], fk.normal((4, 3), rng=key("weight")))


def test_methods_that_require_arguments_are_not_called() -> None:
    class Block(nn.Linear):  # type: ignore[misc,name-defined]
        def init_weights(self, std: float) -> None:
            nn.init.normal_(self.weight, std=std)

    class Model(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(8, 4)

        def init_weights(self, buffer_device: Any = None) -> None:  # noqa: ARG002  as in torchtitan
            self.block.init_weights(0.5)

    model = Model()
    report = fk_torch.reset_module_(model, 7)
    assert report.filled == {"block.weight": "Model.init_weights", "block.bias": "Block.reset_parameters"}
    assert np.array_equal(model.block.weight.detach().numpy(), fk.normal((4, 8), std=0.5, rng=key("block.weight")))


def test_method_for_each_module_is_applied_to_all_of_them() -> None:
    class Model(nn.Sequential):  # type: ignore[misc,name-defined]
        def _init_weights(self, module: Any) -> None:  # as in nanoGPT and timm, where the constructor calls apply()
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    model = Model(nn.Linear(8, 4), nn.LayerNorm(4))
    report = fk_torch.reset_module_(model, 7)
    assert report.filled["0.weight"] == "Model._init_weights"
    assert report.filled["0.bias"] == "Linear.reset_parameters"
    assert np.array_equal(model[0].weight.detach().numpy(), fk.normal((4, 8), std=0.02, rng=key("0.weight")))


@pytest.mark.parametrize("parametrization", ["weight_norm", "orthogonal", "spectral_norm"])
def test_parametrized_layers_are_reset(parametrization: str) -> None:
    layer = getattr(nn.utils.parametrizations, parametrization)(nn.Linear(8, 6))
    reset(layer)
    weight = layer.weight.detach().numpy()
    if parametrization == "orthogonal":
        np.testing.assert_allclose(weight @ weight.T, np.eye(6), atol=1e-5)
    elif parametrization == "spectral_norm":
        layer.eval()
        assert np.linalg.norm(layer.weight.detach().numpy(), 2) == pytest.approx(1.0, abs=1e-3)
    else:
        assert 0.1 < abs(weight).max() <= 8**-0.5


def test_original_of_a_parametrization_without_inverse_has_the_values_of_the_layer() -> None:
    class Symmetric(nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, matrix: Any) -> Any:
            return matrix.triu() + matrix.triu(1).T

    layer = nn.Linear(32, 32)
    nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    fk_torch.reset_module_(with_nan(layer), 7)
    original = layer.parametrizations.weight.original.detach().numpy()
    assert 0.9 * 32**-0.5 < abs(original).max() <= 32**-0.5
    assert not np.array_equal(original, original.T)
    assert np.array_equal(layer.weight.detach().numpy(), layer.weight.detach().numpy().T)


def test_seeds_of_all_kinds() -> None:
    expected = reset(nn.Linear(8, 4))["weight"]
    for rng in (fk.Generator(7), np.int64(7)):
        layer = nn.Linear(8, 4)
        fk_torch.reset_module_(layer, rng)
        assert np.array_equal(layer.weight.detach().numpy(), expected)
    generator = torch.Generator().manual_seed(1)
    layers = [nn.Linear(8, 4), nn.Linear(8, 4)]
    for layer in layers:
        fk_torch.reset_module_(layer, generator)
    assert not torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize(
    ("module", "options", "error", "message"),
    [
        (3, {}, TypeError, "module must be a torch.nn.Module, not int 3"),
        (nn.Linear(3, 2, device="meta"), {}, ValueError, "parameter 'weight' must have memory, got the meta device"),
        (nn.LazyLinear(3), {}, TypeError, "parameter 'weight' must have a shape"),
        (nn.Linear(3, 2), {"rng": fk.Key(1)}, TypeError, "rng must be None, an integer"),
        (nn.Linear(3, 2), {"keep": 3}, TypeError, "keep must be a string or a sequence of strings, not int 3"),
        (nn.Linear(3, 2), {"keep": [3]}, TypeError, "a pattern in keep must be a str, not int 3"),
    ],
)
def test_invalid_arguments(module: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fk_torch.reset_module_(module, **options)


def test_views_of_a_reset_module_keep_working() -> None:
    layer = nn.Linear(8, 4)
    view, version = layer.weight[1], layer.weight._version
    fk_torch.reset_module_(layer, 7)
    assert torch.equal(view, layer.weight[1])
    assert layer.weight._version > version
    assert layer.weight.requires_grad
    copy.deepcopy(layer)
