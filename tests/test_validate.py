"""The round trip tells right geometries from wrong ones."""

import numpy as np
import pytest
from oracle import PAIR

from coulex import Molecule, frames, simulate
from coulex.inverse.solutions import NO_GEOMETRY, NO_MOMENTA, SEVERAL, SOLVED
from coulex.inverse.validate import Tally, round_trip
from coulex.units import ANGSTROM

OCS = Molecule.named("OCS").with_charges([2, 2, 2])
MASSES, CHARGES = OCS.ion_masses, OCS.charges


def drawn(n, molecule=OCS, sigma=0.1, seed=3):
    rng = np.random.default_rng(seed)
    return molecule.positions + rng.normal(scale=sigma, size=(n, len(molecule.symbols), 3))


def exploded(x, molecule=OCS):
    return simulate(x, molecule.ion_masses, molecule.charges, tolerance=1e-13).momenta


def test_the_truth_comes_back():
    x = drawn(500)
    table = round_trip(x, exploded(x), MASSES, CHARGES, truth=x)
    assert (table.events, table.solutions, table.truths) == (500, 500, 500)
    assert table.residual.largest < 2e-13  # the tolerance of both explosions
    assert table.residual.median <= table.residual.percentile_99 <= table.residual.largest
    assert table.nearest_error_angstrom.largest < 1e-14
    assert table.truth_among == 1
    assert table.not_reproduced == 0
    assert table.status == {}


def test_the_frame_matters_for_momenta_and_not_for_errors_of_positions():
    x = drawn(50)
    turned = frames.rotate(x, frames.random_rotations(1, 0, 50)) + [1.0, -2.0, 3.0]
    table = round_trip(turned, exploded(x), MASSES, CHARGES, truth=x)
    assert table.residual.median > 0.1
    assert table.nearest_error_angstrom.largest < 1e-13
    assert table.truth_among == 1


def test_a_mirror_image_of_five_ions_is_wrong():
    molecule = Molecule.named("CH4")
    molecule = molecule.with_charges([1] * 5)
    x = drawn(50, molecule)
    p, masses = exploded(x, molecule), molecule.ion_masses
    table = round_trip(x * [1, 1, -1], p, masses, molecule.charges, truth=x)
    assert table.truth_among == 0
    # a plane of three ions has no handedness: half a turn does the same
    planar = drawn(50)
    table = round_trip(planar * [1, 1, -1], exploded(planar), MASSES, CHARGES, truth=planar)
    assert table.truth_among == 1


def test_an_error_is_the_root_mean_square_over_the_ions():
    x = np.array([[[0.0, 0, 0], [2, 0, 0], [5, 0, 0]]])
    longer = x + [[0, 0, 0], [0, 0, 0], [0.3, 0, 0]]
    # about the centres the ends of the three differ by -0.1, -0.1 and 0.2
    expected = np.sqrt((0.1**2 + 0.1**2 + 0.2**2) / 3) / ANGSTROM
    table = round_trip(longer, exploded(x), MASSES, CHARGES, truth=x, limit_angstrom=0.05)
    assert table.best_error_angstrom.largest == pytest.approx(expected, rel=1e-12)
    assert table.truth_among == 0
    table = round_trip(longer, exploded(x), MASSES, CHARGES, truth=x, limit_angstrom=0.1)
    assert table.truth_among == 1


def test_of_the_degenerate_pair_the_nearest_is_the_truth():
    """The published pair: the most probable is another geometry, the second the truth."""
    one, other = np.array(PAIR)
    p = exploded(np.array([one]))
    rotation = frames.recoil_frame(exploded(np.array([other])))[0]
    back = frames.recoil_frame(p)[0].T @ rotation
    turned = other @ back.T
    table = round_trip(
        np.array([turned, one]),
        p,
        MASSES,
        CHARGES,
        events=[0, 0],
        residuals=[1e-4, 0.0],
        truth=np.array([one]),
    )
    assert table.residual.largest < 1e-4  # 3e-5 by the digits that were published
    assert table.best_error_angstrom.largest > 0.2
    assert table.nearest_error_angstrom.largest < 1e-14
    assert (table.truth_among, table.not_reproduced) == (1, 0)


def test_a_residual_that_is_not_confirmed_is_counted():
    x = drawn(20)
    p, wrong = exploded(x), x.copy()
    wrong[[3, 7], 0, 0] += 1e-3
    table = round_trip(wrong, p, MASSES, CHARGES, residuals=np.full(20, 1e-10))
    assert table.not_reproduced == 2
    assert table.residual.largest > 1e-5
    wrong[5, 0] = wrong[5, 1]  # two ions in one place do not fly apart
    assert round_trip(wrong, p, MASSES, CHARGES).not_reproduced == 1


def test_events_without_solution_count_as_missed():
    x = drawn(6)
    p = exploded(x)
    p[5] = np.nan
    table = round_trip(
        x[[0, 0, 1, 2]],
        p,
        MASSES,
        CHARGES,
        events=[0, 0, 1, 3],
        status=[SEVERAL, SOLVED, NO_GEOMETRY, SOLVED, NO_GEOMETRY, NO_MOMENTA],
        truth=x,
    )
    assert table.status == {
        "solved": 2,
        "several solutions": 1,
        "no geometry": 2,
        "no momenta": 1,
    }
    assert table.failed == 3
    assert table.truths == 5
    assert table.truth_among == 2 / 5
    rows = dict(table.rows())
    assert rows["  failed"] == "3"
    assert rows["    no geometry"] == "2"
    assert rows["truth among the solutions"] == "40.00 % of 5, within 1e-06 Å"


def test_blocks_give_the_table_of_the_whole():
    x = drawn(300)
    near = x + np.random.default_rng(1).normal(scale=1e-7, size=x.shape)
    p, own = exploded(x), np.repeat(np.arange(300), 2)
    both = np.stack([near, x], axis=1).reshape(-1, 3, 3)
    whole = round_trip(both, p, MASSES, CHARGES, events=own, truth=x)
    tally = Tally(MASSES)
    for first in range(0, 300, 70):
        block = slice(first, first + 70)
        own_block = own[2 * first : 2 * first + 140] - first
        tally.add(
            both[2 * first : 2 * first + 140],
            p[block],
            np.tile(CHARGES, (len(p[block]), 1)),
            events=own_block,
            truth=x[block],
        )
    assert tally.result() == whole
    errors = frames.kabsch(near, x)[1] / ANGSTROM
    spread = whole.best_error_angstrom
    assert spread.median == pytest.approx(np.median(errors), rel=0.03)  # gaps of 300 events
    assert spread.largest == errors.max()


def test_ions_without_force_stay_where_they_are():
    x = drawn(4)
    table = round_trip(x, np.zeros((4, 3, 3)), MASSES, [0, 0, 2])
    assert (table.residual.largest, table.not_reproduced) == (0, 0)
    assert table.residual.median == 0


def test_nothing_to_check_is_an_empty_table():
    table = round_trip(np.full((3, 3, 3), np.nan), np.ones((3, 3, 3)), MASSES, CHARGES)
    assert (table.events, table.solutions) == (3, 0)
    assert np.isnan(table.residual.largest)
    assert ("momentum residual", "-") in table.rows()
    none = round_trip(np.empty((0, 3, 3)), np.empty((0, 3, 3)), MASSES, CHARGES)
    assert none.events == 0


def test_moving_starts_are_simulated():
    x, start = drawn(10), np.random.default_rng(2).normal(size=(10, 3, 3))
    p = simulate(x, MASSES, CHARGES, initial_momenta=start, tolerance=1e-13).momenta
    table = round_trip(x, p, MASSES, CHARGES, initial_momenta=start)
    assert table.residual.largest < 2e-13


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((2, 4, 3))}, "3 ions: positions"),
        ({"events": [1, 0]}, "events must ascend"),
        ({"events": [0, 9]}, "events must ascend from 0 to 1, got 0 to 9"),
        ({"events": [0]}, "expected, got"),
        ({"limit_angstrom": 0.0}, "limit_angstrom must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    x = drawn(2)
    given = {"positions": x, "momenta": exploded(x), "masses": MASSES, "charges": CHARGES}
    with pytest.raises(ValueError, match=message):
        round_trip(**given | changes)


def test_inputs_are_not_changed_and_may_be_lists():
    x = drawn(3)
    p, copy = exploded(x), x.copy()
    asked = round_trip(x.tolist(), p.tolist(), list(MASSES), list(CHARGES), truth=x.tolist())
    assert asked == round_trip(x, p, MASSES, CHARGES, truth=x)
    assert np.array_equal(x, copy)
