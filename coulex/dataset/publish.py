"""The end of a run: all shards checked, then the output appears under its name at once."""

import os
import shutil
from pathlib import Path

from coulex.errors import CorruptFileError, IncompleteError, InvalidDataError, OutputError

from .fields import grows
from .files import Lock, file_digest, sync_folder, temporary_name, write_json
from .layout import FORMAT_VERSION, NEEDS
from .parts import Part, read_part
from .plan import MANIFEST, PLAN, Plan, Shard, is_single, manifest_digest, parts_of, read_plan
from .store import check_manifest
from .writing import check_constant, check_same_arrays, merge


def finalize(path: str | Path) -> Path:
    """Finish an output whose shards are all there, and return its path.

    Parameters
    ----------
    path : str or Path
        The output, or the folder ``*.parts`` beside it. Nothing is done to a finished one.

    Raises
    ------
    IncompleteError
        If shards are missing; their numbers are listed.
    CorruptFileError
        If a shard is damaged.
    OutputError
        If a run is at work on it, or there is no room.
    """
    path = Path(path)
    if path.name.endswith(".parts"):
        path = path.with_name(path.name.removesuffix(".parts"))
    work = next((w for w in (parts_of(path), path) if (w / PLAN).exists()), None)
    if work is None:
        if is_finished(path):
            return path
        msg = (
            f"{path} has no {PLAN} in it or in {parts_of(path)}: there is nothing to finalize"
        )
        raise InvalidDataError(msg)
    lock = Lock(lock_path(path))
    if not lock.take():
        msg = f"a run is writing {path}; wait for it, or stop it"
        raise OutputError(msg)
    try:
        publish(path, work, read_plan(work))
    finally:
        lock.release(remove=True)
    return path


def publish(path: Path, work: Path, plan: Plan) -> None:
    """Check all shards in the folder `work` and make the output appear as `path`.

    Raises
    ------
    IncompleteError
        If shards are missing; their numbers are listed.
    CorruptFileError
        If a shard is damaged or belongs to another run.
    """
    absent = absent_shards(work, plan)
    if absent:
        ids = ", ".join(f"{shard.number:06d}" for shard in absent)
        msg = f"{path}: {len(absent)} of {len(plan.shards())} shards missing: {ids}; --resume"
        raise IncompleteError(msg)
    parts = [read_shard(work / shard.file, shard, plan) for shard in plan.shards()]
    check_same_arrays(parts)
    if is_single(path):
        if len(parts) == 1:  # it has the bytes of the whole already
            parts[0].verify_all()
            parts[0].path.rename(path)
            sync_folder(path.parent)
        else:
            merge(path, parts)
        remove_parts(path)
        return
    for name, column in parts[0].columns.items():
        if not grows(name, len(column.shape)):
            check_constant(parts, name)
    for part in parts:
        part.verify_all()
    _write_manifest(work, plan)
    if work != path:
        swap(path, work)
    (path / PLAN).unlink()


def read_shard(path: Path, shard: Shard, plan: Plan) -> Part:
    """Check the headers of a finished shard, and that it is the one that the plan wants."""
    part = read_part(path)
    got = part.identity
    wanted = (shard.first, shard.count, plan.n_events, plan.configuration)
    if part.foreign or wanted != (got.first, got.count, got.total, got.configuration):
        msg = f"{path} is not the shard of this run; delete it and --resume"
        raise CorruptFileError(msg)
    return part


def absent_shards(work: Path, plan: Plan) -> list[Shard]:
    """Return the shards that are not there yet."""
    return [shard for shard in plan.shards() if not (work / shard.file).exists()]


def is_finished(path: Path) -> bool:
    """Return whether an output, good or bad, has its final name."""
    return path.is_file() if is_single(path) else (path / MANIFEST).exists()


def lock_path(path: Path) -> Path:
    """Return the file whose lock keeps a second run out."""
    return path.with_name(path.name + ".lock")


def remove_parts(path: Path) -> None:
    """Remove the folder of shards beside a finished output, the plan first."""
    parts = parts_of(path)
    (parts / PLAN).unlink(missing_ok=True)  # without it the rest is known to be rubbish
    shutil.rmtree(parts, ignore_errors=True)


def reopen(folder: Path) -> None:
    """Turn a finished folder that has lost shards into an unfinished one, to be resumed."""
    manifest = check_manifest(folder / MANIFEST)
    plan = Plan(
        manifest["n_events"],
        manifest["shards"][0]["count"],
        manifest["configuration"],
        manifest["provenance"],
    )
    if absent_shards(folder, plan):
        plan.write(folder)
        (folder / MANIFEST).unlink()


def _write_manifest(work: Path, plan: Plan) -> None:
    shards = [
        {
            "file": shard.file,
            "first": shard.first,
            "count": shard.count,
            "sha256": file_digest(work / shard.file),
        }
        for shard in plan.shards()
    ]
    manifest = {
        "format": "coulex manifest",
        "format_version": FORMAT_VERSION,
        "needs": NEEDS,
        "n_events": plan.n_events,
        "configuration": plan.configuration,
        "provenance": plan.provenance,
        "shards": shards,
    }
    write_json(work / MANIFEST, manifest | {"sha256": manifest_digest(manifest)})


def swap(path: Path, work: Path) -> None:
    """Put a finished folder `work` in the place of `path`, which may be there already.

    Folders cannot be exchanged in one step everywhere: killed between the two renames, only
    `work` is left, complete, and `finalize` or --resume puts it in place.
    """
    if path.exists():
        old = temporary_name(path)
        os.rename(path, old)  # noqa: PTH104 (Path.rename says the same in more words)
        work.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(path)
