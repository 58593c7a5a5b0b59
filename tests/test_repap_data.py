"""Trajectories for RePAP: parts in time, order, symmetries, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from trajectories import LENGTHS, NUMBERS, PLACES, crystal

from coulex.errors import InvalidDataError
from generative import trajectories
from generative.data import NO_PART, Stream
from generative.repap import order as orders
from generative.repap.frames import Frames
from generative.repap.model import Repap, RepapOptions
from generative.repap.representation import Sequences, shortest
from generative.representation import as_batch


def arrays(run):
    return {
        "positions": run.positions,
        "cell": run.cell,
        "periodic": run.periodic,
        "numbers": run.numbers,
    }


def distances(x, lengths):
    d = x[:, :, None] - x[:, None]
    d -= np.rint(d / lengths) * lengths
    return np.sort(np.linalg.norm(d, axis=3).reshape(len(x), -1), axis=1)


def test_parts_are_blocks_of_time_with_gaps():
    walk = np.cumsum(np.random.default_rng(0).normal(size=(2000, 4, 3)), 0) * 0.02
    slow = replace(crystal(2000), positions=PLACES + walk)
    source = Frames([slow, crystal(1000)])
    for first, n, gap in ((0, 2000, source.gaps[0]), (2000, 1000, source.gaps[1])):
        part = source.part(7, first, n)
        changes = np.flatnonzero(np.diff(part.astype(int)))
        assert part[changes].tolist() == [0, NO_PART, 1, NO_PART]
        assert (part == NO_PART).sum() == 2 * gap
        assert abs((part == 0).mean() - 0.7) < 0.01
    assert source.gaps[0] > 20 > source.gaps[1]
    assert source.effective < 1100
    assert "3,000 frames of 2 runs" in source.notes[0]
    assert (
        source.gap_is_short == (source.gaps[0] < source.times[0]) == (len(source.notes) == 2)
    )
    chosen = source.for_training(1)["positions"]
    np.testing.assert_array_equal(chosen, source.frames("train"))
    stream = Stream(source, Sequences.fit(source.for_training(1)), "train", seed=1)
    assert stream.n == len(source.frames("train"))


def test_atoms_that_leap_are_told_of():
    """As they do in files whose writer did not sort them."""
    run = crystal(300)
    source = Frames([run])
    assert source.leap < 0.5
    assert len(source.notes) == 1
    rng = np.random.default_rng(0)
    run.positions[...] = rng.permuted(run.positions, axis=1)
    source = Frames([run])
    assert source.leap > 0.5
    assert "atoms in another order" in source.notes[-1]


def test_drift_of_the_whole_is_no_motion_of_atoms():
    run = crystal(300)
    drift = np.linspace(0, 9, 300)[:, None, None] * [1, 0.5, 0]
    still, moved = Frames([run]), Frames([replace(run, positions=run.positions + drift)])
    off = moved.positions - still.positions
    assert np.abs(off - off[0]).max() < 1e-12


def test_order():
    run = crystal(500)
    seen = Sequences.fit(arrays(run))
    assert seen.order == "mean-distance"
    mean = np.linalg.norm(run.positions, axis=2).mean(0)
    assert (np.diff(mean[list(seen.atoms)]) > 0).all()
    wild = PLACES + np.random.default_rng(0).normal(size=(200, 4, 3)) * 3
    liquid = Sequences.fit(arrays(replace(run, positions=wild)))
    assert (liquid.order, liquid.augment) == ("spatial", "all")
    assert liquid.numbers == (11, 11, 17, 17)
    x, c = liquid.encode(arrays(run), np.random.default_rng(0))
    assert c.shape == (500, 0)
    assert (x[:, 0, 0] <= x[:, 1, 0]).all()
    assert (x[:, 2, 0] <= x[:, 3, 0]).all()
    assert ((x >= 0) & (x < LENGTHS)).all()
    given = Sequences.fit(arrays(run), order="given")
    assert given.atoms == (0, 1, 2, 3)


@pytest.mark.parametrize("x", [-1e-9, -1e-17, LENGTHS[0] * (1 - 1e-16)])
def test_an_atom_on_a_face_of_the_box_has_a_probability(x):
    """Single precision puts it onto the face, which is where x begins."""
    run = crystal(20)
    run.positions[:, 0, 0] = x
    seen = Sequences.fit(arrays(run), order="spatial", augment="none")
    model = Repap(RepapOptions(width=8, orders=3, attention=2, cells=50), seen)
    loss = model.loss(as_batch(*seen.encode(arrays(run), np.random.default_rng(0))))["loss"]
    assert loss.isfinite()


def test_symmetries_of_the_box_keep_distances():
    assert len(orders.operations(np.array([5.0, 5, 5]))[0]) == 48
    assert len(orders.operations(np.array([5.0, 5, 6]))[0]) == 16
    assert len(orders.operations(np.array([4.0, 5, 6]))[0]) == 8
    x = np.random.default_rng(0).random((200, 4, 3)) * LENGTHS
    turned = orders.turned(x, LENGTHS, np.random.default_rng(1))
    np.testing.assert_allclose(distances(turned, LENGTHS), distances(x, LENGTHS), atol=1e-12)
    axes = [np.abs(np.abs(turned[:, 0, :1]) - x[:, 0, k, None]) < 1e-12 for k in range(3)]
    assert [float(a.mean()) for a in axes] == pytest.approx([0.5, 0.5, 0], abs=0.15)
    assert np.sign(turned[:, 0]).mean(0) == pytest.approx(0, abs=0.3)
    seen = Sequences.fit(arrays(crystal()), order="spatial", augment="all")
    frames = crystal().positions
    moved, _ = seen.encode(arrays(crystal()), np.random.default_rng(0))
    np.testing.assert_allclose(
        distances(moved, LENGTHS), distances(frames, LENGTHS), atol=1e-9
    )


def test_there_and_back():
    seen = Sequences.fit(arrays(crystal()))
    assert Sequences.of(seen.describe()) == seen
    x, _ = seen.encode(arrays(crystal()), np.random.default_rng(0))
    structures = seen.decode(x)
    assert structures[0].numbers.tolist() == NUMBERS[list(seen.atoms)].tolist()
    assert structures[0].periodic.all()
    np.testing.assert_allclose(
        distances(np.array([s.positions for s in structures]), LENGTHS),
        distances(crystal().positions, LENGTHS),
        atol=1e-9,
    )


def test_a_cluster_lies_in_a_closed_box():
    run = crystal(periodic=False)
    seen = Sequences.fit(arrays(run))
    assert not seen.periodic
    x, _ = seen.encode(arrays(run), np.random.default_rng(0))
    np.testing.assert_allclose(x + seen.low, run.positions[:, list(seen.atoms)])
    assert not seen.decode(x)[0].periodic.any()
    far = replace(run, positions=run.positions + 20.0)
    with pytest.raises(InvalidDataError, match="400 of 400 frames .* frame 0, atom"):
        seen.encode(arrays(far), np.random.default_rng(0))


def test_images_of_atoms_do_not_matter():
    """Nor where a trajectory began, nor on which side of a face a second run shows an atom."""
    run = crystal(600)
    run.positions[...] -= [1.0, 1.0, 1.0]  # the first atom on three faces
    plain = Sequences.fit(arrays(run))
    boxes = np.random.default_rng(0).integers(-3, 4, size=(4, 3))
    far = replace(run, positions=run.positions + boxes * LENGTHS)
    again = Sequences.fit(arrays(far))
    assert (again.order, again.atoms) == ("mean-distance", plain.atoms)
    halves = [run.positions[:300], run.positions[300:] % LENGTHS]
    again = Sequences.fit(arrays(replace(run, positions=np.concatenate(halves))))
    assert (again.order, again.atoms) == ("mean-distance", plain.atoms)


def test_a_periodic_cell_can_be_closed():
    run = crystal(300)
    far = replace(run, positions=run.positions + np.array([[6, 0, 0]] * 2 + [[0, 0, -16]] * 2))
    seen = Sequences.fit(arrays(far), periodic=False)
    assert (seen.low, seen.lengths) == ((0, 0, 0), tuple(LENGTHS))
    x, _ = seen.encode(arrays(far), np.random.default_rng(0))
    np.testing.assert_allclose(x, run.positions[:, list(seen.atoms)] % LENGTHS, atol=1e-9)
    assert seen.closest == pytest.approx(shortest(run.positions % LENGTHS, None))
    other = replace(run, cell=np.diag([6.0, 6.0, 9.0]))
    with pytest.raises(InvalidDataError, match="knows"):
        seen.encode(arrays(other), np.random.default_rng(0))


def test_files_of_several_runs(tmp_path):
    path = tmp_path / "salt.h5"
    trajectories.write(path, [crystal(200), crystal(200, seed=1)])
    source = Sequences.source([path, path])
    assert source.lengths == [200] * 4
    assert source.identity == Sequences.source([path, path]).identity
    assert source.identity != Sequences.source([path]).identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": np.sort(NUMBERS)}, "run 1 has other atoms, or another order"),
        ({"cell": np.diag([6.0, 6, 9])}, "run 1 has another cell"),
        ({"positions": crystal(1).positions}, "run 1 has 1 frame"),
    ],
)
def test_runs_that_are_not_alike(changes, message):
    with pytest.raises(InvalidDataError, match=message):
        Frames([crystal(), replace(crystal(), **changes)])


def test_runs_that_are_too_short():
    with pytest.raises(InvalidDataError, match="3 frames is too short"):
        Frames([crystal(3)])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"cell": np.diag(LENGTHS) + np.eye(3, k=1)}, {}, "orthorhombic"),
        ({"periodic": np.array([True, True, False])}, {}, "some axes only"),
        ({"cell": np.diag([2.0, 6, 8])}, {}, "repeat the cell"),
        ({"positions": np.ones((20, 4, 3))}, {}, "as near as 0 Å in a frame"),
        ({}, {"order": "random"}, "order must be"),
        ({}, {"augment": "twice"}, "augment must be"),
        ({}, {"ordr": "spatial"}, "no option ordr; there are augment, order, periodic"),
        ({}, {"periodic": "maybe"}, "periodic must be true or false"),
        ({}, {"order": "mean-distance", "augment": "all"}, "no mean distance"),
        ({"periodic": np.zeros(3, bool)}, {"periodic": True}, "no periodic cell"),
        ({"periodic": np.zeros(3, bool)}, {"augment": "all", "order": "given"}, "closed box"),
    ],
)
def test_what_cannot_be_represented(changes, options, message):
    with pytest.raises((ValueError, InvalidDataError), match=message):
        Sequences.fit(arrays(replace(crystal(), **changes)), **options)


def test_other_atoms_than_those_of_the_model():
    seen = Sequences.fit(arrays(crystal()))
    with pytest.raises(InvalidDataError, match="other atoms"):
        seen.encode(
            arrays(replace(crystal(), numbers=np.sort(NUMBERS))), np.random.default_rng(0)
        )


def test_another_cell_than_that_of_the_model():
    seen = Sequences.fit(arrays(crystal()))
    dense = replace(crystal(), cell=np.diag([6.0, 6.0, 7.5]))
    oblique = replace(crystal(), cell=np.diag(LENGTHS) + np.eye(3, k=-1))
    for run in (dense, oblique):
        with pytest.raises(InvalidDataError, match="knows .6.0, 6.0, 8.0. only"):
            seen.encode(arrays(run), np.random.default_rng(0))


def test_a_grid_too_coarse_for_the_atoms():
    seen = Sequences.fit(arrays(crystal()))
    assert seen.closest == pytest.approx(shortest(crystal().positions, LENGTHS))
    enough = int(np.ceil(2 * LENGTHS.max() / seen.closest))
    with pytest.raises(ValueError, match=f"use cells={enough}"):
        Repap(RepapOptions(cells=enough - 1), seen)
    Repap(RepapOptions(cells=enough), seen)
    with pytest.raises(ValueError, match="multiple of attention"):
        RepapOptions(width=6, attention=4)
