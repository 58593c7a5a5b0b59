"""The shards that an output lacks, made block by block from events that are given.

Blocks have a fixed size, and what is made of one follows from its events, its place and the
options alone: a resumed output has the bytes of one made at once.
"""

from collections.abc import Callable
from time import perf_counter

import numpy as np

from .dataset import Target
from .dataset.exchange import Source

_LISTED = {"solution_event", "sample_event"}  #: which event a row of a list belongs to

Arrays = dict[str, np.ndarray]
Make = Callable[[Arrays, int], Arrays]
"""Given a block and the number of its first event, returns arrays by event, and flat lists
whose events count from the first of the block."""


def fill(
    target: Target,
    source: Source,
    constants: Arrays,
    make: Make,
    *,
    block: int,
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[int, float, bool]:
    """Make and write the shards that a target still lacks.

    Parameters
    ----------
    target : Target
        Entered.
    source : Source
    constants : dict of arrays
        Such as masses; they go into every shard.
    make : callable
    block : int
        Events that are made together.
    progress : callable
        Told how many events were just made.
    stop : callable
        Asked before each block; true ends the work between two blocks.

    Returns
    -------
    events : int
        Made now; what lay there before does not count.
    seconds : float
    stopped : bool
        Whether shards are left because `stop` said so.
    """
    begin, done = perf_counter(), 0
    missing = {shard.number: shard for shard in target.missing()}
    for number, given in enumerate(source.blocks(target.plan.shard_events)):
        if not missing:
            break
        shard = missing.pop(number, None)
        if shard is None:
            continue
        made = []
        for first in range(0, shard.count, block):
            if stop():
                return done, perf_counter() - begin, True
            part = {name: array[first : first + block] for name, array in given.items()}
            arrays = make(part, shard.first + first)
            for name in arrays.keys() & _LISTED:
                arrays[name] = arrays[name] + shard.first + first
            made.append(arrays)
            done += len(part["momenta"])
            progress(len(part["momenta"]))
        joined = {name: np.concatenate([m[name] for m in made]) for name in made[0]}
        target.write(shard, {**constants, **joined})
    return done, perf_counter() - begin, False
