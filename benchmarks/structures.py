"""Neighbour lists and radial distribution functions beside vesin and ASE, in one run.

    python benchmarks/structures.py [--quick] [--json FILE]

Diamond crystals of the density of amorphous silicon, atoms shaken by 0.15 Å; and 300 frames
of 30 atoms, as RePAP scores them. Before anything is timed, all must find the same pairs.
Full lists, both directions, with indices, shifts, vectors and distances; an RDF by a peer is
its list of distances and a histogram. CPU seconds of one thread, each in turn: median, lowest
and highest of the rounds. Compilation is not in them, and said apart. Without vesin its column
is empty.
"""

import argparse
import json
import statistics
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import timing
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from generative.structures.neighbours import nearest, pairs
from generative.structures.rdf import rdf

PAIRS_OF_ASE = 500_000  #: it would take minutes of more
EDGE = 65.496 / 12  #: Å, of a cube of 8 atoms


def shaken(cells, slant=0.0):
    """Return a crystal of 8 cells³ atoms, its cell slanted on demand."""
    atoms = bulk("Si", cubic=True, a=EDGE).repeat(cells)
    if slant:
        atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [slant, 1, 0], [slant, slant, 1]], True)
    atoms.positions += np.random.default_rng(0).normal(0, 0.15, atoms.positions.shape)
    return atoms


def lists(atoms, cutoff):
    """Return what makes the neighbour list, by program; all lists are the same."""
    x, cell, periodic = atoms.positions, atoms.cell.array, atoms.pbc
    calls = {"coulex": lambda: pairs(x, cell, periodic, cutoff)}
    ours = calls["coulex"]()
    found = {"coulex": (ours.i, ours.j, ours.shift)}
    if len(ours.i) < PAIRS_OF_ASE:
        calls["ASE"] = lambda: neighbor_list("ijSDd", atoms, cutoff)
        found["ASE"] = calls["ASE"]()[:3]
    if find_spec("vesin"):
        from vesin import NeighborList

        peer = NeighborList(cutoff=cutoff, full_list=True)
        calls["vesin"] = lambda: peer.compute(x, cell, True, quantities="ijSDd")
        found["vesin"] = calls["vesin"]()[:3]
    rows = {name: ordered(*one) for name, one in found.items()}
    for name, one in rows.items():
        assert np.array_equal(one, rows["coulex"]), f"{name} finds other pairs"
    return calls, len(ours.i)


def ordered(i, j, shift):
    """Return pairs as rows (i, j, shift), sorted."""
    table = np.column_stack([i, j, shift]).astype(int)
    return table[np.lexsort(table.T[::-1])]


def distributions(frames, cell, r_max, width):
    """Return what makes the RDF of frames, by program; all are the same."""
    bins = int(r_max / width + 1e-9)
    n, count = frames.shape[1], len(frames)
    edges = width * np.arange(bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    per_pair = abs(np.linalg.det(cell)) / (count * n * (n - 1)) / shells

    def by(distances):
        def call():
            total = np.zeros(bins)
            for x in frames:
                total += np.histogram(distances(x), bins, (0, edges[-1]))[0]
            return total * per_pair

        return call

    calls = {
        "coulex": lambda: rdf(frames, r_max, width, cell=cell)[1],
        "ASE": by(
            lambda x: neighbor_list("d", Atoms("Si" * n, x, cell=cell, pbc=True), r_max)
        ),
    }
    if find_spec("vesin"):
        from vesin import NeighborList

        peer = NeighborList(cutoff=r_max, full_list=True)
        calls["vesin"] = by(lambda x: peer.compute(x, cell, True, quantities="d")[0])
    ours = calls["coulex"]()
    for name, call in calls.items():
        assert np.allclose(call(), ours, rtol=1e-9, atol=1e-9), f"{name} has another RDF"
    return calls


def timed(calls, rounds, seconds):
    """Return the median and extremes in ms by program, and ratios to coulex."""
    clock = timing.Clock(torch.device("cpu"))
    found = timing.in_turn(calls, clock, rounds=rounds, seconds=seconds)
    row = {}
    for name, each in found.items():
        row[name] = {
            "median_ms": 1e3 * statistics.median(each),
            "low_ms": 1e3 * min(each),
            "high_ms": 1e3 * max(each),
        }
    return row


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small systems, a few seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers")
    arguments = parser.parse_args()
    large, frames = (3, 20) if arguments.quick else (12, 300)
    rounds, seconds = (2, 0.01) if arguments.quick else (3, 0.1)

    begin = time.perf_counter()
    small = shaken(1)
    pairs(small.positions, small.cell.array, small.pbc, 5.0)
    rdf(small.positions[None], 5.0, 0.1, cell=small.cell.array)
    said = {k: v for k, v in timing.machine(torch.device("cpu")).items() if k != "zuko"}
    packages = {name: version(name) for name in ("numba", "ase", "vesin") if find_spec(name)}
    print(", ".join(f"{k} {v}" for k, v in {**said, **packages}.items()))
    print(
        f"compiled or read from the cache in {time.perf_counter() - begin:.1f} s; one thread"
    )

    rows = {}
    for label, atoms, cutoff in (
        (f"{8 * large**3} atoms, 5 Å", shaken(large), 5.0),
        (f"{8 * large**3} atoms, 3 Å", shaken(large), 3.0),
        (f"{8 * large**3} atoms, 8 Å", shaken(large), 8.0),
        ("512 atoms, 5 Å", shaken(4), 5.0),
        ("512 atoms, triclinic, 5 Å", shaken(4, 0.4), 5.0),
        ("8 atoms, 12 Å", shaken(1), 12.0),
    ):
        calls, count = lists(atoms, cutoff)
        rows[f"{label}, {count:,} pairs"] = timed(calls, rounds, seconds)
    atoms = shaken(large)
    x, cell = atoms.positions, atoms.cell.array
    rows[f"8 nearest of {len(x)} atoms"] = timed(
        {"coulex": lambda: nearest(x, cell, [True] * 3, 8)}, rounds, seconds
    )
    calls = distributions(x[None], cell, min(10.0, cell[0, 0] / 2), 0.05)
    rows[f"RDF of {len(x)} atoms"] = timed(calls, rounds, seconds)
    box = 8.4854 * np.eye(3)
    many = np.random.default_rng(1).uniform(0, 8.4854, (frames, 30, 3))
    calls = distributions(many, box, 4.2427, 0.05)
    rows[f"RDF of {frames} frames of 30"] = timed(calls, rounds, seconds)

    def shown(name):
        def cell(row):
            one = row.get(name)
            if one is None:
                return ""
            return f"{one['median_ms']:.3g} ({one['low_ms']:.3g}-{one['high_ms']:.3g})"

        return cell

    def ratio(row):
        if "vesin" not in row:
            return ""
        return f"{row['vesin']['median_ms'] / row['coulex']['median_ms']:.2f}"

    columns = {f"{name}, ms": shown(name) for name in ("coulex", "vesin", "ASE")}
    timing.table("CPU time of one call", rows, {**columns, "vesin / coulex": ratio})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
