"""RePAP from the command line: train, sample, score, draw, and an end for every mistake."""

import json

import ase.io
import pytest
from commands import run
from trajectories import LENGTHS, crystal

from generative import trajectories
from generative.scorecard.curves import RANDOM, radial_curves

pytestmark = pytest.mark.usefixtures("threads")

SMALL = "--set width=8,orders=3,attention=2,cells=60 --epochs 1 --threads 1"


@pytest.fixture(scope="module")
def salt(tmp_path_factory):
    """Return a folder with a trajectory and a model of it."""
    folder = tmp_path_factory.mktemp("salt")
    trajectories.write(folder / "salt.h5", [crystal(200)])
    assert not run("train repap", folder / "salt.h5", "-o", folder / "m", SMALL).exit_code
    return folder


def test_from_a_trajectory_to_figures(salt, tmp_path):
    drawn, reference = tmp_path / "drawn.extxyz", salt / "salt.h5"
    how = "redraws=3,closest=1.5,top_p=0.99"
    said = run("sample", salt / "m", "-n 20 -o", drawn, "--how", how, "--json")
    assert said.exit_code == 0, said.output
    assert {"redraws", "unfinished"} <= set(json.loads(said.stdout))
    frames = ase.io.read(drawn, ":")
    assert len(frames) == 20
    assert {"redraws", "unfinished"} <= set(frames[0].info)
    said = run("score", drawn, "--reference", reference, "--json")
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["metrics"]["err_rdf"] > 0
    for line in (
        ("plot radial", drawn, "--reference", reference, "-o", tmp_path / "g.png"),
        ("plot densities", salt / "m", reference, "-o", tmp_path / "d.png"),
    ):
        said = run(*line)
        assert said.exit_code == 0, said.output
        assert line[-1].stat().st_size > 10_000


def test_radial_curves(salt, tmp_path):
    frames = crystal(300, seed=3).positions
    same = [ase.Atoms("Si4", x, cell=LENGTHS, pbc=True) for x in frames]
    ase.io.write(tmp_path / "same.extxyz", same)
    r, curves = radial_curves([tmp_path / "same.extxyz"], salt / "salt.h5")
    assert list(curves) == [str(salt / "salt.h5"), str(tmp_path / "same.extxyz"), RANDOM]
    assert r[-1] == pytest.approx(LENGTHS.min() / 2 - 0.025)
    true, drawn, random = curves.values()
    assert max(drawn.max(), true.max()) < 0.2  # atoms are 3 Å and more apart
    assert random[r > 1].mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (f"train repap SALT/salt.h5 -o new --see ordr=x {SMALL}", 2, "no option ordr"),
        ("sample SALT/m -n 2 -o new.extxyz --how redraws=2.5", 2, "whole number"),
        ("plot densities SALT/m cluster.xyz -o new.png", 1, "the model knows"),
        ("plot densities SALT/m SALT/salt.h5 -o new.txt", 2, "a figure ends in"),
        ("plot radial cluster.xyz --reference SALT/salt.h5 -o new.png", 2, "all or none"),
    ],
)
def test_what_cannot_be_done(salt, tmp_path, monkeypatch, line, code, message):
    monkeypatch.chdir(tmp_path)
    positions = crystal(20, periodic=False).positions
    cluster = [ase.Atoms("NaCl2Na", x) for x in positions]
    ase.io.write("cluster.xyz", cluster)
    said = run(line.replace("SALT", str(salt)))
    assert said.exit_code == code, said.output
    assert message in said.output
    assert {p.name for p in tmp_path.iterdir()} == {"cluster.xyz"}
