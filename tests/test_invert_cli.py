"""`coulex invert` and `coulex validate`, around an inversion that knows the answers."""

import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from inverting import N, as_json, digest, listed, run

import coulex
from coulex import Molecule, dataset, reconstruction
from coulex.units import ANGSTROM, KG_M_PER_S, U

pytestmark = pytest.mark.usefixtures("oracle")


def test_the_file_holds_all_solutions_and_the_table_says_so():
    said = as_json(run("invert ocs.h5 -o all.h5 --all --json"))
    assert said["status"] == {"solved": 200, "several solutions": 100}
    assert (said["events"], said["solutions"], said["failed"]) == (N, 400, 0)
    assert said["residual"]["largest"] < 1e-12
    assert said["not_reproduced"] == 0
    assert (said["truths"], said["truth_among"]) == (N, 1)
    data = dataset.verify("all.h5")
    source = dataset.open("ocs.h5")
    for name in ("momenta", "masses", "charges", "numbers", "initial_positions"):
        assert np.array_equal(data[name], source[name]), name
    assert data["n_solutions"].sum() == 400
    event = data["solution_event"]
    assert np.array_equal(np.bincount(event), data["n_solutions"])
    assert (np.diff(event) >= 0).all()
    first = np.flatnonzero(np.diff(event, prepend=-1))
    assert np.array_equal(data["solution_positions"][first], data["positions"])
    assert np.bincount(event, data["solution_weight"]) == pytest.approx(1)
    assert data.configuration["molecule"]["name"] == "OCS"
    assert data.configuration["inversion"]["all"]


def test_without_all_only_the_most_probable_is_kept():
    table = run("invert ocs.h5 -o one.h5")
    assert "the most probable of each event" in table.stdout
    data = dataset.open("one.h5")
    assert np.array_equal(data["solution_event"], np.arange(N))
    assert np.array_equal(data["solution_positions"], data["positions"])
    assert data["n_solutions"].max() == 2  # so many were found
    assert set(data["solution_weight"]) == {1.0, 0.75}


def test_validate_repeats_the_table_from_the_file_alone(monkeypatch):
    said = as_json(run("invert ocs.h5 -o all.h5 --all --json"))
    monkeypatch.delattr(coulex, "invert")
    Path("ocs.h5").unlink()
    again = as_json(run("validate all.h5 --json"))
    assert again == {key: said[key] for key in again if key != "file"} | {"file": "all.h5"}
    table = run("validate all.h5 --threads 1").stdout
    assert "100.00 % of 300, within 1e-06 Å" in table
    assert "most probable of each" not in table


def test_validate_takes_any_file_of_positions():
    said = as_json(run("validate ocs.h5 --json"))
    assert (said["events"], said["solutions"], said["truths"]) == (N, N, 0)
    assert said["residual"]["largest"] < 2e-13
    data = dataset.open("ocs.h5")
    with h5py.File("drawn.h5", "w") as file:  # of a model, by another program
        near = data["initial_positions"] + 1e-3
        near[:, 0, 0] += 2e-3
        for name, array, unit in (
            ("momenta", data["momenta"] / KG_M_PER_S, "kg m/s"),
            ("positions", near, "bohr"),
            ("initial_positions", data["initial_positions"], "bohr"),
            ("charges", data["charges"], "e"),
            ("masses", data["masses"] / U, "u"),
        ):
            file[name] = array
            file[name].attrs["units"] = unit
    said = as_json(run("validate drawn.h5 --json"))
    assert said["truth_among"] == 0
    assert 1e-4 < said["nearest_error_angstrom"]["median"] < 1e-3
    assert as_json(run("validate drawn.h5 --limit 0.001 --json"))["truth_among"] == 1
    assert run("validate drawn.h5 --limit 0", 2).stderr.count("--limit must be")


def test_validate_leaves_out_what_was_not_simulated():
    run("simulate OCS -n 20 --max-steps 1 -o bad.h5", 1)
    said = as_json(run("validate bad.h5 --json"))
    assert (said["events"], said["solutions"], said["not_reproduced"]) == (20, 0, 0)


def test_validate_says_what_is_missing():
    data = dataset.open("ocs.h5")
    np.savez("p.npz", momenta=data["momenta"], momenta_units="au")
    run("data import p.npz -o p.h5 --charges O=2,C=2,S=2")
    said = run("validate p.h5", 1).stderr
    assert "p.h5 holds no positions, which a round trip needs" in said
    assert "none.h5 does not exist" in run("validate none.h5", 1).stderr


def test_a_solution_that_is_none_ends_with_1(monkeypatch, oracle):
    class Wrong:
        def __call__(self, *given, **options):
            found = oracle(*given, **options)
            found.solution_positions[7, 0, 0] += 1e-3
            return found

    monkeypatch.setattr(coulex, "invert", Wrong())
    result = run("invert ocs.h5 -o all.h5 --all", 1)
    assert "1 of 400 geometries do not give the momenta that they explain" in result.stderr
    assert "1 of 400" in run("validate all.h5", 1).stderr


# -- what goes out -----------------------------------------------------------------------


def test_the_command_in_the_file_makes_the_file_again():
    run("invert ocs.h5 -o a.h5 --all --project --threads 1 --prior gaussian --sigma 0.1")
    command = dataset.open("a.h5").provenance["command"]
    assert "a.h5" not in command
    run(f"{command.removeprefix('coulex ')} -o b.h5")
    assert digest("a.h5") == digest("b.h5")


def test_what_is_there_is_refused_replaced_or_resumed(monkeypatch):
    run("invert ocs.h5 -o a.h5")
    before = digest("a.h5")
    assert "a.h5 exists; --overwrite it" in run("invert ocs.h5 -o a.h5", 1).stderr
    assert as_json(run("invert ocs.h5 -o a.h5 --resume --json"))["inverted_now"] == 0
    said = run("invert ocs.h5 -o a.h5 --resume --all", 4).stderr
    assert "inversion.all: False here, True now" in said
    assert digest("a.h5") == before
    measured = digest("ocs.h5")
    said = run("invert ocs.h5 -o ./ocs.h5 --overwrite", 1).stderr
    assert "the momenta come from ocs.h5" in said
    assert digest("ocs.h5") == measured
    run("invert ocs.h5 -o a.h5 --overwrite --all")
    assert digest("a.h5") != before
    assert "give one of them" in run("invert ocs.h5 -o a.h5 --resume --overwrite", 2).stderr


def test_an_interrupted_run_resumes_to_the_same_bytes(monkeypatch, oracle):
    monkeypatch.setattr(reconstruction, "SHARD_EVENTS", 100)
    monkeypatch.setattr(reconstruction, "_BLOCK", 64)
    run("invert ocs.h5 -o whole.h5 --all")
    assert len(oracle.calls) == 1 + 6  # once to have everything ready

    class Signalled:
        calls = 0

        def __call__(self, *given, **options):
            self.calls += 1
            if self.calls == 1 + 4:  # in the second shard
                os.kill(os.getpid(), signal.SIGTERM)
            return oracle(*given, **options)

    monkeypatch.setattr(coulex, "invert", Signalled())
    result = run("invert ocs.h5 -o a.h5 --all", 143)
    assert "--resume continues it" in result.stderr
    assert not Path("a.h5").exists()
    monkeypatch.setattr(coulex, "invert", oracle)
    said = as_json(run("invert ocs.h5 -o a.h5 --all --resume --json"))
    assert said["inverted_now"] == 100
    assert digest("a.h5") == digest("whole.h5")


def test_shards_in_a_folder_are_one_set(monkeypatch):
    monkeypatch.setattr(reconstruction, "SHARD_EVENTS", 100)
    run("invert ocs.h5 -o solved --all")
    data = dataset.verify("solved")
    assert len(data.parts) == 3
    assert data["solution_event"].max() == N - 1
    assert as_json(run("validate solved --json"))["truth_among"] == 1
    run("invert solved -o again.h5")  # solutions have momenta, too
    assert dataset.open("again.h5")["n_solutions"].sum() == 400


def test_config_has_the_names_of_the_options(tmp_path, oracle):
    tmp_path.joinpath("run.toml").write_text(
        'all = true\nproject = true\nprior = "box"\nfirst-bond = [0.8, 3]\n'
        "second-bond = [0.8, 3]\nangle = [90, 180]\nthreads = 1\n"
    )
    run("invert ocs.h5 -o a.h5 --config run.toml")
    ensemble, molecule = oracle.calls[0]["prior"]
    assert oracle.calls[0]["threads"] == 1
    assert (ensemble.name, ensemble.angle_degrees) == ("box", (90, 180))
    assert molecule.name == "OCS"
    data = dataset.open("a.h5")
    assert data.configuration["inversion"]["all"]
    assert data.configuration["inversion"]["prior"]["ensemble"]["name"] == "box"


def test_the_prior_takes_its_molecule_from_the_file_or_the_command(oracle):
    run("invert ocs.h5 -o a.h5 --prior gaussian --sigma 0.1")
    molecule = oracle.calls[-1]["prior"][1]
    assert molecule.symbols == ("O", "C", "S")
    assert np.array_equal(molecule.ion_masses, dataset.open("ocs.h5")["masses"])
    assert np.array_equal(molecule.positions, Molecule.named("OCS").positions)
    Path("folder").mkdir()
    Path("folder/ocs.xyz").write_text("3\n\nO 0 0 -1.2\nC 0 0 0\nS 0 0 1.6\n")
    run("invert ocs.h5 -o b.h5 --prior gaussian --sigma 0.1 --molecule folder/ocs.xyz")
    assert oracle.calls[-1]["prior"][1].positions[2, 2] == pytest.approx(1.6 * ANGSTROM)
    assert "--molecule ocs.xyz" in dataset.open("b.h5").provenance["command"]
    listed("list.npz", oracle.momenta)
    said = run("invert list.npz -o c.h5 --prior gaussian --sigma 0.1", 2).stderr
    assert "name it: --molecule OCS" in said
    run("invert list.npz -o c.h5 --prior sphere --radius 3 --min-distance 0.5")
    said = run("invert ocs.h5 -o d.h5 --prior gaussian --sigma 0.1 --molecule H2O", 1).stderr
    assert "but the ions are O C S, in this order" in said


def test_json_is_one_object_and_all_else_is_on_stderr(oracle):
    p = oracle.momenta.copy()
    p[3] += 5.0
    listed("lab.npz", p)
    result = run("invert lab.npz -o a.h5 --json --threads 64", 1)
    assert as_json(result)["status"]["momentum sum off"] == 1
    assert "64 threads asked for" in result.stderr
