"""accelerate() replaces the fills within its block and nowhere else."""

import contextvars
import math
import mmap
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastkaiming as fk

torch = pytest.importorskip("torch")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn

from test_torch import SEED, take_seed, values  # noqa: E402


def seeded(fill: Callable[[], Any]) -> Any:
    torch.manual_seed(SEED)
    return fill()


@pytest.fixture(scope="module")
def seed() -> int:
    return int(seeded(take_seed))


@pytest.fixture(autouse=True)
def _check_that_torch_is_restored() -> Any:
    owners = (torch.Tensor, nn.init)
    before = [dict(vars(owner)) for owner in owners]
    yield
    assert [dict(vars(owner)) for owner in owners] == before


# ---- fills that are replaced within a block ----


def test_methods_and_constructors_use_fastkaimings_values(seed: int) -> None:
    with fk_torch.accelerate():
        normal = seeded(lambda: torch.empty(30, 20).normal_(0.5, 2.0))
        uniform = seeded(lambda: torch.empty(30, 20).uniform_(-0.5, 0.5))
        keywords = seeded(lambda: torch.empty(30, 20).uniform_(to=0.5, **{"from": -0.5}))
        layer = seeded(lambda: nn.Linear(20, 30))
    assert np.array_equal(values(normal), fk.normal((30, 20), mean=0.5, std=2.0, rng=seed))
    assert np.array_equal(values(uniform), fk.uniform((30, 20), low=-0.5, high=0.5, rng=seed))
    assert torch.equal(keywords, uniform)
    assert np.array_equal(values(layer.weight), fk.kaiming_uniform((30, 20), a=math.sqrt(5), rng=seed))


@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("normal_", fk.normal),
        ("trunc_normal_", fk.trunc_normal),
        ("xavier_normal_", fk.xavier_normal),
        ("xavier_uniform_", fk.xavier_uniform),
        ("kaiming_normal_", fk.kaiming_normal),
        ("kaiming_uniform_", fk.kaiming_uniform),
    ],
)
def test_initializers_imported_before_the_block_are_accelerated(name: str, core: Callable[..., Any], seed: int) -> None:
    imported = getattr(nn.init, name)
    with fk_torch.accelerate():
        found = [
            seeded(lambda: imported(torch.empty(9, 8))),
            seeded(lambda: getattr(nn.init, name)(torch.empty(9, 8))),
        ]
    for tensor in found:
        assert np.array_equal(values(tensor), core((9, 8), rng=seed))


def test_functions_that_call_the_methods_are_accelerated(seed: int) -> None:
    """For example, timm computed truncated normal values from uniform_ by the inverse error function."""

    def truncated(tensor: Any) -> Any:
        with torch.no_grad():
            return tensor.uniform_(-0.75, 0.75).erfinv_().mul_(math.sqrt(2)).clamp_(-2, 2)

    with fk_torch.accelerate():
        tensor = seeded(lambda: truncated(torch.empty(40, 50)))
        orthogonal = seeded(lambda: nn.init.orthogonal_(torch.empty(20, 30)))
    uniform = torch.from_numpy(fk.uniform((40, 50), low=-0.75, high=0.75, rng=seed))
    assert torch.equal(tensor, uniform.erfinv().mul(math.sqrt(2)).clamp(-2, 2))
    assert torch.equal(orthogonal, seeded(lambda: fk_torch.orthogonal_(torch.empty(20, 30))))


def test_decorated_function_runs_in_a_block(seed: int) -> None:
    for decorate in (fk_torch.accelerate(), fk_torch.accelerate):
        build = decorate(lambda: torch.empty(50).normal_())
        for _ in range(2):
            assert np.array_equal(values(seeded(build)), fk.normal(50, rng=seed))


def test_decorated_function_can_call_itself(seed: int) -> None:
    def build(depth: int) -> Any:
        if depth:
            accelerated(depth - 1)
        return seeded(lambda: torch.empty(50).normal_())

    accelerated = fk_torch.accelerate()(build)
    assert np.array_equal(values(accelerated(2)), fk.normal(50, rng=seed))


async def coroutine() -> None: ...
def generator() -> Any:
    yield


async def asynchronous_generator() -> Any:
    yield


@pytest.mark.parametrize("function", [coroutine, generator, asynchronous_generator, nn.Linear, 3])
def test_generators_coroutines_and_classes_cannot_be_decorated(function: Any) -> None:
    """Their bodies would run after the block had been left; a class is not a function."""
    with pytest.raises(TypeError, match=r"accelerate\(\) must decorate a function"):
        fk_torch.accelerate(function)


def test_block_cannot_be_entered_twice_at_a_time(seed: int) -> None:
    block = fk_torch.accelerate()
    for _ in range(2):
        with block:
            with pytest.raises(RuntimeError, match=r"must be exited before it is entered again"):
                block.__enter__()
            inside = seeded(lambda: torch.empty(50).normal_())
        assert np.array_equal(values(inside), fk.normal(50, rng=seed))


def test_block_can_be_left_in_another_context() -> None:
    """The block of an asynchronous fixture is left in another context, for example."""
    plain = seeded(lambda: torch.empty(50).normal_())
    block = fk_torch.accelerate()
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert torch.equal(seeded(lambda: torch.empty(50).normal_()), plain)


def test_copied_context_is_accelerated_only_while_its_block_is_open(seed: int) -> None:
    """A task that outlives its block is not affected by the next block."""
    plain = seeded(lambda: torch.empty(50).normal_())
    with fk_torch.accelerate():
        copied = contextvars.copy_context()
        assert np.array_equal(values(copied.run(seeded, lambda: torch.empty(50).normal_())), fk.normal(50, rng=seed))
    with fk_torch.accelerate():
        assert torch.equal(copied.run(seeded, lambda: torch.empty(50).normal_()), plain)


def test_replacements_by_other_code_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, transformers replaces initializers to protect the weights that it loads."""
    skipped = torch.zeros(3, 3)
    with monkeypatch.context() as patched, fk_torch.accelerate():
        patched.setattr(nn.init, "kaiming_uniform_", lambda tensor, *_args, **_named: tensor)
        assert not nn.init.kaiming_uniform_(skipped).any()
    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "normal_", lambda self, *_args, **_named: self)
        with fk_torch.accelerate():
            assert not skipped.normal_().any()
        assert not skipped.normal_().any()


def test_replacement_by_other_code_can_outlast_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other code may then restore the replacement of the block, which calls torch's method outside of blocks."""
    tensor = torch.zeros(3, 3)
    plain = seeded(lambda: torch.zeros(3, 3).uniform_())
    with monkeypatch.context() as patched:
        with fk_torch.accelerate():
            patched.setattr(torch.Tensor, "uniform_", lambda self, *_args, **_named: self)
        assert not tensor.uniform_().any()
    assert torch.equal(seeded(tensor.uniform_), plain)
    with fk_torch.accelerate():
        assert not torch.equal(seeded(torch.zeros(3, 3).uniform_), plain)


# ---- fills that are not replaced ----


def test_functions_that_create_tensors_are_unchanged() -> None:
    def make() -> list[Any]:
        return [
            torch.randn(50),
            torch.rand(50),
            torch.normal(0.0, 1.0, (50,)),
            torch.randn(50, out=torch.empty(50)),
            torch.randn_like(torch.empty(50)),
            torch.empty(50).exponential_(),
        ]

    expected = seeded(make)
    with fk_torch.accelerate():
        found = seeded(make)
    assert all(map(torch.equal, found, expected))


def test_fills_outside_the_block_are_unchanged(seed: int) -> None:
    plain = seeded(lambda: torch.empty(50).normal_())
    with pytest.raises(KeyError), fk_torch.accelerate():
        raise KeyError
    assert torch.equal(seeded(lambda: torch.empty(50).normal_()), plain)
    assert not np.array_equal(values(plain), fk.normal(50, rng=seed))


def test_blocks_can_be_nested(seed: int) -> None:
    expected = fk.normal(50, rng=seed)
    with fk_torch.accelerate():
        with fk_torch.accelerate():
            inner = seeded(lambda: torch.empty(50).normal_())
        after = seeded(lambda: torch.empty(50).normal_())
    assert np.array_equal(values(inner), expected)
    assert np.array_equal(values(after), expected)


def test_other_threads_are_not_affected(seed: int) -> None:
    """They are affected neither by an open block nor by the end of a block while their own is open."""
    plain, generator = seeded(lambda: torch.empty(50).normal_()), torch.Generator()
    entered, leave, found = threading.Event(), threading.Event(), []

    def other() -> None:
        generator.manual_seed(SEED)
        found.append(torch.empty(50).normal_(generator=generator))
        with fk_torch.accelerate():
            entered.set()
            leave.wait()
            generator.manual_seed(SEED)
            found.append(torch.empty(50).normal_(generator=generator))

    thread = threading.Thread(target=other)
    with fk_torch.accelerate():
        thread.start()
        entered.wait()
    after = seeded(lambda: torch.empty(50).normal_())
    leave.set()
    thread.join()
    assert torch.equal(found[0], plain)
    assert np.array_equal(values(found[1]), fk.normal(50, rng=seed))
    assert torch.equal(after, plain)


def test_fills_recorded_by_autograd_are_unchanged() -> None:
    weight = nn.Parameter(torch.zeros(3))
    with fk_torch.accelerate():
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            weight.normal_()
        hidden = weight * 2
        hidden.normal_()
        hidden.sum().backward()
    assert weight.grad.tolist() == [0, 0, 0]


def test_inference_tensors_can_be_filled_in_inference_mode_only(seed: int) -> None:
    with fk_torch.accelerate():
        with torch.inference_mode():
            tensor = seeded(lambda: torch.empty(50).normal_())
        found = values(tensor.clone())
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
            tensor.normal_()
    assert np.array_equal(found, fk.normal(50, rng=seed))
    assert np.array_equal(values(seeded(lambda: fk_torch.normal_(torch.empty(50)))), fk.normal(50, rng=seed))


def test_other_dispatch_modes_observe_the_fills() -> None:
    seen = []

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[name-defined, misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    for outer, inner in ((fk_torch.accelerate, Mode), (Mode, fk_torch.accelerate)):
        seen.clear()
        with outer(), inner():
            torch.empty(50).normal_()
            assert seen.count("aten.normal_.default") == 1
            nn.init.trunc_normal_(torch.empty(50))
            nn.Linear(3, 3)
        assert seen.count("aten.normal_.default") > 1
        assert seen.count("aten.uniform_.default") == 2


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_fake_meta_nested_and_batched_tensors_are_filled_by_torch() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with fk_torch.accelerate():
        with FakeTensorMode():
            assert nn.Linear(3, 4).weight.shape == (4, 3)
        with torch.device("meta"):
            assert nn.Linear(3, 4).weight.is_meta
        nested = torch.nested.nested_tensor([torch.zeros(20), torch.zeros(30)]).normal_()
        batched = torch.vmap(lambda x: x.clone().normal_(), randomness="different")(torch.zeros(3, 50))
    assert 0.5 < batched.std() < 1.5
    assert all(0.3 < part.std() < 2 for part in nested.unbind())


def test_bad_arguments_raise_torchs_errors() -> None:
    tensor = torch.zeros(3)
    calls: list[Callable[[], Any]] = [
        lambda: tensor.normal_(0.0, -1.0),
        lambda: tensor.uniform_(1.0, 0.0),
        lambda: tensor.uniform_(0.0, 1.0, 2.0),
        lambda: tensor.uniform_(low=0.0),
        lambda: tensor.normal_("a"),
        lambda: torch.zeros(3, dtype=torch.int64).normal_(),
        lambda: torch.zeros(3, 1).expand(3, 3).normal_(),
    ]
    for call in calls:
        with pytest.raises((RuntimeError, TypeError)) as expected:
            call()
        with fk_torch.accelerate(), pytest.raises(expected.type) as found:
            call()
        assert str(found.value) == str(expected.value)
    assert not tensor.any()


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="only Linux has transparent huge pages"
)
@pytest.mark.parametrize("is_transposed", [False, True])
def test_large_new_tensors_get_huge_pages(is_transposed: bool) -> None:
    # The allocator may reuse memory for which an earlier fill has requested huge pages, so this memory is not from it.
    memory = mmap.mmap(-1, 20 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    tensor = torch.frombuffer(memory, dtype=torch.float32).reshape(5 << 10, 1 << 10)
    address = tensor.data_ptr()
    assert "hg" not in flags_of_memory(address + (8 << 20))
    with fk_torch.accelerate():
        (tensor.T if is_transposed else tensor).normal_()
    assert "hg" in flags_of_memory(address + (8 << 20))
    assert 0.9 < tensor.std() < 1.1


def flags_of_memory(address: int) -> list[str]:
    """Return the VmFlags of the mapping at an address, see proc_pid_smaps(5)."""
    is_at_address = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            is_at_address = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif is_at_address and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise LookupError(f"no mapping at {address:#x}")


def test_models_of_transformers_are_reproducible_and_accelerated() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
    )
    with fk_torch.accelerate():
        model = seeded(lambda: transformers.AutoModelForCausalLM.from_config(config))
        again = seeded(lambda: transformers.AutoModelForCausalLM.from_config(config))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        if name.endswith("proj.weight"):
            assert 0.017 < weight.std() < 0.023
    plain = seeded(lambda: transformers.AutoModelForCausalLM.from_config(config)).state_dict()
    assert not torch.equal(plain["lm_head.weight"], model.state_dict()["lm_head.weight"])
