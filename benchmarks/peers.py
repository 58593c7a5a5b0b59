"""Programs that find the asymptotic momenta of Coulomb explosions, on equal terms.

Each function prepares one program for one molecule and returns `solve`: positions
(n, ions, 3) in bohr, at rest, go in; momenta (n, ions, 3) and the seconds that the simulation
took come out: CPU time of one thread, without drawing, reading or writing. The first call
may compile. A program that is not installed raises ImportError.

heyoka and numbalsoda integrate to a finite time and know nothing of what follows. They are
given the first-order tail here: once the potential energy is a share `epsilon` of the whole,
each pair is taken to move on straight lines at the mean of its present and final velocity.
With v̄ = (v + v∞)/2, r = x_i - x_j and w = v̄_i - v̄_j,

    Δp_ij = q_i q_j (r/|r| + w/|w|) / (|r||w| + r·w),

iterated from v until it stands still. From rest its error falls as epsilon³.
"""

import math
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from numba import carray, cfunc, njit

compiled = njit(error_model="numpy")


def timed(run, clock=time.process_time):
    """Make `solve` from a function that turns positions into momenta."""

    def solve(positions):
        start = clock()
        momenta = run(positions)
        return momenta, clock() - start

    return solve


@compiled
def potential_energy(x, q):
    """Return the potential energy of ions at `x` (3, ions)."""
    energy = 0.0
    for i in range(q.size):
        for j in range(i):
            dx, dy, dz = x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j]
            energy += q[i] * q[j] / math.sqrt(dx * dx + dy * dy + dz * dz)
    return energy


@compiled
def first_order_tail(x, v, m, q, momenta):
    """Write the momenta of ions at `x`, `v` (3, ions) at infinity to `momenta` (ions, 3)."""
    final = v.copy()
    for _ in range(60):
        new = v.copy()
        for i in range(m.size):
            for j in range(i):
                rr = ww = rw = 0.0
                for c in range(3):
                    r = x[c, i] - x[c, j]
                    w = 0.5 * (v[c, i] + final[c, i] - v[c, j] - final[c, j])
                    rr += r * r
                    ww += w * w
                    rw += r * w
                rr = math.sqrt(rr)
                ww = math.sqrt(ww)
                push = q[i] * q[j] / (rr * ww + rw)
                for c in range(3):
                    r = x[c, i] - x[c, j]
                    w = 0.5 * (v[c, i] + final[c, i] - v[c, j] - final[c, j])
                    new[c, i] += push * (r / rr + w / ww) / m[i]
                    new[c, j] -= push * (r / rr + w / ww) / m[j]
        change = np.abs(new - final).max()
        final = new
        if change <= 1e-16 * np.abs(final).max():
            break
    momenta[:] = (m * final).T


@compiled
def retire(state, lanes, energy, following, positions, m, q, epsilon, momenta):
    """Finish the lanes that are far enough, fill idle ones; return next event, busy lanes.

    `state` is (2, 3, ions, lanes), positions before velocities; `lanes` holds the event of
    each lane, -1 where it idles, and `energy` that event's energy.
    """
    busy = 0
    for lane in range(lanes.size):
        x, v = state[0, :, :, lane], state[1, :, :, lane]
        if lanes[lane] >= 0 and potential_energy(x, q) > epsilon * energy[lane]:
            busy += 1
            continue
        if lanes[lane] >= 0:
            first_order_tail(x, v, m, q, momenta[lanes[lane]])
            lanes[lane] = -1
        if following < len(positions):
            x[:] = positions[following].T
            v[:] = 0.0
            energy[lane] = potential_energy(x, q)
            lanes[lane] = following
            following += 1
            busy += 1
    return following, busy


def coulex(masses, charges, precision, tolerance, threads):
    """Prepare our own `simulate`; several threads are timed by the clock on the wall."""
    from coulex import simulate

    settings = {"precision": precision, "tolerance": tolerance, "threads": threads}

    def run(positions):
        explosions = simulate(positions, masses, charges, **settings)
        if explosions.status.any():
            return np.where(explosions.status[:, None, None], np.nan, explosions.momenta)
        return explosions.momenta

    return timed(run, time.process_time if threads == 1 else time.perf_counter)


def heyoka(masses, charges, tolerance, epsilon):
    """Prepare heyoka's Taylor method: eight events side by side, a free lane refilled at once.

    Measured on AVX-512: eight lanes with `force_avx512` against the recommended four, 1.3
    times as fast; unrolled against `compact_mode`, 1.15 to 1.7 times; sixteen lanes, the
    same. Above ten ions unrolled code takes minutes to compile.
    """
    import heyoka as hy

    n, width = len(masses), 8
    x, v = (
        np.array(hy.make_vars(*(f"{s}{k}" for k in range(3 * n))), dtype=object).reshape(3, n)
        for s in "xv"
    )
    pulls = [[[] for _ in range(n)] for _ in range(3)]
    for i in range(n):
        for j in range(i):
            d = x[:, i] - x[:, j]
            inverse_cube = hy.sum([d[0] ** 2, d[1] ** 2, d[2] ** 2]) ** -1.5
            charge = charges[i] * charges[j]
            for c in range(3):
                pulls[c][i].append(float(charge / masses[i]) * (d[c] * inverse_cube))
                pulls[c][j].append(float(-charge / masses[j]) * (d[c] * inverse_cube))
    axes = [(c, i) for c in range(3) for i in range(n)]
    equations = [(x[c, i], v[c, i]) for c, i in axes]
    equations += [(v[c, i], hy.sum(pulls[c][i])) for c, i in axes]
    stepper = hy.taylor_adaptive_batch(
        equations,
        np.zeros((6 * n, width)),
        tol=tolerance,
        compact_mode=n > 10,
        fast_math=True,
        force_avx512=True,
    )

    @timed
    def solve(positions):
        momenta = np.empty_like(positions)
        state, step = stepper.state.reshape(2, 3, n, width), stepper.step
        # A lane that never gets an event must hold numbers to step on.
        state[:] = np.arange(3.0 * n).reshape(3, n, 1)
        lanes, energy = np.full(width, -1), np.empty(width)
        book = (positions, masses, charges, epsilon, momenta)
        following, busy = retire(state, lanes, energy, 0, *book)
        while busy:
            # A look at the lanes costs as much as a step of three ions; an event takes 30-50.
            for _ in range(4):
                step()
            following, busy = retire(state, lanes, energy, following, *book)
        return momenta

    return solve


def numbalsoda(masses, charges, tolerance, epsilon):
    """Prepare numbalsoda's DOP853, called from compiled code, one event after the other."""
    import numbalsoda as ns

    n = len(masses)
    # Masses near one make lengths and velocities alike, so one absolute tolerance serves both.
    mean = masses.mean()
    m, q = masses / mean, charges.astype(float)

    @cfunc(ns.lsoda_sig, error_model="numpy")
    def rates(t, u, du, parameters):  # noqa: ARG001
        x = carray(u, (2, 3, n))[0]
        dv = carray(du, (2, 3, n))[1]
        m, q = carray(parameters, (2, n))[0], carray(parameters, (2, n))[1]
        carray(du, (2, 3, n))[0] = carray(u, (2, 3, n))[1]
        dv[:] = 0.0
        for i in range(n):
            for j in range(i):
                rx, ry, rz = x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j]
                d2 = rx * rx + ry * ry + rz * rz
                push = q[i] * q[j] / (d2 * math.sqrt(d2))
                a, b = push / m[i], push / m[j]
                dv[0, i] += a * rx
                dv[1, i] += a * ry
                dv[2, i] += a * rz
                dv[0, j] -= b * rx
                dv[1, j] -= b * ry
                dv[2, j] -= b * rz

    address, dop853 = rates.address, ns.dop853

    @compiled
    def integrate(positions, m, q, parameters, tolerance, epsilon, momenta):
        for k in range(len(positions)):
            u = np.zeros((2, 3, n))
            u[0] = positions[k].T
            total = potential_energy(u[0], q)
            inertia = 0.0
            for i in range(n):
                for j in range(i):
                    d = u[0, :, i] - u[0, :, j]
                    inertia += m[i] * m[j] * (d**2).sum() / m.sum()
            # The size grows as sqrt(2 E / inertia) t, and U falls as one over the size.
            elapsed, span = 0.0, math.sqrt(inertia / (2.0 * total)) / epsilon
            potential = total
            while potential > epsilon * total:
                found, good = dop853(
                    address,
                    u.ravel(),
                    np.array([0.0, span]),
                    parameters,
                    rtol=tolerance,
                    atol=tolerance,
                )
                if not good:
                    break
                u = found[1].copy().reshape(2, 3, n)
                potential = potential_energy(u[0], q)
                elapsed += span
                span = elapsed * (1.1 * potential / (epsilon * total) - 1.0)
            if potential > epsilon * total:
                momenta[k] = math.nan
            else:
                first_order_tail(u[0], u[1], m, q, momenta[k])

    @timed
    def solve(positions):
        momenta = np.empty_like(positions)
        integrate(positions, m, q, np.concatenate((m, q)), tolerance, epsilon, momenta)
        return momenta * math.sqrt(mean)

    return solve


def scipy(masses, charges):
    """Prepare `solve_ivp` as laboratories use it: RK45 to t = 1e10, a compiled right side."""
    from scipy.integrate import solve_ivp

    n = len(masses)

    @compiled
    def rates(t, u, m, q):  # noqa: ARG001
        out = np.zeros(6 * n)
        out[: 3 * n] = u[3 * n :]
        x, a = u[: 3 * n].reshape(n, 3), out[3 * n :].reshape(n, 3)
        for i in range(n):
            for j in range(i):
                d = x[i] - x[j]
                push = q[i] * q[j] / (d @ d) ** 1.5
                a[i] += push / m[i] * d
                a[j] -= push / m[j] * d
        return out

    @timed
    def solve(positions):
        momenta = np.empty_like(positions)
        for k, x in enumerate(positions):
            start = np.concatenate((x.ravel(), np.zeros(3 * n)))
            end = solve_ivp(
                rates, (0, 1e10), start, "RK45", args=(masses, charges), rtol=1e-8, atol=1e-16
            ).y[:, -1]
            momenta[k] = masses[:, None] * end[3 * n :].reshape(n, 3)
        return momenta

    return solve


def external(masses, charges, command):
    """Prepare a program outside Python, called as ``COMMAND INPUT OUTPUT``.

    INPUT is little endian: int64 n, int64 ions, then float64 masses (ions,), charges (ions,)
    and positions (n, ions, 3) in atomic units. The program writes momenta, float64
    (n, ions, 3), to OUTPUT, and as the last line of its standard output the CPU seconds of
    the simulation alone.
    """

    def solve(positions):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "positions"), Path(folder, "momenta")
            with source.open("wb") as file:
                np.array(positions.shape[:2], "<i8").tofile(file)
                for part in (masses, charges, positions):
                    np.ascontiguousarray(part, "<f8").tofile(file)
            run = subprocess.run(
                [*shlex.split(command), source, target],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            momenta = np.fromfile(target, "<f8").reshape(positions.shape)
        return momenta, float(run.stdout.splitlines()[-1])

    return solve
