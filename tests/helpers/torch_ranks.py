"""The program of the ranks of a process group in test_torch_sharded.py, which fill and compare sharded tensors.

    python tests/helpers/torch_ranks.py RANKS STORE

Every rank compares its local part and the gathered tensor with the values of a single process. It prints the name of
each case that passes.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from gloo_ranks import run_cases
from torch import multiprocessing, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import fastkaiming as fk
import fastkaiming.torch as fk_torch

SHAPE = (13, 10)  # uneven over 2 and over 4 ranks


def meshes(ranks: int) -> list[tuple[DeviceMesh, list[Any]]]:
    """Return every placement of a matrix on the meshes of this number of ranks."""
    line = init_device_mesh("cpu", (ranks,))
    cases: list[tuple[DeviceMesh, list[Any]]] = [(line, [placed]) for placed in (Shard(0), Shard(1), Replicate())]
    if ranks == 4:
        square = init_device_mesh("cpu", (2, 2))
        axes = (Shard(0), Shard(1), Replicate())
        cases += [(square, [first, second]) for first in axes for second in axes]
    return cases


def assert_equal(tensor: Any, expected: Any, mesh: DeviceMesh, placements: list[Any]) -> None:
    """Compare the local part of this rank and the gathered tensor with the expected tensor."""
    whole = torch.from_numpy(np.asarray(expected, np.float64))
    part = distribute_tensor(whole, mesh, placements, src_data_rank=None).to_local()
    assert torch.equal(tensor.to_local().double(), part), placements
    assert torch.equal(tensor.full_tensor().double(), whole), placements


def functions(ranks: int) -> None:
    for mesh, placements in meshes(ranks):
        for dtype in (torch.float32, torch.bfloat16):
            tensor = distribute_tensor(torch.zeros(SHAPE, dtype=dtype), mesh, placements, src_data_rank=None)
            torch.manual_seed(7)
            assert fk_torch.kaiming_uniform_(tensor, a=1.0) is tensor
            unsharded = torch.empty(SHAPE, dtype=dtype)
            torch.manual_seed(7)
            fk_torch.kaiming_uniform_(unsharded, a=1.0)
            assert_equal(tensor, unsharded.double(), mesh, placements)


def accelerated(ranks: int) -> None:
    for mesh, placements in meshes(ranks):
        tensor = distribute_tensor(torch.zeros(SHAPE), mesh, placements, src_data_rank=None)
        torch.manual_seed(8)
        with fk_torch.accelerate():
            tensor.normal_(2.0, 3.0)
            nn.init.trunc_normal_(tensor2 := tensor.clone())
        torch.manual_seed(8)
        unsharded = [fk_torch.normal_(torch.empty(SHAPE), 2.0, 3.0), fk_torch.trunc_normal_(torch.empty(SHAPE))]
        assert_equal(tensor, unsharded[0], mesh, placements)
        assert_equal(tensor2, unsharded[1], mesh, placements)


def tensor_without_axes(ranks: int) -> None:
    mesh = init_device_mesh("cpu", (ranks,))
    for dtype in (torch.float32, torch.bfloat16):
        tensor = distribute_tensor(torch.zeros((), dtype=dtype), mesh, [Replicate()], src_data_rank=None)
        torch.manual_seed(7)
        fk_torch.normal_(tensor)
        torch.manual_seed(7)
        assert torch.equal(tensor.to_local(), fk_torch.normal_(torch.zeros((), dtype=dtype)))


def rank_outside_the_mesh(ranks: int) -> None:
    """Check that a rank outside the mesh takes the seed, too, so that its generator stays synchronized."""
    mesh = DeviceMesh("cpu", torch.arange(max(ranks - 1, 1)))
    tensor = distribute_tensor(torch.zeros(SHAPE), mesh, [Shard(0)], src_data_rank=None)
    torch.manual_seed(7)
    fk_torch.normal_(tensor)
    after = torch.get_rng_state()
    torch.manual_seed(7)
    whole = fk_torch.normal_(torch.zeros(SHAPE))
    assert torch.equal(torch.get_rng_state(), after)
    if mesh.get_coordinate() is not None:
        assert torch.equal(tensor.full_tensor(), whole)


def inconsistent_placement(ranks: int) -> None:
    """Check that torch fills a local tensor whose shape differs from the one that its placements define."""
    mesh = init_device_mesh("cpu", (ranks,))
    tensor = DTensor.from_local(
        torch.zeros(3, 2), mesh, [Shard(0)], run_check=False, shape=(7 * ranks, 2), stride=(2, 1)
    )
    assert fk_torch.normal_(tensor).to_local().abs().mean() > 0.1


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, 12, padding_idx=9)
        self.up = nn.Linear(12, 22)
        self.down = nn.Linear(22, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 17, bias=False)
        self.head.weight = self.embedding.weight


def unsharded_state() -> dict[str, torch.Tensor]:
    net = Net()
    fk_torch.init_module_(net, rng=5)
    assert np.array_equal(
        net.up.weight.detach().numpy(), fk.kaiming_normal((22, 12), rng=fk.Generator(5).key("up.weight"))
    )
    return dict(net.state_dict())


def assert_state_equals_unsharded(net: nn.Module) -> None:
    expected = unsharded_state()
    for name, tensor in net.state_dict().items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        assert torch.equal(whole, expected[name]), name


def fsdp(ranks: int) -> None:
    with torch.device("meta"):
        net = Net()
    fully_shard(net, mesh=init_device_mesh("cpu", (ranks,)))
    net.to_empty(device="cpu")
    report = fk_torch.init_module_(net, rng=5)
    assert report.shared == {"head.weight": "embedding.weight"}
    assert_state_equals_unsharded(net)


def fsdp_and_tensor_parallelism(ranks: int) -> None:
    if ranks == 1:
        return
    mesh = init_device_mesh("cpu", (ranks // 2, 2), mesh_dim_names=("data", "tensor"))
    with torch.device("meta"):
        net = Net()
        net.head = nn.Linear(12, 17, bias=False)
    parallelize_module(net, mesh["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(net, mesh=mesh["data"])
    net.to_empty(device="cpu")
    fk_torch.init_module_(net, rng=5, rules={"head.weight": "normal(std=0.02)"})
    kinds = {type(placement).__name__ for p in net.parameters() for placement in getattr(p, "placements", ())}
    assert "_StridedShard" in kinds or ranks == 2, kinds
    expected = unsharded_state()
    for name in ("up.weight", "up.bias", "down.weight", "embedding.weight"):
        tensor = net.get_parameter(name)
        assert isinstance(tensor, DTensor)
        assert torch.equal(tensor.full_tensor(), expected[name]), name
    torch.manual_seed(9)
    with fk_torch.accelerate(), torch.no_grad():
        net.up.weight.normal_()
    torch.manual_seed(9)
    assert torch.equal(net.up.weight.full_tensor(), fk_torch.normal_(torch.empty(22, 12)))


class Gates(nn.Module):
    """A layer that initializes parts of its parameters differently, in the ways that published layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.empty(4 * 6, 6))
        self.bias = nn.Parameter(torch.empty(4 * 6))
        self.square = nn.Parameter(torch.empty(10, 8))
        self.patches = nn.Parameter(torch.empty(12, 3, 2, 2))
        self.truncated = nn.Parameter(torch.empty(9, 7))
        self.register_buffer("positions", torch.empty(5))

    def reset_parameters(self) -> None:
        for gate in self.gates.chunk(4):
            nn.init.xavier_uniform_(gate)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.bias[6:12].fill_(1.0)
            self.positions.copy_(torch.arange(5.0))
        nn.init.orthogonal_(self.square, gain=2.0)
        nn.init.kaiming_normal_(self.patches.view(12, -1))
        nn.init.trunc_normal_(self.truncated, std=0.02, a=-0.04, b=0.04)


class NetWithGates(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 17, bias=False)
        self.gates = Gates()


def state_after_reset(net: nn.Module) -> dict[str, torch.Tensor]:
    """Reset a module whose memory holds NaN, and return its whole tensors."""
    net.to_empty(device="cpu")
    for tensor in (*net.parameters(), *net.buffers()):
        local = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()
        local.fill_(torch.nan if local.is_floating_point() else 77)
    fk_torch.reset_module_(net, rng=6)
    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in net.state_dict().items()
    }


def reset(ranks: int) -> None:
    with torch.device("meta"):
        unsharded, sharded, parallel = NetWithGates(), NetWithGates(), NetWithGates()
    expected = state_after_reset(unsharded)
    fully_shard(sharded, mesh=init_device_mesh("cpu", (ranks,)))
    shape, names = ((ranks // 2, 2), ("data", "tensor")) if ranks > 1 else ((1, 1), ("data", "tensor"))
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    parallelize_module(parallel, mesh["tensor"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(parallel, mesh=mesh["data"])
    for net in (sharded, parallel):
        assert_same_state(state_after_reset(net), expected)


def assert_same_state(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name


def reset_transformers(ranks: int) -> None:
    """Reset models with tied weights, padding rows and modules without parameters of their own."""
    if find_spec("transformers") is None:
        return
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    configs = [
        transformers.BertConfig(**sizes, vocab_size=50, max_position_embeddings=16),
        transformers.T5Config(d_model=32, d_ff=48, num_layers=1, num_heads=2, d_kv=16, vocab_size=50),
    ]
    for config, kind in zip(configs, ("BertForMaskedLM", "T5ForConditionalGeneration"), strict=True):
        with torch.device("meta"):
            unsharded, sharded = (getattr(transformers, kind)(config) for _ in range(2))
        fully_shard(sharded, mesh=init_device_mesh("cpu", (ranks,)))
        assert_same_state(state_after_reset(sharded), state_after_reset(unsharded))


def parametrized_net() -> nn.Module:
    parametrizations = torch.nn.utils.parametrizations
    with torch.device("meta"):
        return nn.Sequential(
            parametrizations.spectral_norm(nn.Linear(12, 14)),
            torch.nn.utils.spectral_norm(nn.Linear(12, 14)),
            parametrizations.orthogonal(nn.Linear(12, 14)),
            parametrizations.orthogonal(nn.Linear(14, 12), use_trivialization=False),
            parametrizations.weight_norm(nn.Linear(12, 14)),
        )


def parametrized(ranks: int) -> None:
    unsharded, sharded = parametrized_net(), parametrized_net()
    fully_shard(sharded, mesh=init_device_mesh("cpu", (ranks,)))
    for net in (unsharded, sharded):
        net.to_empty(device="cpu")
        fk_torch.init_module_(net, rng=5)
    expected = unsharded.state_dict()
    assert {"2.parametrizations.weight.0.base", "1.weight_u"} < expected.keys()
    for name, tensor in sharded.state_dict().items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        assert torch.allclose(whole, expected[name], atol=1e-5), name


CASES: dict[str, Callable[[int], None]] = {
    "functions": functions,
    "accelerated": accelerated,
    "tensor_without_axes": tensor_without_axes,
    "rank_outside_the_mesh": rank_outside_the_mesh,
    "inconsistent_placement": inconsistent_placement,
    "fsdp": fsdp,
    "fsdp_and_tensor_parallelism": fsdp_and_tensor_parallelism,
    "reset": reset,
    "reset_transformers": reset_transformers,
    "parametrized": parametrized,
}


def rank(number: int, ranks: int, store: str) -> None:
    run_cases(CASES, number, ranks, store)


if __name__ == "__main__":
    multiprocessing.spawn(rank, (int(sys.argv[1]), sys.argv[2]), nprocs=int(sys.argv[1]))
