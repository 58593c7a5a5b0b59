import re
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from coulex import events as events_module
from coulex import plot
from coulex.errors import InvalidDataError
from coulex.events import Cuts, Events, blocks, ion_names
from coulex.observables import (
    collinear_shares,
    dalitz_coordinates,
    kinetic_energies,
    newton_coordinates,
)
from coulex.summary import summarise
from coulex.units import EV, U

MASSES = np.array([15.995, 12.0, 31.972]) * U


@pytest.fixture
def momenta():
    """Two thousand events of three ions whose momenta add up to zero."""
    p = np.random.default_rng(7).normal(scale=100.0, size=(2000, 3, 3))
    return p - p.mean(axis=1, keepdims=True)


def events_of(momenta, **changes):
    given = {"momenta": momenta, "masses": MASSES, "ions": ("O", "C", "S"), "name": "OCS"}
    return Events(**given | changes)


def image(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def drawings():
    return [plot.ker, plot.newton, plot.dalitz]


def said(figure):
    return " ".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_newton_coordinates_of_a_right_angle():
    momenta = [[[0, 0, 2], [0, 3, -1], [0, -3, -1]]]
    assert newton_coordinates(momenta) == pytest.approx(
        np.array([[[-0.5, 1.5], [-0.5, -1.5]]]), abs=1e-15
    )


def test_newton_coordinates_do_not_turn_with_the_event(momenta):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    difference = newton_coordinates(momenta @ turn) - newton_coordinates(momenta)
    # rounding, grown by the division by a reference momentum that may be 100 times smaller
    assert np.abs(difference).max() < 1e-11


def test_in_the_common_plane_the_three_close_the_triangle(momenta):
    points = newton_coordinates(momenta)
    assert np.abs(points.sum(axis=1) + [1, 0]).max() < 1e-11


def test_equal_masses_are_confined_to_a_circle_of_one_third():
    radius = np.linalg.norm(dalitz_coordinates(collinear_shares(np.ones(3))), axis=-1)
    assert np.abs(radius - 1 / 3).max() < 1e-14


@pytest.mark.parametrize("masses", [[1, 1, 1], [16, 12, 32], [1, 1, 20]])
def test_no_event_with_zero_total_momentum_leaves_the_limit(momenta, masses):
    limit = dalitz_coordinates(collinear_shares(masses, 20001))
    energies = kinetic_energies(momenta, masses)
    points = dalitz_coordinates(energies / energies.sum(axis=1, keepdims=True))
    within = limit.mean(axis=0)
    form, left, *_ = np.linalg.lstsq(conic(limit - within), np.ones(len(limit)), rcond=None)
    assert left < 1e-18  # the limit is an ellipse, so that "inside" is one number below one
    inside = conic(points - within) @ form
    assert inside.max() < 1 + 1e-9
    assert inside.max() > 0.9  # some come close, or this shows nothing


def conic(points):
    x, y = points.T
    return np.stack([x * x, x * y, y * y, x, y], axis=1)


@pytest.mark.parametrize("draw", drawings())
def test_blocks_do_not_show(draw, momenta, monkeypatch):
    whole = image(draw(events_of(momenta)))
    monkeypatch.setattr(events_module, "BLOCK", 77)
    assert np.array_equal(image(draw(events_of(momenta))), whole)


class Huge:
    """Momenta of more events than fit into memory, made when they are sliced."""

    shape = (3 * events_module.BLOCK + 5, 3, 3)

    def __init__(self):
        self.longest = 0

    def __getitem__(self, rows):
        first, last, _ = rows.indices(self.shape[0])
        self.longest = max(self.longest, last - first)
        p = np.random.default_rng(first).normal(size=(last - first, 3, 3))
        return p - p.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("draw", drawings())
def test_momenta_are_read_in_blocks(draw):
    momenta = Huge()
    assert f"{Huge.shape[0]:,} events" in said(draw(events_of(momenta)))
    assert momenta.longest <= events_module.BLOCK


@pytest.mark.parametrize("draw", drawings())
def test_what_is_left_out_is_said(draw, momenta):
    momenta[3, 1, 2] = np.nan
    momenta[4, 0, 0] = np.inf
    momenta[9] = 0.0
    status = np.zeros(len(momenta), np.uint8)
    status[[3, 20, 21]] = 2
    text = said(draw(events_of(momenta, status=status)))
    assert "2,000 events" in text
    assert "3 with bad status" in text
    if draw is plot.ker:  # an event at rest has a KER, but neither shares nor a direction
        assert "1 not finite" in text
        assert "at rest" not in text
    else:
        assert "1 not finite, 1 at rest" in text


def test_events_without_force_have_a_ker_of_zero(momenta):
    events = events_of(np.zeros((5, 3, 3)))
    summary = summarise(events, {})
    assert (summary.good, summary.not_finite) == (5, 0)
    assert summary.ker_ev_mean == summary.ker_ev_median == summary.ker_ev_sd == 0
    assert np.isnan(summary.energy_share).all()
    assert "5 events" in said(plot.ker(events))
    for draw in (plot.newton, plot.dalitz):
        with pytest.raises(InvalidDataError, match="of 5 events; 5 at rest"):
            draw(events)


def test_the_median_counts_events_at_rest(momenta):
    momenta[:900] = 0
    ker_ev = kinetic_energies(momenta, MASSES).sum(axis=1) / EV
    # bins of ln(largest/smallest)/65536, and the gap to the next of 2000 events
    median = summarise(events_of(momenta), {}).ker_ev_median
    assert median == pytest.approx(np.median(ker_ev), rel=0.01)
    momenta[:1100] = 0
    assert summarise(events_of(momenta), {}).ker_ev_median == 0


@pytest.mark.parametrize("draw", drawings())
@pytest.mark.parametrize("n", [0, 5])
def test_nothing_left_is_an_error_and_no_figure(draw, n):
    with pytest.raises(InvalidDataError, match=f"OCS: nothing is left to draw of {n} events"):
        draw(events_of(np.full((n, 3, 3), np.nan)))


@pytest.mark.parametrize("draw", drawings())
def test_lists_of_numbers_of_any_kind(draw, momenta):
    rounded = momenta.astype(np.float32)
    expected = image(draw(events_of(rounded.astype(float))))
    fortran, frozen = np.asfortranarray(rounded), rounded.copy()
    frozen.flags.writeable = False
    strided = np.repeat(rounded, 2, axis=0)[::2]
    for same in (rounded, fortran, frozen, strided):
        assert np.array_equal(image(draw(events_of(same))), expected)


@pytest.mark.parametrize("draw", drawings())
def test_no_state_is_touched(draw, momenta):
    # not by rcParams[...]: to look "backend" up imports pyplot
    before, copy = dict(dict.items(matplotlib.rcParams)), momenta.copy()
    image(draw(events_of(momenta)))
    assert dict(dict.items(matplotlib.rcParams)) == before
    assert np.array_equal(momenta, copy)
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("draw", [plot.newton, plot.dalitz])
def test_two_ions_have_no_plane(draw):
    pair = Events(momenta=np.ones((4, 2, 3)), masses=np.ones(2), ions=("H", "F"), name="HF")
    with pytest.raises(InvalidDataError, match="needs three ions, the file has 2"):
        draw(pair)


def test_newton_of_four_ions_takes_a_choice(momenta):
    four = np.concatenate([momenta, momenta[:, :1]], axis=1)
    events = Events(momenta=four, masses=np.ones(4), ions=tuple("ABCD"), name="X")
    with pytest.raises(InvalidDataError, match="choose three with --ions 1,2,3"):
        plot.newton(events)
    chosen = plot.newton(events, ions=(0, 1, 2))
    assert np.array_equal(
        image(chosen),
        image(
            plot.newton(
                Events(momenta=momenta, masses=np.ones(3), ions=tuple("ABC"), name="X")
            )
        ),
    )
    with pytest.raises(InvalidDataError, match="three different ions from 1 to 4"):
        plot.newton(events, ions=(0, 0, 7))
    with pytest.raises(InvalidDataError, match="needs three ions, the file has 4"):
        plot.dalitz(events)


def test_overlaid_files_are_named(momenta):
    figure = plot.ker(events_of(momenta), events_of(momenta / 2, name="slow"))
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["OCS: 2,000 events", "slow: 2,000 events"]


def test_ker_counts_every_event(momenta):
    figure = plot.ker(events_of(momenta))
    stairs = figure.axes[0].patches[0].get_data()
    width = np.diff(stairs.edges)
    found = re.search(r"(\d+) outside", said(figure))
    outside = int(found[1]) if found else 0
    assert (stairs.values * width).sum() == pytest.approx(1 - outside / 2000)


def test_shapes_are_checked():
    with pytest.raises(InvalidDataError, match=r"momenta must have shape \(n, ions, 3\), got"):
        events_of(np.zeros((3, 3)))
    with pytest.raises(InvalidDataError, match="4 ions, but masses"):
        events_of(np.zeros((2, 4, 3)))


def test_ion_names():
    assert ion_names(["O", "C", "S"], np.array([2.0, 1.0, 12.0])) == ("O²⁺", "C⁺", "S¹²⁺")
    assert ion_names(["C", "H", "H"], np.array([0.0, -1.0, 1.5])) == ("C", "H₁⁻", "H₂ 1.5+")


def test_summary_is_what_numpy_says_of_the_good_events(momenta):
    momenta[5] = np.nan
    status = np.zeros(len(momenta), np.uint8)
    status[[5, 6]] = 3
    error = np.full(len(momenta), 1e-12)
    error[[6, 7]] = 1.0, -1e-11
    summary = summarise(events_of(momenta, status=status), {"energy_error": error})
    good = momenta[status == 0]
    energies = kinetic_energies(good, MASSES) / EV
    ker = energies.sum(axis=1)
    assert (summary.events, summary.good, summary.status_counts) == (
        2000,
        1998,
        {0: 1998, 3: 2},
    )
    assert summary.ker_ev_mean == pytest.approx(ker.mean(), rel=1e-12)
    assert summary.ker_ev_sd == pytest.approx(ker.std(ddof=1), rel=1e-12)
    assert summary.ker_ev_median == pytest.approx(np.median(ker), rel=1e-3)  # a gap of events
    assert summary.energy_share == pytest.approx(energies.sum(axis=0) / ker.sum(), rel=1e-12)
    assert summary.momentum == pytest.approx(np.linalg.norm(good, axis=2).mean(axis=0))
    assert summary.largest_energy_error == 1e-11
    assert np.isnan(summary.largest_error_estimate)


def test_summary_of_blocks_is_that_of_the_whole(momenta, monkeypatch):
    whole = summarise(events_of(momenta), {})
    monkeypatch.setattr(events_module, "BLOCK", 77)
    parts = summarise(events_of(momenta), {})
    assert parts.ker_ev_median == whole.ker_ev_median
    assert parts.ker_ev_mean == pytest.approx(whole.ker_ev_mean, rel=1e-13)
    assert parts.ker_ev_sd == pytest.approx(whole.ker_ev_sd, rel=1e-12)


def test_summary_of_one_geometry_and_of_nothing(momenta):
    one = summarise(events_of(np.repeat(momenta[:1], 9, axis=0)), {})
    assert one.ker_ev_sd == pytest.approx(0, abs=1e-10)
    assert one.ker_ev_median == pytest.approx(one.ker_ev_mean, rel=1e-12)
    none = summarise(events_of(np.full((4, 3, 3), np.nan)), {})
    assert none.good == 0
    assert none.not_finite == 4
    assert np.isnan([none.ker_ev_mean, none.ker_ev_median, *none.momentum]).all()


def test_blocks_hand_out_every_good_event_once(momenta, monkeypatch):
    monkeypatch.setattr(events_module, "BLOCK", 333)
    cuts = Cuts()
    assert np.array_equal(np.concatenate(list(blocks(events_of(momenta), cuts))), momenta)
    assert cuts.drawn == cuts.total == len(momenta)
