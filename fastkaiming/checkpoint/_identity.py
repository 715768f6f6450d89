"""The identity of a checkpoint, which all of its files record, so that files of two checkpoints are not mixed.

The identity is a digest of everything that determines the bytes of the files: the stream version, the seed, the config,
and the name, dtype, shape and rule of each tensor in each file.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fastkaiming import _core
from fastkaiming.checkpoint import _headers

# The keys of the file metadata. They are part of the file format and must not change.
SEED_KEY, STREAM_VERSION_KEY, RULES_KEY = "fastkaiming.seed", "fastkaiming.stream_version", "fastkaiming.rules"
IDENTITY_KEY, INITIALIZATION_KEY = "fastkaiming.identity", "fastkaiming.initialization"
COMPANIONS_KEY = "fastkaiming.companions"
Row = tuple[str, str, tuple[int, ...], str]  # the name, the dtype, the shape and the rule of a tensor


class Recorded(NamedTuple):
    """What a file records about the checkpoint that it belongs to."""

    seed: int
    initialization: str  # "model" or "rules"
    companions: str  # the names and the digests of the files beside the weights, as JSON
    identity: str = ""


def companions_text(companions: Mapping[str, bytes]) -> str:
    """Return the text that files record about the small files that belong to a checkpoint."""
    digests = {name: hashlib.sha256(companions[name]).hexdigest() for name in sorted(companions)}
    return json.dumps(digests, separators=(",", ":"))


def digest(recorded: Recorded, files: Iterable[Iterable[Row]]) -> str:
    """Return the identity of a checkpoint; ``files`` are the tensors of each file in the order of the file.

    The definition is part of the file format: docs/checkpoints.md. The order of the files does not matter.
    """
    lines = [str(_core.STREAM_VERSION), str(recorded.seed), recorded.initialization, recorded.companions]
    tables = (json.dumps(list(rows), separators=(",", ":")) for rows in files)
    digests = sorted(hashlib.sha256(table.encode()).hexdigest() for table in tables)
    return hashlib.sha256("\n".join([*lines, *digests]).encode()).hexdigest()


def recorded(path: Path, header: _headers.Header) -> Recorded:
    """Return what a file records, or raise ValueError if it records no valid identity."""
    version = header.metadata.get(STREAM_VERSION_KEY)
    if version is None:
        raise ValueError(f"{path}: {_headers.METADATA_KEY} must contain {STREAM_VERSION_KEY}, got none")
    if version != str(_core.STREAM_VERSION):
        raise ValueError(f"{path}: its stream version must be {_core.STREAM_VERSION}, got {version!r:.60}")
    seed = header.metadata.get(SEED_KEY, "")
    if not seed.isascii() or not seed.isdigit() or len(seed) > 20 or int(seed) >= 2**64:
        raise ValueError(
            f"{path}: {_headers.METADATA_KEY}.{SEED_KEY} must be an integer from 0 to 2**64 - 1, got {seed!r:.60}"
        )
    identity = header.metadata.get(IDENTITY_KEY)
    if identity is None:
        raise ValueError(
            f"{path}: {_headers.METADATA_KEY} must contain {IDENTITY_KEY}, got none: an earlier build of fastkaiming "
            "wrote it, so write the checkpoint again"
        )
    initialization, companions = (header.metadata.get(key, "") for key in (INITIALIZATION_KEY, COMPANIONS_KEY))
    return Recorded(int(seed), initialization, companions, identity)


def difference(found: Recorded, expected: Recorded, owner: str) -> str:
    """Return the reason why two identities differ; ``owner`` describes what has the expected one."""
    if found.seed != expected.seed:
        return f"its seed is {found.seed}, and the seed of {owner} is {expected.seed}"
    if found.companions != expected.companions:
        return f"its seed is that of {owner}, but the config differs"
    return f"its seed is that of {owner}, but the rules, names, shapes, dtypes or max_shard_size differ"
