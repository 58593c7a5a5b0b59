"""Which shard holds which events, and the small files that say so.

`plan.json` lies beside unfinished shards: what is being made, by which configuration.
`manifest.json` takes its place in a folder when the last shard is there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coulex.errors import CorruptFileError, InvalidDataError

from .canonical import canonical
from .files import read_json, write_json
from .layout import FORMAT_VERSION, NEEDS

PLAN = "plan.json"
MANIFEST = "manifest.json"
SHARD_EVENTS = 2**20
_SINGLE = (".h5", ".hdf5")


@dataclass(frozen=True)
class Shard:
    """A range of events that is made and written at once."""

    number: int  #: from 0, as in the name of its file
    first: int  #: number of its first event
    count: int

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"shard-{self.number:06d}.h5"


@dataclass(frozen=True)
class Plan:
    """What a run makes; two jobs or a resumption must agree on every word of it."""

    n_events: int
    shard_events: int
    configuration: dict[str, Any]
    provenance: dict[str, Any]
    replaces: bool = False  #: a finished set of the same name goes when this one is complete

    def __post_init__(self):
        if self.n_events < 1 or self.shard_events < 1:
            msg = f"{self.n_events} events in shards of {self.shard_events}; both at least 1"
            raise InvalidDataError(msg)

    def shards(self, job: tuple[int, int] = (1, 1)) -> list[Shard]:
        """Return the shards of job k of n: those whose number, from 1, is k modulo n."""
        k, n = job
        if not 1 <= k <= n:
            msg = f"job {k} of {n}; jobs are numbered from 1 to {n}"
            raise InvalidDataError(msg)
        size, total = self.shard_events, self.n_events
        numbers = range(k - 1, -(-total // size), n)
        return [Shard(i, i * size, min(size, total - i * size)) for i in numbers]

    def write(self, folder: Path) -> None:
        """Write `plan.json`."""
        content = {key: getattr(self, key) for key in self.__dataclass_fields__}
        write_json(folder / PLAN, content | {"format_version": FORMAT_VERSION, "needs": NEEDS})

    def differences(self, other: "Plan") -> list[str]:
        """Return what differs in `other`, one line for each key; provenance may differ."""
        mine, theirs = ({**flat(p.configuration), **p.sizes()} for p in (self, other))
        keys = sorted(mine.keys() | theirs.keys())
        return [
            f"{key}: {mine.get(key, 'absent')!r} here, {theirs.get(key, 'absent')!r} now"
            for key in keys
            if canonical(mine.get(key)) != canonical(theirs.get(key))
        ]

    def sizes(self) -> dict[str, int]:
        """Return the counts that a resumption must share."""
        return {"n_events": self.n_events, "shard_events": self.shard_events}


def read_plan(folder: Path) -> Plan:
    """Read `plan.json`.

    Raises
    ------
    CorruptFileError
        If it is damaged, or written by a newer coulex.
    """
    content = read_json(folder / PLAN)
    if content.pop("format_version", 0) > FORMAT_VERSION:
        msg = f"{folder / PLAN} needs coulex >= {content.get('needs')}"
        raise CorruptFileError(msg)
    content.pop("needs", None)
    try:
        return Plan(**content)
    except TypeError as error:
        msg = f"{folder / PLAN} is not a plan ({error}); delete {folder} and start again"
        raise CorruptFileError(msg) from error


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping with keys such as "ensemble.temperature"."""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= (
            flat(inner, f"{prefix}{key}.")
            if isinstance(inner, Mapping)
            else {prefix + key: inner}
        )
    return out


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that a manifest says, its own digest apart."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def is_single(path: Path) -> bool:
    """Return whether `path` names one file; anything else is a folder of shards."""
    return path.suffix.lower() in _SINGLE


def parts_of(path: Path) -> Path:
    """Return the folder beside `path` in which unfinished work lies."""
    return path.with_name(path.name + ".parts")
