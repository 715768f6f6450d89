"""The dtypes of safetensors: their names, their sizes, and which of them are drawn."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastkaiming import _validation
from fastkaiming._fill import dtypes


class Dtype(NamedTuple):
    """A dtype of the format: its name there, its bytes, NumPy's name for it, and its place in a file."""

    name: str
    nbytes: int
    numpy: str
    rank: int  # files hold tensors of higher ranks first, so that each is aligned to its own size

    @property
    def is_fillable_dtype(self) -> bool:
        """Whether values of it are drawn: integers, booleans and complex numbers are zeros."""
        return dtypes.is_fillable_dtype(self.numpy)

    def memory(self) -> np.dtype[Any]:
        """Return the dtype as arrays have it, in the byte order of the format."""
        if self.numpy not in np.sctypeDict:
            try:
                import ml_dtypes  # noqa: F401 - it is what makes NumPy know the names of narrow floats
            except ModuleNotFoundError as error:
                raise _validation.missing("checkpoint", "checkpoint", error) from error
        return np.dtype(self.numpy).newbyteorder("<")


# In the order of the reference implementation, by which it sorts what it writes.
_ORDER = (
    ("BOOL", 1, "bool"),
    ("U8", 1, "uint8"),
    ("I8", 1, "int8"),
    ("F8_E5M2", 1, "float8_e5m2"),
    ("F8_E4M3", 1, "float8_e4m3fn"),
    ("F8_E8M0", 1, "float8_e8m0fnu"),
    ("I16", 2, "int16"),
    ("U16", 2, "uint16"),
    ("F16", 2, "float16"),
    ("BF16", 2, "bfloat16"),
    ("I32", 4, "int32"),
    ("U32", 4, "uint32"),
    ("F32", 4, "float32"),
    ("C64", 8, "complex64"),
    ("F64", 8, "float64"),
    ("I64", 8, "int64"),
    ("U64", 8, "uint64"),
)
OF_FILES: Mapping[str, Dtype] = {row[0]: Dtype(*row, rank) for rank, row in enumerate(_ORDER)}
_OF_NUMPY: Mapping[str, Dtype] = {dtype.numpy: dtype for dtype in OF_FILES.values()}


def named(field: str, value: Any) -> Dtype:
    """Return the dtype of a name of NumPy's and torch's (bfloat16) or of safetensors' (BF16), or of a NumPy dtype."""
    text = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    name = text.removeprefix("torch.")
    dtype = _OF_NUMPY.get(name) or OF_FILES.get(name)
    if dtype is None:
        raise ValueError(f"{field} must be one of {', '.join(_OF_NUMPY)}, got {value!r}")
    return dtype
