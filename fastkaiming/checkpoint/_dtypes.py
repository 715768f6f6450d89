"""The dtypes of safetensors files: their names and sizes, and whether they can hold random values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastkaiming import _validation
from fastkaiming._fill import dtypes


class Dtype(NamedTuple):
    """A dtype of the safetensors format: its name, its size in bytes, its NumPy name and its sort rank."""

    name: str
    nbytes: int
    numpy: str
    sort_rank: int  # a file holds tensors of higher ranks first, so that each tensor is aligned to its element size

    @property
    def is_fillable(self) -> bool:
        """Whether tensors of this dtype get random values; integers, booleans and complex numbers are zeros."""
        return dtypes.is_fillable_dtype(self.numpy)

    def numpy_dtype(self) -> np.dtype[Any]:
        """Return the NumPy dtype, in the little-endian byte order of the format."""
        if self.numpy not in np.sctypeDict:
            try:
                import ml_dtypes  # noqa: F401 - the import registers the names of narrow floats with NumPy
            except ModuleNotFoundError as error:
                raise _validation.missing_dependency_error("checkpoint", "checkpoint", error) from error
        return np.dtype(self.numpy).newbyteorder("<")


# The order of the safetensors library, which sorts the tensors of a file by it.
_ROWS = (
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
DTYPES: Mapping[str, Dtype] = {row[0]: Dtype(*row, rank) for rank, row in enumerate(_ROWS)}
_DTYPES_BY_NUMPY_NAME: Mapping[str, Dtype] = {dtype.numpy: dtype for dtype in DTYPES.values()}


def dtype_from_name(field: str, value: Any) -> Dtype:
    """Return the dtype for a NumPy dtype, a torch dtype, or a name in NumPy, torch (bfloat16) or safetensors (BF16)."""
    text = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    name = text.removeprefix("torch.")
    dtype = _DTYPES_BY_NUMPY_NAME.get(name) or DTYPES.get(name)
    if dtype is None:
        raise ValueError(f"{field} must be one of {', '.join(_DTYPES_BY_NUMPY_NAME)}, got {value!r}")
    return dtype
