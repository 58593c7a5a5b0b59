"""Small sets of events for the tests of the store; each shard follows from its number."""

import hashlib
import json
from pathlib import Path

import numpy as np

from coulex.dataset import Shard, Target
from coulex.dataset.plan import manifest_digest

OUTPUTS = ["ocs.h5", "run"]  # a file, a folder of shards
SHARD_EVENTS, N_EVENTS = 40, 100  # three shards, the last of them short
CONFIGURATION = {"molecule": "OCS", "seed": 7, "versions": {"coulex": "0.1.0"}}
PROVENANCE = {"command": "coulex simulate OCS -n 100", "commit": "0" * 40}


def arrays(shard: Shard, dtype="float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(shard.first)
    shape = (shard.count, 3, 3)
    return {
        "masses": np.array([29148.9, 21868.7, 58281.5]),
        "numbers": np.array([8, 6, 16], np.int32),
        "charges": np.array([2.0, 2.0, 2.0]),
        "initial_positions": rng.normal(scale=3, size=shape).astype(dtype),
        "momenta": rng.normal(scale=100, size=shape).astype(dtype),
        "status": np.zeros(shard.count, np.uint8),
    }


def target(path, *, n=N_EVENTS, configuration=CONFIGURATION, provenance=PROVENANCE, **options):
    options.setdefault("shard_events", SHARD_EVENTS)
    return Target(path, configuration, provenance, n, **options)


def write(path, *, make=arrays, **options) -> Path:
    """Write a whole set, as a simulation would."""
    with target(path, **options) as out:
        for shard in out.missing():
            out.write(shard, make(shard))
        assert out.finalize()
    return Path(path)


def whole(name: str) -> np.ndarray:
    """Return what an array of the whole set must be."""
    firsts = range(0, N_EVENTS, SHARD_EVENTS)
    counts = [min(SHARD_EVENTS, N_EVENTS - first) for first in firsts]
    shards = [Shard(i, *pair) for i, pair in enumerate(zip(firsts, counts, strict=True))]
    return np.concatenate([arrays(shard)[name] for shard in shards])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def begin(path, shards=1, **options) -> None:
    """Write the first few shards of a run that then stops."""
    with target(path, **options) as out:
        for shard in out.missing()[:shards]:
            out.write(shard, arrays(shard))


def digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of the output, of each file if it is a folder."""
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: sha256(file) for file in found}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def change(path, old: bytes, new: bytes, which=0):
    """Replace one occurrence of some bytes in a file."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(which + 1):
        at = data.index(old, at + 1)
    data[at : at + len(new)] = new
    path.write_bytes(data)


def edit_manifest(folder, edit):
    """Change a manifest and make its digest right again."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    manifest["sha256"] = manifest_digest(manifest)
    path.write_text(json.dumps(manifest))
