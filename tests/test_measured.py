"""What `coulex invert` takes: files of momenta of any origin, good ones and bad ones."""

import h5py
import numpy as np
import pytest
from inverting import BOX, N, as_json, know, listed, run

from coulex import Molecule, dataset, reconstruction, simulate
from coulex.inverse.solutions import MOMENTUM_SUM, NO_ENERGY, NO_GEOMETRY, NO_MOMENTA
from coulex.units import KG_M_PER_S

pytestmark = pytest.mark.usefixtures("oracle")


def test_tables_and_measured_lists_are_the_same_events(monkeypatch):
    data = dataset.open("ocs.h5")
    order = [1, 0, 2]  # Hill: carbon, oxygen, sulfur
    know(monkeypatch, data["momenta"][:, order], data["initial_positions"][:, order])
    run("data export ocs.h5 -o ocs.csv")
    units = "--momentum-units au --position-units bohr"
    charges = "--charges C=2,O=2,S=2"
    said = as_json(run(f"invert ocs.csv -o a.h5 {units} {charges} --json"))
    assert (said["failed"], said["truth_among"]) == (0, 1)
    assert dataset.open("a.h5")["numbers"].tolist() == [6, 8, 16]

    si = data["momenta"][:, order].reshape(N, 9) / KG_M_PER_S
    np.savetxt("list.txt", si, header="pcx pcy pcz pox poy poz psx psy psz", fmt="%.17g")
    said = as_json(run(f"invert list.txt -o b.h5 --momentum-units 'kg m/s' {charges} --json"))
    assert (said["failed"], said["truths"], said["truth_among"]) == (0, 0, None)
    assert said["residual"]["largest"] < 1e-9
    command = dataset.open("b.h5").provenance["command"]
    assert command == f"coulex invert list.txt {charges} --momentum-units 'kg m/s'"
    np.savetxt("bare.txt", si)
    run(
        "invert bare.txt -o c.h5 --momentum-units 'kg m/s' --charges C=2,O=2,S=2 "
        "--columns 'C=1,2,3;O=4,5,6;S=7,8,9'"
    )


def test_a_foreign_file_is_read_in_its_units():
    data = dataset.open("ocs.h5")
    with h5py.File("foreign.h5", "w") as file:
        file["momenta"], file["charges"] = data["momenta"] / KG_M_PER_S, data["charges"]
        file["momenta"].attrs["units"], file["charges"].attrs["units"] = "kg m/s", "e"
    assert (
        "does not hold both charges and masses" in run("invert foreign.h5 -o a.h5", 1).stderr
    )
    run("invert foreign.h5 -o a.h5 --charges O=2,C=2,S=2")
    assert dataset.open("a.h5")["momenta"] == pytest.approx(data["momenta"], rel=1e-12)
    with h5py.File("foreign.h5", "a") as file:
        del file["momenta"].attrs["units"]
    said = run("invert foreign.h5 -o b.h5 --charges O=2,C=2,S=2", 1).stderr
    assert "momenta declares no unit" in said


def test_charges_of_each_event_go_through(oracle):
    data = dataset.open("ocs.h5")
    each, status = np.tile(data["charges"], (N, 1)), np.zeros(N, np.uint8)
    status[4] = 1
    each[4] = 1.0
    listed("each.npz", data["momenta"], charges=each, status=status)
    run("invert each.npz -o a.h5")
    assert np.array_equal(oracle.calls[-1]["charges"], np.full((N - 1, 3), 2.0))
    assert np.array_equal(dataset.open("a.h5")["charges"], each)
    assert as_json(run("validate a.h5 --json"))["not_reproduced"] == 0


def test_events_that_were_not_simulated_have_no_momenta(monkeypatch, oracle):
    p, status = oracle.momenta.copy(), np.zeros(N, np.uint8)
    p[5], status[[5, 9]] = np.nan, 2
    p[20] = 0.0
    p[30] *= 1.7
    listed("some.npz", p, status=status)
    said = as_json(run("invert some.npz -o a.h5 --all --json"))
    assert said["status"]["no momenta"] == 2
    assert said["status"]["no energy"] == said["status"]["no geometry"] == 1
    data = dataset.open("a.h5")
    assert data["status"][[5, 9, 20, 30]].tolist() == [
        *(NO_MOMENTA, NO_MOMENTA),
        *(NO_ENERGY, NO_GEOMETRY),
    ]
    lost = np.flatnonzero(data["status"] > 2)
    assert np.isnan(data["positions"][lost]).all()
    assert np.isnan(data["momenta"][[5, 9]]).all()
    assert not set(data["solution_event"]) & set(lost)
    # solutions lie at their own events, whatever was left out before them
    assert as_json(run("validate a.h5 --json"))["not_reproduced"] == 0


def test_a_simulation_that_failed_is_carried_over(monkeypatch):
    run(f"simulate OCS -n 50 --charges 2,2,2 {BOX} --max-steps 1 -o bad.h5", 1)
    result = run("invert bad.h5 -o a.h5", 1)
    assert "none of 50 events has a geometry" in result.stderr
    assert dataset.open("a.h5")["status"].tolist() == [NO_MOMENTA] * 50


# -- sums of momenta ---------------------------------------------------------------------


def test_momenta_that_do_not_add_up_are_said_and_end_with_1(oracle):
    p = oracle.momenta.copy()
    p[[3, 8]] += 5.0
    listed("lab.npz", p)
    result = run("invert lab.npz -o a.h5", 1)
    assert "the momenta of 2 of 300 events do not add up to zero: |Σp| up to" in result.stderr
    assert "2 of 300 events have momenta that do not add up to zero" in result.stderr
    assert "--project" in result.stderr
    data = dataset.open("a.h5")
    assert data["status"][[3, 8]].tolist() == [MOMENTUM_SUM] * 2
    assert np.array_equal(data["momenta"], p)


def test_project_takes_the_motion_of_the_centre_out(oracle):
    data = dataset.open("ocs.h5")
    velocity = np.random.default_rng(1).normal(scale=0.01, size=(N, 1, 3))
    listed("lab.npz", data["momenta"] + velocity * data["masses"][:, None])
    said = as_json(run("invert lab.npz -o a.h5 --project --json"))
    assert said["failed"] == 0
    assert said["largest_momentum_sum"] > 1e-3
    inverted = dataset.open("a.h5")
    assert inverted["momenta"] == pytest.approx(data["momenta"], abs=1e-10)
    assert inverted.configuration["inversion"]["project"]


def test_the_rounding_of_float32_is_taken_out():
    p = dataset.open("ocs.h5")["momenta"].astype(np.float32)
    listed("single.npz", p)
    result = run("invert single.npz -o a.h5")
    assert "taken out up to 1e-06" in result.stderr
    assert reconstruction.relative_sums(dataset.open("a.h5")["momenta"]).max() < 1e-15


@pytest.mark.parametrize(
    ("rest", "code", "message"),
    [
        ("ocs.h5 -o a.txt", 2, "ends in .h5 or .hdf5"),
        ("ocs.h5 -o none/a.h5", 1, "none is no folder; make it first"),
        ("none.h5 -o a.h5", 1, "none.h5 does not exist"),
        ("none.csv -o a.h5", 1, "none.csv does not exist"),
        ("ocs.h5 -o a.h5 --sigma 0.1", 2, "--sigma is an option of a prior"),
        ("ocs.h5 -o a.h5 --molecule OCS", 2, "--molecule is an option of a prior"),
        ("ocs.h5 -o a.h5 --prior gaussian", 2, "--prior gaussian needs --sigma"),
        ("ocs.h5 -o a.h5 --prior gaussian --sigma -1", 2, "sigma must be positive"),
        ("ocs.h5 -o a.h5 --prior box --radius 2", 2, "needs --first-bond"),
        ("ocs.h5 -o a.h5 --prior gaussian --sigma 1 --radius 2", 2, "belongs to --prior"),
        ("ocs.h5 -o a.h5 --prior gaussian --sigma 1 --min-distance 1", 2, "for a sphere or"),
        (
            "ocs.h5 -o a.h5 --prior gaussian --sigma 1 --min-distance 1 --molecule OCS",
            *(2, "--min-distance is for structure files"),
        ),
        ("ocs.h5 -o a.h5 --prior wigner", 2, "wigner"),
        ("ocs.h5 -o a.h5 --momentum-units au", 2, "is for tables and npz files"),
        ("ocs.h5 -o a.h5 --charges 2,2", 2, "but charges (2,)"),
        ("ocs.h5 -o a.h5 --tau 0.01", 2, "No such option"),
        ("cut.h5 -o a.h5", 4, "cut.h5"),
        ("cut -o a.h5", 1, "cut does not exist"),
        ("p.csv -o a.h5", 1, "does not say in which unit its momenta are"),
        ("p.csv -o a.h5 --momentum-units au", 1, "say --charges C=2,O=2,S=2"),
        ("p.csv -o a.h5 --momentum-units au --charges C=2,S=2", 2, "name each element"),
        ("x.csv -o a.h5 --position-units bohr --charges C=1,O=1", 1, "holds no momenta"),
        ("n.csv -o a.h5 --momentum-units au --charges C=1,O=1", 1, "line 3, column 2: nan"),
    ],
)
def test_mistakes_leave_nothing(rest, code, message, tmp_path, simulated):
    tmp_path.joinpath("cut.h5").write_bytes(simulated[:-3000])
    pair = "pcx,pcy,pcz,pox,poy,poz"
    tmp_path.joinpath("p.csv").write_text(f"{pair}\n1,0,0,-1,0,0\n")
    tmp_path.joinpath("n.csv").write_text(f"{pair}\n1,0,0,-1,0,0\n1,nan,0,-1,0,0\n")
    tmp_path.joinpath("x.csv").write_text(f"{pair.replace('p', '')}\n1,0,0,-1,0,0\n")
    before = sorted(tmp_path.iterdir())
    result = run(f"invert {rest}", code)
    assert message in result.stderr
    assert result.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_moving_starts_are_said(monkeypatch):
    molecule = Molecule.named("OCS").with_charges([2, 2, 2])
    x = np.repeat(molecule.positions[None], 5, axis=0)
    start = np.random.default_rng(3).normal(size=x.shape)
    start -= start.mean(axis=1, keepdims=True)
    p = simulate(x, molecule.ion_masses, molecule.charges, initial_momenta=start).momenta
    listed("moving.npz", p, initial_momenta=start, initial_momenta_units="au")
    run("data import moving.npz -o moving.h5 --charges O=2,C=2,S=2")
    know(monkeypatch, p, x)
    result = run("invert moving.h5 -o a.h5")
    assert "did not start at rest, and are inverted as if they had" in result.stderr
