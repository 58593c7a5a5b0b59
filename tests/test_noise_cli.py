"""`coulex invert --noise`: estimates in the file, the table and the export."""

import csv

import numpy as np
import pytest
from inverting import as_json, run

from coulex import Molecule, dataset, simulate
from coulex.ensemble import Gaussian
from coulex.inverse import estimate
from coulex.inverse.solutions import NO_ESTIMATE
from coulex.units import ANGSTROM

OCS = Molecule.named("OCS").with_charges({"O": 2, "C": 2, "S": 2})
PRIOR = "--prior gaussian --sigma 0.1 --molecule OCS"


@pytest.fixture(autouse=True)
def noisy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, _ = Gaussian(sigma=0.1 * ANGSTROM).sample(OCS, seed=1, first=0, count=40)
    p = simulate(x, OCS.ion_masses, OCS.charges).momenta
    size = np.linalg.norm(p, axis=2, keepdims=True)
    p = p + 0.01 * size * np.random.default_rng(2).standard_normal(p.shape)
    p[7] += 0.1 * np.abs(p[7]).max()  # a sum that is no noise
    np.savez("noisy.npz", momenta=p, momenta_units="au", numbers=OCS.numbers)
    return p


def test_estimates_are_those_of_the_library(noisy):
    run(f"invert noisy.npz -o a.h5 --charges 2,2,2 --noise 0.01 {PRIOR}", 1)
    data = dataset.verify("a.h5")
    believed = Gaussian(sigma=0.1 * ANGSTROM), Molecule.named("OCS")
    wanted = estimate(noisy, OCS.ion_masses, OCS.charges, noise=0.01, prior=believed)
    assert wanted.estimate is not None
    assert np.array_equal(data["status"], wanted.status)
    assert np.array_equal(data["estimate_status"], wanted.estimate.status)
    assert data["estimate_status"][7] == NO_ESTIMATE
    good = data["estimate_status"] == 0
    # the file has the noise from momenta whose sum is out, which differ by that noise
    sd = np.sqrt(np.einsum("niaia->nia", data["estimate_covariance"]))[good]
    own = np.sqrt(np.einsum("niaia->nia", wanted.estimate.covariance))[good]
    assert sd == pytest.approx(own, rel=0.1, abs=1e-3 * own.max())
    apart = data["estimate_positions"][good] - wanted.estimate.positions[good]
    assert np.abs(apart).max() < 0.1 * own.max()


def test_the_table_and_the_export_say_the_deviations():
    said = as_json(
        run(f"invert noisy.npz -o a.h5 --charges 2,2,2 --noise 0.01 --json --project {PRIOR}")
    )
    assert sum(said["estimate"]["status"].values()) == 40
    middle = said["estimate"]["deviations"]
    assert list(middle) == ["r_CO_angstrom", "r_CS_angstrom", "angle_OCS_degrees"]
    assert 0.01 < middle["r_CO_angstrom"] < 0.1
    assert (
        "median σ of r_CO_angstrom"
        in run(
            f"invert noisy.npz -o b.h5 --charges 2,2,2 --noise 0.01 --project {PRIOR}"
        ).stdout
    )
    run("data export a.h5 -o a.csv")
    with open("a.csv", encoding="utf-8") as file:  # noqa: PTH123
        rows = list(csv.DictReader(file))
    sigma = [float(row["sigma_r_CO_angstrom"]) for row in rows]
    assert np.median(sigma) == pytest.approx(middle["r_CO_angstrom"], rel=0.1)
    assert {row["estimate_status"] for row in rows} <= set(said["estimate"]["status"])


def test_without_noise_a_file_has_no_estimates_and_noise_is_a_share(noisy):
    run("invert noisy.npz -o c.h5 --charges 2,2,2 --project")
    assert "estimate_status" not in dataset.open("c.h5")
    for wrong in ("0", "1"):
        assert (
            "--noise must be above 0"
            in run(f"invert noisy.npz -o d.h5 --charges 2,2,2 --noise {wrong}", 2).stderr
        )
