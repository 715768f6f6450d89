"""Write and verify random checkpoints of real architectures, larger than memory, as Hugging Face safetensors files.

>>> import tempfile
>>> from fastkaiming import checkpoint
>>> recipe = {"dtype": "float32", "tensors": {"embed.weight": [100, 16], "fc.weight": [64, 16], "fc.bias": [64]}}
>>> with tempfile.TemporaryDirectory() as out_dir:
...     report = checkpoint.write(recipe, out_dir, seed=7, max_shard_size="6KB")
...     report.files
('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')

The bits of a tensor depend only on the seed and on its name, shape, rule and dtype. You can therefore write each file
on a different machine, and :func:`verify` needs only the files.
"""

from fastkaiming.checkpoint._plan import File, Plan, Tensor, plan
from fastkaiming.checkpoint._verify import Difference, StoredTensor, Verification, stored_tensors, verify
from fastkaiming.checkpoint._write import Report, write

__all__ = [
    "Difference",
    "File",
    "Plan",
    "Report",
    "StoredTensor",
    "Tensor",
    "Verification",
    "plan",
    "stored_tensors",
    "verify",
    "write",
]
