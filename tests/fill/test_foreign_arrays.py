"""Arrays of other frameworks that cannot be filled: nothing is written, and the error says what to do instead."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

SHAPE = (4, 6)
NO_MEMORY = "out must export CPU memory to NumPy by DLPack, but its type {} does not: "


def message_of(call: Callable[[], object], kind: type[Exception] = TypeError) -> str:
    with pytest.raises(kind) as raised:
        call()
    assert raised.type is kind
    return str(raised.value)


# ---- torch ----


def tensors(torch: Any) -> dict[str, tuple[Callable[[], Any], str, str]]:
    """Return tensors that NumPy cannot access, with what errors say about their type and about kaiming_normal_."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.testing._internal.two_tensor import TwoTensor

    make_two_tensor: Any = TwoTensor

    class Subclass(torch.Tensor):  # type: ignore[misc]
        pass

    def zeros(**options: Any) -> Any:
        return torch.zeros(SHAPE, **options)

    def fake() -> Any:
        with FakeTensorMode():
            return zeros()

    def freed() -> Any:
        tensor = zeros()
        tensor.untyped_storage().resize_(0)
        return tensor

    adapter = "call kaiming_normal_ of fastkaiming.torch"
    return {
        "bfloat16": (lambda: zeros(dtype=torch.bfloat16), "Tensor", adapter),
        "a view of bfloat16": (lambda: zeros(dtype=torch.bfloat16).T, "Tensor", adapter),
        "a parameter": (lambda: torch.nn.Parameter(zeros()), "Parameter", adapter),
        "a bfloat16 parameter": (lambda: torch.nn.Parameter(zeros(dtype=torch.bfloat16)), "Parameter", adapter),
        "with gradients": (lambda: zeros(requires_grad=True), "Tensor", adapter),
        "computed with gradients": (lambda: zeros(requires_grad=True) * 2, "Tensor", adapter),
        "a negative view": (lambda: torch._neg_view(zeros()), "Tensor", adapter),
        "a subclass of bfloat16": (lambda: zeros(dtype=torch.bfloat16).as_subclass(Subclass), "Subclass", adapter),
        "a subclass of several tensors": (lambda: make_two_tensor(zeros(), zeros()), "TwoTensor", adapter),
        "a fake tensor": (fake, "FakeTensor", adapter),
        "nested": (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "Tensor", adapter),
        "freed": (freed, "Tensor", "it has no memory, so allocate it first"),
        "meta": (lambda: zeros(device="meta"), "Tensor", "it has no memory, so allocate it first"),
        "a lazy parameter": (
            lambda: torch.nn.UninitializedParameter(),
            "UninitializedParameter",
            "it has no shape yet, so run a forward pass of its lazy module first",
        ),
        "float8_e4m3fn": (
            lambda: zeros(dtype=torch.float8_e4m3fn),
            "Tensor",
            "pass out.detach().view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)",
        ),
        "float8_e5m2": (
            lambda: zeros(dtype=torch.float8_e5m2),
            "Tensor",
            "pass out.detach().view(torch.uint8).numpy().view(ml_dtypes.float8_e5m2)",
        ),
        "another float8": (
            lambda: zeros(dtype=torch.float8_e4m3fnuz),
            "Tensor",
            "fastkaiming.torch does not fill torch.float8_e4m3fnuz (torch.strided) either",
        ),
        "sparse": (
            lambda: zeros().to_sparse(),
            "Tensor",
            "fastkaiming.torch does not fill torch.float32 (torch.sparse_coo) either",
        ),
        "MKL-DNN": (
            lambda: zeros().to_mkldnn(),
            "Tensor",
            "fastkaiming.torch does not fill torch.float32 (torch._mkldnn) either",
        ),
        "a conjugated view": (
            lambda: zeros(dtype=torch.complex64).conj(),
            "Tensor",
            "fastkaiming.torch does not fill torch.complex64 (torch.strided) either",
        ),
        "quantized": (
            lambda: torch.quantize_per_tensor(zeros(), 1.0, 0, torch.qint8),
            "Tensor",
            "fastkaiming.torch does not fill torch.qint8 (torch.strided) either",
        ),
    }


TENSORS = [
    *("bfloat16", "a view of bfloat16", "a parameter", "a bfloat16 parameter", "with gradients"),
    *("computed with gradients", "a negative view", "a subclass of bfloat16", "a subclass of several tensors"),
    *("a fake tensor", "nested", "freed", "meta", "a lazy parameter", "float8_e4m3fn", "float8_e5m2"),
    *("another float8", "sparse", "MKL-DNN", "a conjugated view", "quantized"),
]


@pytest.mark.filterwarnings(  # of torch
    "ignore:Sparse", "ignore:.*quantiz", "ignore:Lazy modules", "ignore:.*nested", "ignore:Accessing the data pointer"
)
@pytest.mark.parametrize("name", TENSORS)
def test_tensor_that_numpy_cannot_access(name: str) -> None:
    torch = pytest.importorskip("torch")
    make, kind, hint = tensors(torch)[name]
    generator, tensor = fk.Generator(1), make()
    message = message_of(lambda: fk.kaiming_normal_(tensor, rng=generator))
    assert message.startswith("kaiming_normal_: " + NO_MEMORY.format(kind))
    assert message.endswith(": " + hint)
    assert generator.next_key().stream == 1
    if name in {"bfloat16", "with gradients", "a negative view", "a view of bfloat16", "a subclass of bfloat16"}:
        assert not tensor.detach().any()


def test_all_tensors_are_tested() -> None:
    assert [*tensors(pytest.importorskip("torch"))] == TENSORS


@pytest.mark.parametrize(
    "name", [name for name in fk.__all__ if name.endswith("_") and name[0] != "_" and name != "init_"]
)
def test_hint_for_a_tensor_names_a_function_that_fills_it(name: str) -> None:
    torch = pytest.importorskip("torch")
    adapter = pytest.importorskip("fastkaiming.torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    required = {"fill_": (fk.Normal(),), "constant_": (1.0,)}.get(name, ())
    out = torch.zeros(SHAPE, dtype=torch.bfloat16, requires_grad=True)
    message = message_of(lambda: getattr(fk, name)(out, *required, rng=1))
    hint = message.rpartition(": ")[2]
    if name in adapter.__all__:
        assert hint == f"call {name} of fastkaiming.torch"
    elif name.startswith("he_"):
        assert hint == f"call {name.replace('he', 'kaiming')} of fastkaiming.torch with nonlinearity='relu'"
    else:
        array = eval(hint.removeprefix("pass "), {"out": out, "torch": torch, "ml_dtypes": ml_dtypes})
        assert getattr(fk, name)(array, *required, rng=1) is array
        assert out.detach().any()


def test_hint_for_float32_with_gradients_is_to_detach_it_if_the_adapter_has_no_such_function() -> None:
    torch = pytest.importorskip("torch")
    out = torch.zeros(SHAPE, requires_grad=True)
    for call in (lambda: fk.lecun_normal_(out), lambda: fk.fill_(out, fk.Normal())):
        assert message_of(call).endswith(": pass out.detach()")
    fk.lecun_normal_(out.detach(), rng=1)
    assert np.array_equal(out.detach().numpy(), fk.lecun_normal(SHAPE, rng=1))


def test_hint_for_a_negative_view_if_the_adapter_has_no_such_function() -> None:
    torch = pytest.importorskip("torch")
    out = torch._neg_view(torch.zeros(SHAPE))
    assert message_of(lambda: fk.lecun_normal_(out)).endswith(": fill another tensor and copy it by out.copy_(other)")
    out.copy_(fk.lecun_normal_(torch.zeros(SHAPE), rng=1))
    assert np.array_equal(out.resolve_neg().numpy(), fk.lecun_normal(SHAPE, rng=1))


def test_sharded_tensor_is_not_silently_left_unchanged() -> None:
    torch = pytest.importorskip("torch")
    import torch.distributed as distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (2,))
        tensor = distribute_tensor(torch.zeros(SHAPE), mesh, [Shard(0)])
        message = message_of(lambda: fk.kaiming_normal_(tensor, rng=1))
        other_message = message_of(lambda: fk.lecun_normal_(tensor, rng=1))
        shard: dict[str, Any] = {"global_shape": SHAPE, "index": fk.shard_slices(SHAPE, 2)[0]}
        fk.lecun_normal_(tensor.to_local(), rng=1, **shard)
        assert np.array_equal(tensor.to_local().numpy(), fk.lecun_normal(SHAPE, rng=1)[:2])
    finally:
        distributed.destroy_process_group()
    assert message.startswith("kaiming_normal_: " + NO_MEMORY.format("DTensor"))
    assert message.endswith(": call kaiming_normal_ of fastkaiming.torch")
    assert other_message.endswith(": pass out.to_local() with global_shape= and index=")


def test_tensor_of_another_device() -> None:
    torch = pytest.importorskip("torch")

    class OnAnotherDevice(torch.Tensor):  # type: ignore[name-defined, misc]
        """A stand-in for a tensor on a GPU."""

        device = torch.device("cuda", 0)

        def __dlpack__(self, **_options: Any) -> Any:
            raise BufferError("the device type of the memory must be kDLCPU")

    tensor = torch.zeros(SHAPE).as_subclass(OnAnotherDevice)
    assert message_of(lambda: fk.kaiming_normal_(tensor)).endswith(
        ": fastkaiming.torch leaves tensors on cuda:0 to torch, so fill a tensor on the CPU and copy it"
    )


def test_tensors_of_a_transform_are_not_filled() -> None:
    torch = pytest.importorskip("torch")
    messages = []

    def fill(tensor: Any) -> Any:
        messages.append(message_of(lambda: fk.kaiming_normal_(tensor, rng=1)))
        return tensor.sum()

    torch.vmap(fill)(torch.zeros(2, *SHAPE))
    torch.func.grad(fill)(torch.zeros(SHAPE))
    torch.func.functionalize(fill)(torch.zeros(SHAPE))
    assert [message.endswith(": call kaiming_normal_ of fastkaiming.torch") for message in messages] == [True] * 3


def test_tensors_that_numpy_can_access_are_still_filled() -> None:
    torch = pytest.importorskip("torch")

    class Subclass(torch.Tensor):  # type: ignore[name-defined, misc]
        pass

    with torch.inference_mode():
        inference = torch.zeros(SHAPE)
    for tensor in (torch.zeros(SHAPE).as_subclass(Subclass), inference, torch.zeros(0, 6), torch.zeros(SHAPE[::-1]).T):
        assert fk.kaiming_normal_(tensor, rng=1) is tensor
        assert np.array_equal(np.from_dlpack(tensor), fk.kaiming_normal(tuple(tensor.shape), rng=1))


def test_module_and_mapping_of_parameters() -> None:
    torch = pytest.importorskip("torch")
    layer: Any = torch.nn.Linear(3, 4)
    layer.dtype, layer.device = torch.float32, torch.device("cpu")  # as models of transformers have
    hint = ": call init_module_ of fastkaiming.torch"
    assert message_of(lambda: fk.kaiming_normal_(layer)).endswith(hint)
    assert message_of(lambda: fk.init_(layer)).endswith(hint)
    message = message_of(lambda: fk.init_(dict(layer.named_parameters())))
    assert message.startswith("init_: array 'weight': " + NO_MEMORY.format("Parameter"))
    assert message.endswith(hint)


# ---- JAX ----


def test_arrays_of_jax() -> None:
    jax = pytest.importorskip("jax")
    array, key = jax.numpy.zeros(SHAPE), jax.random.key(1)
    converted: Any = np.asarray(array)
    hint = ": arrays of JAX cannot be modified, so call an initializer of fastkaiming.jax, which returns a new one"
    for out in (array, converted, converted.T, converted[1:], memoryview(converted)):
        message = message_of(lambda out=out: fk.kaiming_normal_(out, rng=1), ValueError)  # type: ignore[misc]
        assert message.startswith("kaiming_normal_: out must be writable, ")
        assert message.endswith(hint)
    assert message_of(lambda: fk.kaiming_normal_(key)).endswith(hint)
    assert message_of(lambda: jax.jit(fk.kaiming_normal_)(array)).endswith(hint)
    locked = np.zeros(SHAPE, np.float32)
    locked.flags.writeable = False
    assert "JAX" not in message_of(lambda: fk.kaiming_normal_(locked), ValueError)
    assert not array.any()


def test_lazy_arrays_of_dask() -> None:
    array = pytest.importorskip("dask.array").zeros(SHAPE)
    assert message_of(lambda: fk.kaiming_normal_(array)).endswith(
        ": call an initializer of fastkaiming.dask, which returns a lazy array"
    )


# ---- objects that are not arrays ----


@pytest.mark.parametrize(
    ("name", "out", "hint"),
    [
        ("kaiming_normal_", (3, 4), ": call kaiming_normal for a new array of this shape"),
        ("uniform_", [3, 4], ": call uniform for a new array of this shape"),
        ("normal_", 3, ": call normal for a new array of this shape"),
        ("zeros_", (3, 4), ": pass a NumPy array, such as numpy.empty(shape, numpy.float32)"),
        ("ones_", 3, ": pass a NumPy array, such as numpy.empty(shape, numpy.float32)"),
        ("kaiming_normal_", [[0.5, 0.5]], ": pass a NumPy array, such as numpy.empty(shape, numpy.float32)"),
        ("kaiming_normal_", None, ": pass a NumPy array, such as numpy.empty(shape, numpy.float32)"),
        ("kaiming_normal_", 0.5, ": pass a NumPy array, such as numpy.empty(shape, numpy.float32)"),
        ("kaiming_normal_", {"w": np.zeros(3)}, ": call init_ to fill each array of a mapping"),
    ],
)
def test_object_that_is_not_an_array(name: str, out: Any, hint: str) -> None:
    message = message_of(lambda: getattr(fk, name)(out))
    assert message.startswith(f"{name}: out must be a NumPy array or support the buffer protocol or DLPack, not ")
    assert message.endswith(hint)


def test_nested_mapping() -> None:
    message = message_of(lambda: fk.init_({"layer": {"w": np.zeros(SHAPE)}}))
    assert message.startswith("init_: array 'layer': out must be a NumPy array or support the buffer protocol or DLPac")
    assert message.endswith(": flatten nested mappings first")
