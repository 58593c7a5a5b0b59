"""Unknown charges, told by the geometries that they imply."""

import numpy as np
import pytest
from inverting import run

from coulex import Equilibrium, Gaussian, Molecule, dataset, simulate
from coulex.geometry import coordinates
from coulex.inverse import rank_charges
from coulex.units import ANGSTROM

OCS = Molecule.named("OCS")
PRIOR = Gaussian(sigma=0.1 * ANGSTROM), OCS


def events(charges, count=12):
    x, _ = PRIOR[0].sample(OCS, seed=3, first=0, count=count)
    q = np.asarray(charges, float)
    return simulate(x, OCS.masses - q, q, tolerance=1e-12).momenta


@pytest.mark.parametrize("charges", [(2, 1, 2), (1, 1, 1)])
def test_the_true_charges_come_first(charges):
    said = rank_charges(events(charges), prior=PRIOR, up_to=2)
    assert said.charges[0].tolist() == list(charges)
    assert said.charges.shape == (8, 3)
    assert said.probability.sum() == pytest.approx(1)
    assert said.probability[0] > 0.999
    assert (said.best == charges).all(axis=1).mean() > 0.6


def test_evidence_is_a_density_of_momenta():
    # twice the charges: momenta of a geometry twice as large, or half, than they say
    p = events((1, 1, 1), count=20)
    said = rank_charges(p, prior=PRIOR, up_to=2)
    scaled = rank_charges(2 * p, prior=PRIOR, up_to=2)
    one, two = (
        r.log_evidence[:, (r.charges == k).all(axis=1)].ravel()
        for r, k in ((said, 1), (scaled, 2))
    )
    x, _ = PRIOR[0].sample(OCS, seed=3, first=0, count=20)
    # masses differ by electrons, which moves the fold: beside it a geometry comes or goes
    angle = coordinates("OCS", central=1)[2].values(x)
    clear = np.abs(angle - 162) > 1
    assert clear.sum() > 15
    # p(2P | 2q) = p(P | q) / 2**6, of six independent momenta
    assert two[clear] == pytest.approx(one[clear] - 6 * np.log(2), abs=0.02)


def test_ions_that_fly_alike_are_listed():
    said = rank_charges(events((1, 1, 1), count=1), prior=PRIOR, up_to=2)
    assert said.ambiguous == (((0, 1), (2, 2)),)  # O+ and S2+


def test_without_a_prior_or_with_bad_momenta_nothing_is_ranked():
    p = events((1, 1, 1), count=2)
    with pytest.raises(ValueError, match="under a prior"):
        rank_charges(p, prior=None, up_to=2)
    with pytest.raises(ValueError, match="no prior"):
        rank_charges(p, prior=(Equilibrium(), OCS), up_to=2)
    with pytest.raises(ValueError, match="event 0 do not add up"):
        rank_charges(p + [1.0, 0, 0], prior=PRIOR, up_to=2)
    with pytest.raises(ValueError, match="assignments"):
        rank_charges(p, prior=PRIOR, up_to=11)
    with pytest.raises(ValueError, match=r"\(n, 3, 3\)"):
        rank_charges(p[:, :2], prior=PRIOR, up_to=2)


@pytest.mark.usefixtures("_in_a_folder")
def test_the_command_tells_charges_and_inverts_with_them():
    np.savez("a.npz", momenta=events((2, 1, 2)), momenta_units="au", numbers=OCS.numbers)
    prior = "--prior gaussian --sigma 0.1 --molecule OCS"
    said = run(f"invert a.npz -o a.h5 --charges unknown --max-charge 2 {prior}")
    assert "O 2, C 1, S 2: probability 1" in said.stderr
    assert "O1+ and S2+ have the same m/q" in said.stderr
    data = dataset.verify("a.h5")
    assert data["charges"].tolist() == [2, 1, 2]
    assert data.configuration["ranking"]["up_to"] == 2


@pytest.mark.usefixtures("_in_a_folder")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--charges unknown", "needs --max-charge"),
        ("--charges unknown --max-charge 2", "needs a --prior"),
        ("--charges 1,1,1 --max-charge 2", "goes with --charges unknown"),
    ],
)
def test_options_of_unknown_charges(options, message):
    np.savez("a.npz", momenta=np.zeros((1, 3, 3)), momenta_units="au", numbers=OCS.numbers)
    assert message in run(f"invert a.npz -o a.h5 {options}", 2).stderr


@pytest.fixture
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
