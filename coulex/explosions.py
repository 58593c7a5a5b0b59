"""From geometries to asymptotic momenta: the checked driver of the compiled kernels."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from time import perf_counter

import numpy as np

from .accuracy import Accuracy, accuracy
from .kernels import engine, events, simd
from .kernels.layout import Along, layout

#: what a status means, and what to do about it, by code
STATUS = {
    events.GOOD: ("good", ""),
    events.COINCIDENT: ("coincident ions", "move the ions apart"),
    events.STEP_LIMIT: ("step limit", "raise max_steps, or loosen the tolerance"),
    events.BOUND: ("bound pair", "a pair that stays bound has no asymptotic momenta"),
    events.INACCURATE: ("tolerance missed", "loosen the tolerance, or use float64"),
    events.OUT_OF_RANGE: ("out of range", "use float64, or lengths nearer to one bohr"),
}

_BLOCK = 1 << 13  #: events at most that a thread takes at a time
_LEAST_BLOCK = 64  #: and at least: while the last ones of a block explode, lanes stand empty
#: directions at a time; kernels are compiled for these numbers alone, and filled up. With more
#: than the last, the forces of all stages outgrow the cache.
_DIRECTIONS = (2, 3, 5, 8, 13)
_CARE = 30.0  #: events that miss the tolerance are tried once more, so much more finely


@dataclass(frozen=True)
class Explosions:
    """What a detector that misses nothing would see of an ensemble of explosions."""

    momenta: np.ndarray  #: (n, ions, 3), asymptotic; not a number where there are none
    status: np.ndarray  #: (n,) uint8, 0 = good; `STATUS` has the meaning
    energy_error: np.ndarray  #: (n,), relative, of the kinetic-energy release
    error_estimate: np.ndarray  #: (n,), relative, of the whole vector of momenta

    @classmethod
    def empty(cls, count: int, ions: int, dtype) -> "Explosions":
        """Return room for so many explosions, with nothing in it yet."""
        errors = np.empty((2, count), dtype)
        momenta = np.empty((count, ions, 3), dtype)
        return cls(momenta, np.empty(count, np.uint8), *errors)

    def put(self, chosen, other: "Explosions") -> None:
        """Replace the events at the indices `chosen` by others."""
        for field in fields(self):
            getattr(self, field.name)[chosen] = getattr(other, field.name)

    def failures(self) -> str:
        """Say in one line how many events are not good, which is the first, and what to do."""
        bad = np.flatnonzero(self.status)
        if not bad.size:
            return ""
        name, advice = STATUS[int(self.status[bad[0]])]
        return (
            f"{bad.size} of {len(self.status)} events failed; first {bad[0]}: {name}; {advice}"
        )


def available_threads() -> int:
    """Return how many processors this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


def simulate(
    positions,
    masses,
    charges,
    *,
    initial_momenta=None,
    tolerance=None,
    precision="float64",
    threads=None,
    max_steps=10_000,
    allow_attraction=False,
    portable=False,
) -> Explosions:
    """Let point charges fly apart under their mutual Coulomb force, to infinity.

    Parameters
    ----------
    positions : (n, ions, 3) array
        Geometries at the moment of ionization, in bohr.
    masses : (ions,) array
        Of the ions, in electron masses.
    charges : (ions,) or (n, ions) array
        In elementary charges; integer or real. Ions without charge fly on undisturbed.
    initial_momenta : (n, ions, 3) array, optional
        In atomic units; at rest when omitted.
    tolerance : float, optional
        Bound on the relative error of the whole vector of momenta of every good event: 1e-9
        unless given (down to 1e-13), and 3e-4 in float32 (down to 1e-5).
    precision : {"float64", "float32"}
        float32 is the mode for producing large data sets.
    threads : int, optional
        As many as the process may use, unless given. The result does not depend on it.
    max_steps : int
        Steps after which an event is given up.
    allow_attraction : bool
        Accept charges of both signs; pairs that stay bound get a status.
    portable : bool
        Give the same bits on every processor, at a lower speed.

    Returns
    -------
    Explosions

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, a mass is not positive, charges of both
        signs come without `allow_attraction`, or an option is out of range.

    Notes
    -----
    Steps are those of Runge-Kutta-Nystroem pairs, controlled for each event by itself; once
    most of the energy is kinetic, one collocation step in compactified time covers all the
    rest. The error that is reported adds up the estimates of all steps and of the last one; an
    event that misses the tolerance by it is tried once more, with finer steps. Energy is not
    built in, so that `energy_error` is an independent check.

    References
    ----------
    J. R. Dormand, M. E. A. El-Mikkawy, P. J. Prince, IMA J. Numer. Anal. 7 (1987) 235 and 423,
    doi:10.1093/imanum/7.2.235 and doi:10.1093/imanum/7.4.423.
    """
    x, p, m, q = checked(positions, initial_momenta, masses, charges, allow_attraction)
    options = {"tolerance": tolerance, "precision": precision, "threads": threads}
    run = runner(m, max_steps=max_steps, portable=portable, **options)
    return run(x, p, q)[0]


def runner(
    masses,
    *,
    tolerance=None,
    precision="float64",
    threads=None,
    max_steps=10_000,
    portable=False,
) -> "Run":
    """Return what follows ions of checked `masses`, with the options of `simulate`."""
    if int(max_steps) != max_steps or not 1 <= max_steps < 1 << 24:
        msg = f"max_steps must be a whole number from 1 to 2**24 - 1, got {max_steps}"
        raise ValueError(msg)
    method = accuracy(precision, tolerance)
    # A step of few ions is a chain of dependent operations: two registers fill its gaps. More
    # ions leave fewer, and the scratch of twice the lanes has to stay near the processor.
    few = len(masses) <= (7 if precision == "float64" else 3)
    wide, one = (
        simd.lanes(precision, registers=registers, portable=portable)
        for registers in (2 if few else 1, 1)
    )
    return Run(wide, one, method, masses, int(max_steps), _threads(threads))


def prepare(ions, *, tolerance=None, precision="float64", portable=False) -> float:
    """Compile the kernels for so many ions, or load them from the disk; return the seconds.

    `simulate` does this by itself on its first call; call it before to show it, or to time it.
    """
    begin = perf_counter()
    options = {"tolerance": tolerance, "precision": precision, "portable": portable}
    at_rest = np.arange(3.0 * ions).reshape(1, ions, 3)
    simulate(at_rest, np.ones(ions), np.ones(ions), threads=1, **options)
    return perf_counter() - begin


@dataclass(frozen=True)
class Run:
    """The kernels at work on events that are checked, in blocks, on several threads."""

    lanes: simd.Lanes
    lanes_along: (
        simd.Lanes
    )  #: with directions, which fill the gaps and the cache by themselves
    method: Accuracy
    masses: np.ndarray
    max_steps: int
    threads: int

    def __call__(self, x, p, q, directions=None) -> tuple[Explosions, np.ndarray]:
        """Follow all events, those that miss the tolerance twice.

        Returns them, and the changes of the momenta (n, directions, ions, 3) along directions
        (n, directions, 7 ions): of all positions, then of all momenta, then of the charges.
        """
        if directions is None:
            directions = np.empty((len(x), 0, 7 * x.shape[1]))
        along = directions.shape[1]
        parts = -(-along // _DIRECTIONS[-1])
        size = next((n for n in _DIRECTIONS if n * parts >= along), 0)
        if along and along != size:
            padded = np.zeros((len(x), parts * size, directions.shape[2]))
            padded[:, :along] = directions
            done = [self(x, p, q, part) for part in np.split(padded, parts, axis=1)]
            return done[0][0], np.concatenate([c for _, c in done], axis=1)[:, :along]
        given = (x, p, q, _array(directions, "directions"))
        result, changes = self.explode(*given)
        again = np.flatnonzero(result.status == events.INACCURATE)
        if again.size:
            chosen = (_array(a[again] if len(a) == len(x) else a, "") for a in given)
            finer, changes[again] = self.explode(*chosen, care=_CARE)
            result.put(again, finer)
        return result, changes

    def explode(self, x, p, q, directions, *, care=1.0):
        """Follow all events once; `care` divides the tolerances of step and tail."""
        count, columns = directions.shape[:2]
        recharges = directions[:, :, 6 * x.shape[1] :].any()
        along = Along((0,) * columns, (0,) * int(recharges))
        result = Explosions.empty(count, x.shape[1], self.lanes.dtype)
        changes = np.empty((count, columns, *x.shape[1:]), self.lanes.dtype)
        out = (
            result.momenta,
            result.status,
            result.energy_error,
            result.error_estimate,
            changes,
        )

        def start():
            explode = self._kernel(own_charges=len(q) > 1, along=along, care=care)

            def work(first, last):
                # Here, not at once for all: the first to touch memory waits for the system.
                for array in out:
                    array[first:last] = 0 if array is result.status else np.nan
                explode(x, p, self.masses, q, directions, first, last, out)

            return work

        in_blocks(count, self.threads, _BLOCK, start)
        return result, changes

    def _kernel(self, *, own_charges, along, care):
        """Return the kernel with the constants and the scratch tables of one thread."""
        lanes, ions = self.lanes_along if along.columns else self.lanes, len(self.masses)
        pair, ladder = self.method.pair(), self.method.ladder()
        vectors = max(len(pair.stages), 2 * len(ladder.most))
        at = layout(ions, vectors, own_charges=own_charges, along=along)
        rows, spare = (simd.Rows((at.total, lanes.width), lanes.dtype) for _ in range(2))
        ready, leaving = (simd.Rows((at.kept, 4 * lanes.width), lanes.dtype) for _ in range(2))
        settings = self.method.settings(self.max_steps, lanes.width, care)
        constants = (
            lanes,
            (0,) * ions,
            along,
            rows,
            spare,
            ready,
            leaving,
            at,
            settings,
            pair,
            ladder,
        )

        def explode(*arrays):
            with np.errstate(all="ignore"):  # lanes that wait hold anything; seen uncompiled
                engine.explode(*constants, *arrays)

        return explode


def in_blocks(count, threads, most, start):
    """Call ``start()`` in each thread, and what it returns with (first, last) of blocks.

    A block has `most` events at most.
    """
    spans = _spans(count, threads, most)
    waiting = iter(spans)  # each item goes to one thread: CPython has a lock

    def follow():
        work = start()
        for first, last in waiting:
            work(first, last)

    helpers = min(threads, len(spans)) - 1
    if helpers < 1:
        follow()
        return
    with ThreadPoolExecutor(helpers) as pool:
        others = [pool.submit(follow) for _ in range(helpers)]
        follow()
    for other in others:
        other.result()


def _spans(count, threads, most):
    """Return (first, last) of the blocks of events that threads take one after another.

    The blocks get smaller, so that no thread waits long for the last one; slowly, since lanes
    stand empty at the end of each.
    """
    spans, first = [], 0
    least = max(_LEAST_BLOCK, count // (64 * threads))
    while first < count:
        share = -(-4 * (count - first) // (5 * threads)) if threads > 1 else count
        last = min(first + min(max(share, least), most), count)
        spans.append((first, last))
        first = last
    return spans


def _threads(threads):
    if threads is None:
        return available_threads()
    if int(threads) != threads or threads < 1:
        msg = f"threads must be a positive whole number, got {threads}"
        raise ValueError(msg)
    return int(threads)


def _array(value, name):
    """Return a C-ordered float64 array that the kernels can read, without writing to it."""
    try:
        array = np.require(value, np.float64, ["C", "A"]).view()
    except (TypeError, ValueError) as error:
        msg = f"{name} must be numbers in a regular array: {error}"
        raise ValueError(msg) from None
    array.flags.writeable = False  # one compiled version serves all
    return array


def checked(positions, initial_momenta, masses, charges, allow_attraction=False):
    """Return positions, initial momenta, masses and charges as kernels take them."""
    x, m, q = (
        _array(positions, "positions"),
        _array(masses, "masses"),
        _array(charges, "charges"),
    )
    if x.ndim != 3 or x.shape[2] != 3:
        msg = f"positions must have shape (n, ions, 3), got {x.shape}"
        raise ValueError(msg)
    count, ions, _ = x.shape
    if ions < 2:
        msg = f"an explosion needs two ions at least, got {ions}"
        raise ValueError(msg)
    if m.shape != (ions,):
        msg = f"{ions} ions, but masses {m.shape}"
        raise ValueError(msg)
    if q.shape not in ((ions,), (count, ions)):
        msg = f"{count} events of {ions} ions, but charges {q.shape}"
        raise ValueError(msg)
    p = np.zeros((0, ions, 3)) if initial_momenta is None else initial_momenta
    p = _array(p, "initial_momenta")
    if initial_momenta is not None and p.shape != x.shape:
        msg = f"initial_momenta {p.shape} and positions {x.shape} must have the same shape"
        raise ValueError(msg)
    for name, array in (("position", x), ("initial momentum", p)):
        with np.errstate(over="ignore", invalid="ignore"):
            total = (
                array.sum()
            )  # which is finite only if all are, and needs no array of truths
        if not np.isfinite(total) and not np.isfinite(array).all():
            event, ion = np.argwhere(~np.isfinite(array))[0, :2]
            msg = f"the {name} of ion {ion} in event {event} is not finite"
            raise ValueError(msg)
    if not (np.isfinite(m).all() and (m > 0).all()):
        msg = f"masses must be positive, got {m}"
        raise ValueError(msg)
    if not np.isfinite(q).all():
        msg = "charges must be finite"
        raise ValueError(msg)
    q = q.reshape(-1, ions)
    if not allow_attraction and ((q > 0).any(axis=1) & (q < 0).any(axis=1)).any():
        msg = "charges of both signs attract each other; allow_attraction=True accepts that"
        raise ValueError(msg)
    return x, p, m, q
