"""The output of a run: what is there already, and what is still to make.

Unfinished shards lie in `ocs.h5.parts/` for a single file, in `run/` itself for a folder (in
`run.parts/` while it replaces a finished one). Locks beside the target keep a second run out:
a run alone holds `ocs.h5.lock` for itself; the jobs of an array share it, and each holds a
lock of its own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coulex.errors import CoulexError, InvalidDataError, MismatchError, OutputError

from . import store
from .files import Lock, free_bytes, is_temporary, sweep
from .layout import Identity
from .plan import PLAN, SHARD_EVENTS, Plan, Shard, is_single, parts_of, read_plan
from .publish import (
    absent_shards,
    is_finished,
    lock_path,
    publish,
    read_shard,
    remove_parts,
    reopen,
)
from .writing import write_arrays


class Target:
    """An output in the making; enter it to take its lock.

    Parameters
    ----------
    path : str or Path
        One file if it ends in .h5 or .hdf5, otherwise a folder of shards.
    configuration : dict
        All that determines the numbers, versions and seed included; JSON. A resumption must
        agree on it, and the bytes of the output depend on nothing else.
    provenance : dict
        How to make the file again: canonical command, commit. No times, hosts, paths of
        outputs, thread counts or `--resume`. A resumption keeps that of the first run.
    n_events : int
    shard_events : int
        Events in a shard.
    resume : bool
        Continue what is there; start anew if nothing is.
    overwrite : bool
        Replace what is there when the new set is complete, and not before.
    job : pair of int
        Job k of n, from 1, makes the shards whose number, counted from 1, is k modulo n.

    Examples
    --------
    >>> with Target("ocs.h5", configuration, provenance, 10**6) as target:  # doctest: +SKIP
    ...     for shard in target.missing():
    ...         target.write(shard, make(shard.first, shard.count))
    ...     target.finalize()
    """

    def __init__(
        self,
        path: str | Path,
        configuration: dict[str, Any],
        provenance: dict[str, Any],
        n_events: int,
        *,
        shard_events: int = SHARD_EVENTS,
        resume: bool = False,
        overwrite: bool = False,
        job: tuple[int, int] = (1, 1),
    ):
        self.path = Path(path)
        self.plan = Plan(n_events, shard_events, configuration, provenance)
        self.job = job
        self.work = parts_of(self.path)  #: the folder that holds the shards
        self._shards = self.plan.shards(job)
        self._array = job[1] > 1
        self._resume, self._overwrite = resume, overwrite
        self._complete = False
        self._began = self._made_folder = False  # by this process
        self._lock = Lock(lock_path(self.path))
        own = f"{self.path.name}.{job[0]}-of-{job[1]}.lock"
        self._own_lock = Lock(self.path.with_name(own))
        if resume and overwrite:
            msg = "give resume or overwrite, not both"
            raise InvalidDataError(msg)
        if overwrite and self._array:
            msg = f"{job[1]} jobs cannot agree who overwrites; delete {path} before they start"
            raise InvalidDataError(msg)

    def __enter__(self) -> "Target":
        """Take the locks and prepare the folder.

        Raises
        ------
        OutputError
            If the output exists, its folder does not or is read-only, or a run is at work.
        MismatchError
            If what is resumed was made by another configuration; every difference is listed.
        CorruptFileError
            If a finished shard is damaged.
        """
        if not self.path.parent.is_dir():
            msg = f"cannot write {self.path}: {self.path.parent} is no folder; make it first"
            raise OutputError(msg)
        try:
            self._take_locks()
            self._prepare()
        except OSError as error:
            self._leave(failed=self._began)
            if isinstance(error, CoulexError):
                raise
            msg = f"cannot write {self.path}: {error.strerror or error}"
            raise OutputError(msg) from error
        except BaseException:
            self._leave(failed=self._began)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let go; what an error has ended before its first shard leaves nothing behind."""
        self._leave(failed=kind is not None and issubclass(kind, Exception))

    def missing(self) -> list[Shard]:
        """Return the shards that this job has still to make."""
        if self._complete:
            return []
        return [shard for shard in self._shards if not (self.work / shard.file).exists()]

    def write(self, shard: Shard, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one shard, whole or not at all.

        Parameters
        ----------
        shard : Shard
            One of `missing`.
        arrays : mapping of str to array
            Of ``shard.count`` events, in atomic units, float64 or float32 as they shall be
            stored; constants such as masses (ions,) come with every shard.

        Raises
        ------
        InvalidDataError
            If a name, shape or type is wrong.
        OutputError
            If there is no room; finished shards stay.
        """
        plan = self.plan
        identity = Identity(
            shard.first, shard.count, plan.n_events, plan.configuration, plan.provenance
        )
        write_arrays(self.work / shard.file, identity, arrays)

    def check_space(self, bytes_per_event: int) -> None:
        """Raise `OutputError` if what is left to make will not fit on the disk.

        A single file of several shards needs room twice: for the shards, and for the file.
        """
        needed = sum(shard.count for shard in self.missing()) * bytes_per_event
        if (
            is_single(self.path)
            and not self._complete
            and self.plan.n_events > self.plan.shard_events
        ):
            needed += self.plan.n_events * bytes_per_event
        free = free_bytes(self.path.parent)
        if needed > free:
            msg = f"no room for {self.path}: {needed} bytes needed, {free} free; make room"
            raise OutputError(msg)

    def finalize(self) -> bool:
        """Make the output appear under its name, if all shards are there.

        Returns
        -------
        bool
            False only in a job array, while other jobs are at work or have shards to make:
            then the last one does it, or `coulex data finalize`.

        Raises
        ------
        IncompleteError
            If a shard of a run alone is missing.
        CorruptFileError
            If a shard is damaged.
        OutputError
            If there is no room.
        """
        if self._complete:
            return True
        if self._array and (absent_shards(self.work, self.plan) or not self._lock.take()):
            return False
        if not (self._array and is_finished(self.path)):  # another job may have been first
            publish(self.path, self.work, self.plan)
        self._complete = True
        return True

    def _take_locks(self) -> None:
        """Take the lock of the target and, in an array, that of the job."""
        free = self._lock.take(shared=self._array)
        if not (free and (not self._array or self._own_lock.take())):
            who = f"job {self.job[0]} of {self.job[1]}" if self._array else "a run"
            msg = f"{who} is already writing {self.path}; wait for it, or stop it"
            raise OutputError(msg)

    def _leave(self, *, failed: bool) -> None:
        """Release the locks; if it `failed`, remove a set in which nothing is finished."""
        alone = self._complete or not self._array
        try:
            # What replaces an older output stays: --resume would take the older one for it.
            if failed and not self._complete and not self.plan.replaces:
                alone = alone or self._lock.take()
                if alone and len(absent_shards(self.work, self.plan)) == len(
                    self.plan.shards()
                ):
                    self._abandon()
        finally:
            self._own_lock.release(remove=True)
            # an array shares the lock: only a job that has it for itself may remove it
            self._lock.release(remove=alone)

    def _abandon(self) -> None:
        """Remove a set without a shard, and a folder that was made for it."""
        if self.work != self.path:
            remove_parts(self.path)
        elif self.path.is_dir():
            (self.path / PLAN).unlink(missing_ok=True)
            sweep(self.path)
            if self._made_folder and not any(self.path.iterdir()):
                self.path.rmdir()

    def _prepare(self) -> None:
        """Compare what is there with what is wanted; leave `work` ready for shards."""
        if self.path.exists() and is_single(self.path) != self.path.is_file():
            msg = f"{self.path} exists and is {'no' if is_single(self.path) else 'a'} file"
            raise OutputError(msg)
        finished = is_finished(self.path)
        if self._resume and finished and self.path.is_dir():
            reopen(self.path)
            finished = is_finished(self.path)
        swapping = (self.work / PLAN).exists() and not self.path.exists()
        if not (is_single(self.path) or finished or swapping):
            self.work = self.path
        begun = (self.work / PLAN).exists()
        if finished and self._resume and self._agrees_with_finished(begun):
            self._complete = True
            remove_parts(self.path)
            return
        if finished and not self._overwrite and not (begun and self._resume):
            remedy = "--resume" if self._array else "--overwrite"
            msg = f"{self.path} exists; {remedy} it, or choose another name"
            raise OutputError(msg)
        if begun and self._overwrite:
            self._discard()
        if not begun or self._overwrite:
            self._begin(replaces=finished)
        elif not (self._resume or self._array):
            msg = f"an unfinished run lies in {self.work}; --resume it, or --overwrite it"
            raise OutputError(msg)
        self._continue()

    def _discard(self) -> None:
        """Remove an unfinished set; in a folder that is not only ours, just the shards."""
        if self.work != self.path:
            shutil.rmtree(self.work)
            return
        old = read_plan(self.work)
        (self.work / PLAN).unlink()
        sweep(self.work)
        for shard in old.shards():
            (self.work / shard.file).unlink(missing_ok=True)

    def _begin(self, *, replaces: bool) -> None:
        """Make the folder of the shards and write the plan."""
        if self.work != self.path:
            shutil.rmtree(self.work, ignore_errors=True)  # rubbish: it has no plan
        elif self.path.is_dir() and not self._overwrite:
            strangers = [p.name for p in self.path.iterdir() if not is_temporary(p)]
            if strangers and not (self.path / PLAN).exists():
                msg = f"{self.path} exists and holds {strangers[0]}; choose another name"
                raise OutputError(msg)
        self._began, self._made_folder = True, not self.work.exists()
        self.work.mkdir(exist_ok=True)
        self.plan = replace(self.plan, replaces=replaces)
        self.plan.write(self.work)

    def _continue(self) -> None:
        """Check the plan and the finished shards of this job, and clear temporary files."""
        plan = read_plan(self.work)
        differences = plan.differences(self.plan)
        if differences:
            msg = f"{self.work} was begun otherwise: " + "; ".join(differences)
            raise MismatchError(msg)
        self.plan = plan
        sweep(self.work, {shard.file for shard in self._shards})
        if not self._array:
            sweep(self.work)
            sweep(self.path.parent, {self.path.name})
        done = [shard for shard in self._shards if (self.work / shard.file).exists()]
        if done and not self._resume:
            msg = f"{len(done)} shards of this job lie in {self.work} already; --resume it"
            raise OutputError(msg)
        for shard in done:
            read_shard(self.work / shard.file, shard, plan).verify_all()

    def _agrees_with_finished(self, begun: bool) -> bool:
        """Return whether the finished output is what this run would make."""
        data = store.open(self.path)
        size = self.plan.shard_events
        if data.path.is_dir() and self.plan.n_events > size:
            size = data.parts[0].identity.count
        theirs = Plan(data.n_events, size, data.configuration, {})
        differences = theirs.differences(self.plan)
        if differences and not begun:
            msg = f"{self.path} was made otherwise: " + "; ".join(differences)
            raise MismatchError(msg)
        return not differences
