"""The figure of the folds, and the numbers that it shows."""

import json

import numpy as np
import pytest
from inverting import run

from coulex import Molecule
from coulex.plot_folds import draw, folds

OCS = Molecule.named("OCS").with_charges({"O": 2, "C": 2, "S": 2})


@pytest.fixture(scope="module")
def found():
    return folds(OCS, points=(41, 150))


def test_every_shape_is_among_its_own_solutions(found):
    # a solution on a bin's border is found within the accuracy of the table
    assert (found.solutions >= 1).mean() > 0.999
    inside = found.degrees > 90.5
    assert (found.alike[:, inside] >= 1).mean() > 0.999
    assert (found.alike <= found.solutions).all()


def test_the_fold_of_ocs(found):
    ratio, degrees = found.equilibrium()
    assert ratio == pytest.approx(1.1562 / 1.5614, abs=2e-4)
    assert degrees == pytest.approx(180)
    high = [angle for angle in found.angles(ratio) if angle > 90]
    assert high == pytest.approx([162], abs=1)  # physics, section 6


def test_the_pair_of_ocs_is_counted_at_either_place(found):
    for ratio, degrees in ((1.8949 / 1.2990, 160.601), (2.4860 / 1.0755, 164.568)):
        i = np.abs(np.log(found.ratios / ratio)).argmin()
        j = np.abs(found.degrees - degrees).argmin()
        assert found.alike[i, j] >= 2


def test_between_the_grid_points_only_folds_and_their_images_change_the_number(found):
    # the number of geometries changes by two, but where one leaves what is counted
    change = np.abs(np.diff(found.solutions, axis=1))
    assert (change <= 2).mean() > 0.999


def test_the_figure_says_what_it_counts(found):
    figure = draw(found)
    left, right = figure.axes[:2]
    assert left.get_title() == "all arrangements of the atoms"
    assert right.get_title() == "C in the middle, angle above 90°"
    assert left.get_xlabel() == "bond ratio r(CO) / r(CS)"
    assert left.get_ylabel() == "angle O–C–S (°)"
    assert left.get_xscale() == "log"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["fold, det J = 0", "equilibrium"]


def test_only_three_ions_have_folds_to_draw():
    with pytest.raises(ValueError, match="three ions, CH4 has 5"):
        folds(Molecule.named("CH4"))


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = json.loads(run("plot folds OCS --charges 2,2,2 -o fig.png --json").stdout)
    assert tmp_path.joinpath("fig.png").stat().st_size > 20_000
    assert said["most_solutions"] == 4
    assert max(said["fold_degrees"]) == pytest.approx(162, abs=1)
    assert "three ions" in run("plot folds CH4 -o fig2.png", 2).stderr
    assert "exists" in run("plot folds OCS -o fig.png", 1).stderr
