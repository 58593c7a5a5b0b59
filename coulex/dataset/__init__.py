"""Events on disk: HDF5 files and folders of shards that are whole, checked and reproducible.

`open` reads, `Target` writes, `finalize` and `verify` end and check a set; `exchange` converts
to and from CSV, npz and extxyz. The format is described in docs/file-format.md.
"""

from .fields import FIELDS
from .plan import SHARD_EVENTS, Shard
from .publish import finalize
from .store import Dataset, open, verify
from .target import Target
from .writing import predicted_bytes

__all__ = [
    "FIELDS",
    "SHARD_EVENTS",
    "Dataset",
    "Shard",
    "Target",
    "finalize",
    "open",
    "predicted_bytes",
    "verify",
]
