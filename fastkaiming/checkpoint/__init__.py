"""Random checkpoints of real architectures, larger than memory: safetensors files as Hugging Face lays them out.

>>> import tempfile
>>> from fastkaiming import checkpoint
>>> recipe = {"dtype": "float32", "tensors": {"embed.weight": [100, 16], "fc.weight": [64, 16], "fc.bias": [64]}}
>>> with tempfile.TemporaryDirectory() as out_dir:
...     made = checkpoint.write(recipe, out_dir, seed=7, max_shard_size="6KB")
...     made.files
('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')

A tensor's bits depend on the seed and on its name, shape, rule and dtype: any file can be made anywhere, and
:func:`verify` needs nothing but the files.
"""

from fastkaiming.checkpoint._plan import File, Plan, Tensor, plan
from fastkaiming.checkpoint._verify import Difference, Stored, Verification, stored, verify
from fastkaiming.checkpoint._write import Report, write

__all__ = [
    "Difference",
    "File",
    "Plan",
    "Report",
    "Stored",
    "Tensor",
    "Verification",
    "plan",
    "stored",
    "verify",
    "write",
]
