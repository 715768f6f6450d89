"""``reset_module_`` gives every tensor of a model the distribution that its ordinary construction has."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from transformers_models import MODELS

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")
fk_torch = pytest.importorskip("fastkaiming.torch")
nn = torch.nn

# Parameters that only the constructor of the model sets: no method of the model initializes them again.
SET_BY_CONSTRUCTOR = {
    "CLIPModel": ["logit_scale"],
    "BlipForConditionalGeneration": ["text_decoder.cls.predictions.bias"],
    "PerceiverForMaskedLM": ["embedding_decoder.bias"],
}


LAYERS: dict[str, Any] = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(32, 100, [20, 60]),
    "BatchNorm2d": lambda: nn.BatchNorm2d(32),
    "Bilinear": lambda: nn.Bilinear(16, 24, 32),
    "Conv1d": lambda: nn.Conv1d(16, 32, 5, groups=2),
    "Conv2d": lambda: nn.Conv2d(16, 32, 3),
    "Conv3d": lambda: nn.Conv3d(16, 32, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(16, 32, 3),
    "Embedding": lambda: nn.Embedding(50, 32, padding_idx=7),
    "EmbeddingBag": lambda: nn.EmbeddingBag(50, 32),
    "GRU": lambda: nn.GRU(16, 32, num_layers=2, bidirectional=True),
    "GRUCell": lambda: nn.GRUCell(16, 32),
    "GroupNorm": lambda: nn.GroupNorm(4, 32),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(32, affine=True, track_running_stats=True),
    "LSTM": lambda: nn.LSTM(16, 32, proj_size=8),
    "LayerNorm": lambda: nn.LayerNorm(32),
    "Linear": lambda: nn.Linear(64, 32),
    "MultiheadAttention": lambda: nn.MultiheadAttention(32, 4, kdim=16, vdim=24, add_bias_kv=True),
    "PReLU": lambda: nn.PReLU(8),
    "RMSNorm": lambda: nn.RMSNorm(32),
    "Transformer": lambda: nn.Transformer(32, 4, 1, 1, 64, batch_first=True),
}


def tensors(model: Any) -> dict[str, Any]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().double().flatten().numpy() for name, tensor in named.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_torch_have_the_distribution_of_their_constructors(name: str) -> None:
    assert_same_distributions(LAYERS[name], [])


@pytest.mark.parametrize("name", MODELS)
def test_models_of_transformers_have_the_distribution_of_their_ordinary_construction(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, name)
    config = model_class.config_class(**MODELS[name])
    assert_same_distributions(lambda: model_class(config), SET_BY_CONSTRUCTOR.get(name, []))


def assert_same_distributions(make: Callable[[], Any], kept: list[str]) -> None:
    """Compare the tensors of new models with those of a model that was built on the meta device and reset."""
    torch.manual_seed(0)
    first, second = tensors(make()), tensors(make())
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().fill_(torch.nan if tensor.is_floating_point() else 77)
    fk_torch.reset_module_(model, 1, keep=kept)
    found = tensors(model)
    assert found.keys() == first.keys()
    for tensor_name in first.keys() - set(kept):
        expected, values = first[tensor_name], found[tensor_name]
        if np.array_equal(expected, second[tensor_name]):  # not random
            assert np.array_equal(values, expected), tensor_name
        else:
            assert stats.ks_2samp(values, expected).pvalue > 1e-6, tensor_name
