"""The scorecard of structures, on crystals whose atoms are shaken: what is real is known."""

import json
import sys

import numpy as np
import pytest
from ase.build import bulk
from numpy.testing import assert_allclose

from coulex.errors import InvalidDataError
from coulex.frames import random_rotations
from generative.gram.environments import of
from generative.scorecard import environments, whole
from generative.scorecard.files import score
from generative.scorecard.invariants import Invariants
from generative.structures import Structure, write

ROWS = {"noise_floor", "memoriser", "jittered", "gaussian", "nearest"}
METRICS = {"w_bond", "w_angle", "w_pair", "w_outer", "clash", "novelty", "coverage", "mmd"}


def shaken(seed, sigma=0.15, cells=3):
    """Return silicon whose atoms stand off their places by some Å."""
    atoms = bulk("Si", cubic=True).repeat(cells)
    x = atoms.positions + np.random.default_rng(seed).normal(0, sigma, (len(atoms), 3))
    cell = {"cell": atoms.cell.array, "periodic": [True] * 3}
    return Structure(positions=x, numbers=atoms.numbers, **cell)


def around(*structures):
    return of(structures, neighbours=8, cutoff=9.0)["neighbours"]


@pytest.fixture(scope="module")
def real():
    return {"reference": around(shaken(1)), "training": around(shaken(2))}


@pytest.fixture
def alone(monkeypatch):
    """Leave out the rows beside a scorecard, which take the time."""
    module = sys.modules["generative.scorecard.environments"]
    monkeypatch.setattr(module, "_floors", lambda *_: {})


def card(generated, real, **options):
    with_training = {"training": None, **real, "shell": 4, "clash": 1.8, **options}
    return environments(generated, **with_training)


def test_invariants_are_invariant():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6, 3))
    turned = -x[:, ::-1] @ random_rotations(3, 0, 50)
    one, other = Invariants.of(x, 4), Invariants.of(turned, 4)
    assert_allclose(one.distances, other.distances, rtol=1e-12)
    assert_allclose(one.fingerprint, other.fingerprint, rtol=1e-10)
    assert_allclose(one.closest, other.closest, rtol=1e-12)


def test_a_fingerprint_is_small_and_of_silicon_whole():
    """Products of all angles of twelve bonds would be thousands of features."""
    x = np.random.default_rng(0).normal(size=(5, 8, 3))
    one = Invariants.of(x, 4)
    whole_ones = np.concatenate(
        [one.radii, one.angles, one.between[:, [0, 9, 18, 27]]], axis=1
    )
    assert np.array_equal(one.fingerprint, whole_ones)
    many = Invariants.of(np.random.default_rng(0).normal(size=(5, 12, 3)), 12)
    assert many.angles.shape == (5, 66)
    assert many.fingerprint.shape == (5, 18)


def test_what_is_real_scores_like_it(real):
    made, floors = card(around(shaken(3)), real)
    assert set(floors) == ROWS
    assert set(made.metrics) >= METRICS
    assert made.metrics["clash"] == 0
    assert abs(made.metrics["novelty"] - 1) < 4 * made.stderr["novelty"]
    assert made.metrics["coverage"] > 0.9
    assert abs(made.metrics["auc"] - 0.5) < 0.12
    for key in ("w_bond", "w_angle", "w_pair", "w_outer"):
        assert made.metrics[key] < floors["gaussian"].metrics[key]
        assert made.metrics[key] < 3 * floors["noise_floor"].metrics[key]


@pytest.mark.parametrize("known", [True, False], ids=["training", "no training"])
def test_copies_are_caught(real, known):
    """Distances alone do not tell them: they are those of the data."""
    training = real["training"] if known else None
    source = real["training" if known else "reference"]
    rng = np.random.default_rng(0)
    noisy = source + 0.02 * rng.normal(size=source.shape)
    made, floors = card(noisy, real, training=training)
    assert made.metrics["w_angle"] < 2 * floors["noise_floor"].metrics["w_angle"]
    assert made.metrics["novelty"] < 0.35
    assert floors["jittered"].metrics["novelty"] < 0.35
    assert floors["memoriser"].metrics["novelty"] == 0
    assert floors["nearest"].metrics["novelty"] == 0
    assert abs(floors["noise_floor"].metrics["novelty"] - 1) < 0.1


def test_longer_bonds_in_closed_form(real, alone):
    made, _ = card(1.02 * real["reference"], real)
    radii = Invariants.of(real["reference"], 4).radii
    assert_allclose(made.metrics["w_bond"], 0.02 * radii[:, :4].mean(), rtol=1e-9)
    assert_allclose(made.metrics["w_outer"], 0.02 * radii[:, 4:].mean(), rtol=1e-9)
    assert made.metrics["w_angle"] < 1e-9


def test_the_share_of_clashes(real, alone):
    x = real["reference"].copy()
    x[:54, 7] = x[:54, 6] + [0.0, 0.0, 1.1]
    made, _ = card(x, real, clash=1.2)
    assert made.metrics["clash"] == pytest.approx(54 / 216)


def test_worse_structures_score_worse():
    reference = [shaken(1)]
    errors, bonds = [], []
    for sigma in (0.15, 0.2, 0.3):
        made, floors = whole([shaken(5, sigma)], reference, None, cutoff=2.85, clash=2.0)
        errors.append(made.metrics["err_rdf"])
        bonds.append(made.metrics["most_common_coordination"])
        assert made.metrics["density"] == pytest.approx(2.33, abs=5e-3)
    assert errors == sorted(errors)
    assert bonds == sorted(bonds, reverse=True)
    assert errors[0] < 10 * floors["noise_floor"].metrics["err_rdf"]
    assert errors[2] < floors["random"].metrics["err_rdf"]


def test_the_rdf_of_a_scorecard_is_the_rdf():
    from generative.structures.rdf import err_rdf, rdf

    one, other = [shaken(1)], [shaken(2, 0.2)]
    made, _ = whole(one, other, None, cutoff=2.85, clash=2.0)
    half = one[0].cell[0, 0] / 2
    wanted = err_rdf(rdf(one, half, 0.05)[1], rdf(other, half, 0.05)[1])
    assert made.metrics["err_rdf"] == pytest.approx(wanted, rel=1e-12)


def test_clusters_and_cells_are_not_compared():
    cell = shaken(1)
    cluster = Structure(positions=cell.positions, numbers=cell.numbers)
    for sets in ([[cluster], [cell], None], [[cell], [cell], [cluster]]):
        with pytest.raises(ValueError, match=r"structures are periodic: all or none"):
            whole(*sets, cutoff=2.85, clash=2.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    write(folder / "reference.extxyz", [shaken(1)])
    write(folder / "training.extxyz", [shaken(2)])
    write(folder / "whole.extxyz", [shaken(3)], [{"redraws": 3}])
    x = around(shaken(4))
    x[0, 0] = 0.1  # a model may draw anything
    clusters = [
        Structure(positions=np.concatenate([np.zeros((1, 3)), one]), numbers=[14] * 9)
        for one in x
    ]
    write(folder / "some.extxyz", clusters, [{"environment": True, "cutoff": 9.0}] * len(x))
    write(folder / "centroid.extxyz", clusters[:1], [{"environment": True, "centre": "c"}])
    write(folder / "mixed.extxyz", clusters[:2], [{"environment": True}, {}])
    return folder


def test_files_of_environments_and_of_structures_are_told_apart(files):
    said = score(files / "some.extxyz", files / "reference.extxyz")
    assert said["kind"] == "environments"
    assert said["environments"] == 216
    assert said["shell"] == 4
    assert said["clash_distance"] == 2.0
    assert said["metrics"]["clash"] >= 1 / 216
    assert "err_rdf" not in said["metrics"]
    said = score(files / "whole.extxyz", files / "reference.extxyz", clash=1.5)
    assert said["kind"] == "structures"
    assert said["clash_distance"] == 1.5
    assert {"err_rdf", "rdf_rmse", "close_pairs", "w_bond", "auc"} <= set(said["metrics"])
    assert said["metrics"]["redraws"] == 3
    assert set(said["floors"]) == ROWS | {"random"}
    assert set(said["floors"]["noise_floor"]) >= {"err_rdf", "w_bond"}


@pytest.mark.parametrize(
    ("name", "said"),
    [("centroid", "about a centroid"), ("mixed", "not scored together")],
)
def test_what_is_not_scored(files, name, said):
    with pytest.raises(InvalidDataError, match=said):
        score(files / f"{name}.extxyz", files / "reference.extxyz")


def test_the_command(files, capsys, monkeypatch, alone):
    from coulex.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["coulex", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr()

    reference = ["--reference", files / "reference.extxyz"]
    training = ["--training", files / "training.extxyz"]
    code, out = run(files / "whole.extxyz", *reference, *training, "--json")
    assert code == 0
    said = json.loads(out.out)
    assert said["metrics"]["nll_per_coordinate"] is None
    assert said["seconds"] > 0
    monkeypatch.setenv("COLUMNS", "20")
    code, out = run(files / "some.extxyz", *reference)
    assert code == 0
    assert "…" not in out.out  # no number is cut by a narrow window
    assert "216 environments of 8 neighbours" in " ".join(out.out.split())
    assert "no --training" in out.out
    code, out = run(files / "some.extxyz")
    assert code == 2
    assert "--reference" in out.err


def test_the_figure(files, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    from coulex import plot_environments
    from generative.scorecard.files import distributions

    drawn, reference = files / "some.extxyz", files / "reference.extxyz"
    groups = distributions([drawn], reference)
    assert list(groups) == [str(reference), str(drawn)]
    assert groups[str(drawn)]["angles"].shape == (216, 6)
    figure = plot_environments.environments(groups)
    assert isinstance(figure, Figure)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == list(plot_environments.PANELS.values())
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "216" in said[0]
    assert "off an axis" in said[1]  # one was drawn at 0.17 Å
    # each stands for all that lies within the axes, and integrates to their share
    patches = figure.axes[0].patches
    for patch in patches:
        density, edges, _ = patch.get_data()
        assert 0.99 < (density * np.diff(edges)).sum() <= 1 + 1e-12
    with pytest.raises(InvalidDataError, match="no environments to draw"):
        plot_environments.environments({})
    from coulex.cli import main

    out = tmp_path / "fig.png"
    words = ["coulex", "plot", "environments", drawn, "--reference", reference, "-o", out]
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert out.stat().st_size > 1000
