"""Files of trajectories, the bookkeeping of atoms that leave the cell, independent frames."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from coulex.errors import CorruptFileError, InvalidDataError
from generative import structures, trajectories
from generative.correlation import autocorrelation, autocorrelation_time, effective
from generative.structures import Structure
from generative.trajectories import Trajectory

CELL = np.array([[7.0, 0.0, 0.0], [2.0, 6.5, 0.0], [-1.0, 0.5, 8.0]])


def walk(seed=0, frames=60, step=0.4):
    """Return three atoms that drift through the faces of a triclinic cell, far apart."""
    rng = np.random.default_rng(seed)
    common = np.cumsum(rng.normal(0.3, step, (frames, 1, 3)), axis=0)
    apart = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]) @ CELL
    return Trajectory(
        positions=apart + common + rng.normal(0, 0.05, (frames, 3, 3)),
        cell=CELL,
        periodic=np.ones(3, bool),
        numbers=np.array([14, 14, 8]),
        energy=rng.normal(size=frames),
        interval=10.0,
        provenance={"seed": seed},
    )


def frames_of(run):
    return [
        Structure(positions=x, cell=run.cell, periodic=run.periodic, numbers=run.numbers)
        for x in run.positions
    ]


def test_what_is_written_is_read(tmp_path):
    runs = [walk(0), walk(1)]
    trajectories.write(tmp_path / "t.h5", runs)
    for run, found in zip(runs, trajectories.read(tmp_path / "t.h5"), strict=True):
        for name in ("positions", "cell", "periodic", "numbers", "energy"):
            assert_array_equal(getattr(found, name), getattr(run, name))
        assert (found.interval, found.provenance) == (run.interval, run.provenance)
    bare = [replace(walk(), energy=None, interval=None)]
    trajectories.write(tmp_path / "t.h5", bare)
    (found,) = trajectories.read(tmp_path / "t.h5")
    assert found.energy is None
    assert found.interval is None
    assert not list(tmp_path.glob(".*"))


def test_runs_of_one_file_share_atoms_cell_and_frames(tmp_path):
    run = walk()
    for other in (
        replace(run, cell=2 * CELL),
        replace(run, numbers=np.array([14, 8, 14])),
        replace(run, positions=run.positions[:9], energy=run.energy[:9]),
        replace(run, interval=1.0),
        replace(run, energy=None),
    ):
        with pytest.raises(InvalidDataError, match="must have the same"):
            trajectories.write(tmp_path / "t.h5", [run, other])
    assert not list(tmp_path.iterdir())


def test_a_file_of_wrapped_frames_is_unwrapped(tmp_path):
    run = walk()
    away = np.linalg.solve(CELL.T, run.positions.reshape(-1, 3).T).T
    wrapped = ((away % 1.0) @ CELL).reshape(run.positions.shape)
    assert np.abs(np.diff(wrapped, axis=0)).max() > 4  # atoms do leave the cell
    structures.write(tmp_path / "t.extxyz", frames_of(replace(run, positions=wrapped)))
    (found,) = trajectories.read(tmp_path / "t.extxyz")
    moved = run.positions - run.positions[0]
    assert_allclose(found.positions - found.positions[0], moved, atol=1e-8)  # ten digits
    assert_array_equal(found.numbers, run.numbers)
    assert found.energy is None


def test_only_axes_that_repeat_are_unwrapped():
    jump = np.zeros((2, 1, 3))
    jump[1] = [6.0, 0.0, 6.0]
    periodic = np.array([True, True, False])
    found = trajectories.unwrapped(jump, 7.0 * np.eye(3), periodic)
    assert_allclose(found[1, 0], [-1.0, 0.0, 6.0], atol=1e-12)
    assert_array_equal(trajectories.unwrapped(jump, np.zeros((3, 3)), ~np.ones(3, bool)), jump)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[:1], "one frame"),
        (lambda f: [f[0], replace(f[1], numbers=f[1].numbers[::-1])], "frame 1 has other at"),
        (lambda f: [f[0], replace(f[1], cell=1.01 * CELL)], "frame 1 has another cell"),
        (lambda f: [f[0], replace(f[1], positions=f[1].positions * np.nan)], "frame 1: atom"),
    ],
)
def test_what_is_no_trajectory_is_refused(tmp_path, spoil, message):
    structures.write(tmp_path / "t.extxyz", spoil(frames_of(walk())))
    with pytest.raises(InvalidDataError, match=message):
        trajectories.read(tmp_path / "t.extxyz")


def test_damaged_files_and_others(tmp_path):
    path = tmp_path / "t.h5"
    with pytest.raises(InvalidDataError, match="is no file"):
        trajectories.read(path)
    trajectories.write(path, [walk()])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match="damaged"):
        trajectories.read(path)

    def changed(change, expected, message):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(expected, match=message):
            trajectories.read(path)

    def nan(file):
        file["positions"][0, 3, 2, 1] = np.nan

    changed(lambda f: f.attrs.__setitem__("format", "x"), InvalidDataError, "no trajectory")
    changed(lambda f: f.attrs.__setitem__("format_version", 9), CorruptFileError, "newer")
    changed(lambda f: f.__delitem__("cell"), CorruptFileError, "no cell")
    changed(
        lambda f: f["positions"].attrs.__setitem__("units", "bohr"),
        *(CorruptFileError, "in 'bohr'"),
    )
    changed(nan, InvalidDataError, "frame 3, atom 2")


def test_autocorrelation_is_the_sum_over_pairs():
    rng = np.random.default_rng(3)
    x = np.cumsum(rng.normal(size=(50, 40)), axis=0)  # more columns than one block
    d = x - x.mean(axis=0)
    plain = np.array([(d[: 50 - t] * d[t:]).sum(axis=1).mean() for t in range(50)])
    assert_allclose(autocorrelation(x), plain / plain[0], atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.8, 0.95])
def test_time_of_a_first_order_process(decay):
    rng, n, columns = np.random.default_rng(5), 4000, 20
    noise, x = rng.normal(size=(n, columns)), np.zeros((n, columns))
    for t in range(1, n):
        x[t] = decay * x[t - 1] + noise[t]
    exact = 0.5 * (1 + decay) / (1 - decay)
    # Sokal's relative error is sqrt(2 (2 W + 1) / n) with the window W = 5 τ, for one column;
    # the window itself leaves out exp(-5) of τ, and the mean of a column takes 2 τ / n
    error = np.sqrt(2 * (10 * exact + 1) / (n * columns))
    assert abs(autocorrelation_time(x) / exact - 1) < 4 * error + 0.01 + 2 * exact / n


def test_what_never_changes_forgets_at_once():
    assert autocorrelation_time(np.ones((9, 2))) == 0.5
    with pytest.raises(InvalidDataError, match="2 frames"):
        autocorrelation_time(np.ones((1, 2)))


def test_images_of_the_cell_are_the_same_frame():
    run = walk(frames=300)
    jumps = np.random.default_rng(1).integers(-2, 3, run.positions.shape) @ CELL
    there = effective(replace(run, positions=run.positions + jumps))
    for name, (tau, frames) in effective(run).items():
        assert_allclose(there[name], (tau, frames), rtol=1e-9)
        assert frames == pytest.approx(300 / (2 * tau))
