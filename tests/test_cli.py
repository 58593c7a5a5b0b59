import hashlib
import importlib
import json
import os
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import coulex
from coulex import dataset
from coulex.cli import app

ROOT = Path(__file__).parent.parent
GAUSSIAN = "--charges 2,2,2 --ensemble gaussian --sigma 0.05"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # no commit in the file: what is committed while these tests run shall not matter
    monkeypatch.setenv("GIT_DIR", os.devnull)


def coulex_(line, code=0):
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def simulate(rest, code=0):
    return coulex_(f"simulate {rest}", code)


def as_json(result):
    return json.loads(result.stdout)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_every_exported_name_is_there():
    for name in coulex.__all__:
        assert getattr(coulex, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = coulex.nonsense


def test_version_is_that_of_the_distribution():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert coulex_("--version").stdout == f"coulex {declared}\n"


def test_ocs_at_equilibrium_is_the_published_case():
    made = as_json(simulate("OCS -n 3 -o a.h5 --masses average --json"))
    assert made["ker_ev_mean"] == pytest.approx(26.975, abs=1e-3)
    assert made["ker_ev_median"] == pytest.approx(26.975, abs=1e-3)
    assert made["kinetic_energy_ev"] == pytest.approx([15.68, 0.60, 10.70], abs=0.01)
    made = as_json(simulate("OCS -n 1 -o b.h5 --charges C=2,O=2,S=2 --json"))
    assert made["ker_ev_mean"] == pytest.approx(107.90, abs=0.01)


def test_table_and_json_say_the_same():
    table = simulate(f"OCS -n 1e3 -o ocs.h5 {GAUSSIAN}")
    made = as_json(simulate(f"OCS -n 1e3 -o ocs.h5 {GAUSSIAN} --resume --json"))
    assert f"{made['ker_ev_mean']:.3f} ± {made['ker_ev_sd']:.3f} eV" in table.stdout
    for energy_ev, momentum in zip(made["kinetic_energy_ev"], made["momentum"], strict=True):
        assert f"{energy_ev:.3f}" in table.stdout
        assert f"{momentum:.2f}" in table.stdout
    assert made["status"] == {"good": 1000}
    assert "seed" in table.stdout
    assert "preparing the kernels" in table.stderr


def test_json_is_one_object_and_all_else_is_on_stderr():
    result = simulate(f"OCS -n 1_000 -o ocs.h5 {GAUSSIAN} --json --threads 64")
    made = as_json(result)
    assert made["events"] == made["good"] == made["computed_now"] == 1000
    assert made["largest_energy_error"] < 4e-9  # twice the error of the momenta, and rounding
    assert "64 threads asked for" in result.stderr


def test_the_command_in_the_file_makes_the_file_again():
    options = (
        "--charges total=5 --isotopes C=13,0=18 --ensemble box --first-bond 0.9:1.5 "
        "--second-bond 1:2.5 --angle 90:180 --orientation recoil --seed 7 --at-rest "
        "--precision float32 --tolerance 1e-3 --max-steps 5000 --portable"
    )
    simulate(f"OCS -n 500 -o a.h5 {options} --threads 1 --shard-size 100 --json")
    command = dataset.open("a.h5").provenance["command"]
    assert "threads" not in command
    assert "a.h5" not in command
    coulex_(f"{command.removeprefix('coulex ')} -o b.h5")
    assert digest("a.h5") == digest("b.h5")


def test_file_holds_what_was_asked_for():
    simulate(f"OCS -n 50 -o ocs.h5 {GAUSSIAN} --isotopes C=13 --seed 5")
    data = dataset.open("ocs.h5")
    assert data.n_events == 50
    assert data["momenta"].shape == data["initial_positions"].shape == (50, 3, 3)
    assert data["charges"].tolist() == [2, 2, 2]
    assert data.configuration["seed"] == 5
    assert data.configuration["start"] == "at rest"
    assert data.configuration["molecule"]["mass_numbers"] == [16, 13, 32]
    assert set(data.configuration["versions"]) == {"coulex", "numba", "numpy"}
    assert data.units["momenta"] == "atomic unit of momentum"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-n 0", "got '0'"),
        ("-n -3", "got '-3'"),
        ("-n 1.5", "got '1.5'"),
        ("-n many", "got 'many'"),
        ("-n nan", "got 'nan'"),
        ("-n 5 --charges 2,2", "3 atoms (O C S), but charges (2,)"),
        ("-n 5 --charges C=2,O=2", "name each element once"),
        ("-n 5 --charges two", "expected 2,2,2"),
        ("-n 5 --charges 1,-1,1", "--allow-attraction"),
        ("-n 5 --ensemble gaussian", "needs --sigma"),
        ("-n 5 --ensemble gaussian --sigma -1", "sigma must be positive"),
        ("-n 5 --ensemble wigner", "wigner"),
        ("-n 5 --radius 3", "--radius belongs to --ensemble sphere"),
        ("-n 5 --ensemble frames", "needs a structure file"),
        ("-n 5 --ensemble box --first-bond 1:2 --second-bond 1:2", "needs --angle"),
        ("-n 5 --ensemble box --first-bond 2:1 --second-bond 1:2 --angle 9:9", "low <= high"),
        ("-n 5 --isotopes C", "expected C=13"),
        ("-n 5 --isotopes C=13 --masses average", "exclude each other"),
        ("-n 5 --seed -1", "from 0 to 2^64 - 1"),
        ("-n 5 --shard 3/2", "1 <= i <= n"),
        ("-n 5 --shard-size 0", "at least 1"),
        ("-n 5 --threads -1", "--threads"),
        ("-n 5 --resume --overwrite", "give one of them"),
        ("-n 5 --tolerance 0", "tolerance"),
        ("-n 5 --no-such-option", "No such option"),
        ("-n 5 --tolerance 1e-15", "between 1e-13 and 1"),
        ("-n 5 --tolerance nan", "between 1e-13 and 1"),
        ("-n 5 --precision float32 --tolerance 1e-9", "float64 reaches 1e-13"),
        ("-n 5 --max-steps 1e8", "--max-steps"),
        ("-n 5 --max-steps 100000000", "between 1 and 2^24 - 1"),
        ("-n 5 --ensemble sphere --radius 2 --min-distance -5", "positive and finite"),
        ("-n 5 --ensemble sphere --radius 2 --min-distance 0", "positive and finite"),
        ("-n 5 --ensemble sphere --radius 2 --min-distance nan", "positive and finite"),
        ("-n 5 --units bohr", "--units is for structure files"),
        ("-n 5 --ignore-cell", "--ignore-cell is for structure files"),
        ("-n 5 --min-distance 1", "--min-distance is for structure files"),
        ("-n 5 --isotopes C=13,C=14", "C is named twice"),
        ("-n 5 -o a.txt", "ends in .h5 or .hdf5"),
    ],
)
def test_a_mistake_in_the_command_ends_with_2(options, message, tmp_path):
    result = simulate(f"OCS -o ocs.h5 {options}", 2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["z.h5", "z"])
def test_a_run_that_fails_before_its_first_shard_leaves_nothing(out, tmp_path):
    # no five atoms fit in there: noticed when the first events are drawn
    crowded = "CH4 -n 10 --ensemble sphere --radius 0.1 --min-distance 0.19"
    assert "error: " in simulate(f"{crowded} -o {out}", 1).stderr
    assert list(tmp_path.iterdir()) == []
    simulate(f"CH4 -n 10 -o {out}")


def test_events_without_force_are_good():
    made = as_json(simulate("OCS -n 10 --charges 0,0,2 -o b.h5 --json"))
    assert (made["good"], made["not_finite"], made["ker_ev_mean"]) == (10, 0, 0)
    table = simulate("OCS -n 10 --charges 0,0,2 -o b.h5 --resume").stdout
    assert "0.000 ± 0.000 eV" in table
    assert "nan" not in table.split("largest")[0]
    coulex_("plot ker b.h5 -o ker.png")
    assert "10 at rest" in coulex_("plot newton b.h5 -o newton.png", 1).stderr


def test_the_size_of_shards_does_not_change_a_single_file():
    simulate(f"OCS -n 300 -o a.h5 {GAUSSIAN}")
    simulate(f"OCS -n 300 -o b.hdf5 {GAUSSIAN} --shard-size 100")
    assert digest("a.h5") == digest("b.hdf5")


def test_one_of_many_structures_is_said(tmp_path):
    frames = "2\n\nH 0 0 0\nF 0 0 1.0\n2\n\nH 0 0 0\nF 0 0 2.0\n"
    tmp_path.joinpath("two.xyz").write_text(frames)
    said = simulate("two.xyz -n 1 -o a.h5 --units angstrom --min-distance 0.05").stderr
    assert "two.xyz holds 2 structures: taking the last" in said
    assert "taking" not in simulate("two.xyz -n 1 -o b.h5 --ensemble frames").stderr
    assert (
        "positive and finite" in simulate("two.xyz -n 1 -o c.h5 --min-distance -5", 2).stderr
    )


def test_a_group_alone_prints_its_help():
    for group in ("plot", "data"):
        result = coulex_(group, 2)
        assert "Usage" in result.output
        assert "error:" not in result.output


def test_messages_name_what_works(tmp_path):
    tmp_path.joinpath("a.csv").write_text("x,y\n1,2\n")
    said = coulex_("plot ker a.csv -o a.png", 1).stderr
    assert "a.csv is not an HDF5 file; `coulex data import a.csv" in said
    assert (
        "a.csv is a file; quickstart makes a folder"
        in coulex_("quickstart -o a.csv", 1).stderr
    )
    simulate("OCS -n 5 -o a.h5")
    said = simulate("OCS -n 5 -o a.h5 --shard 1/3", 1).stderr
    assert "a.h5 exists; --resume it, or choose another name" in said
    for arguments in ("-o x.hdf5", "-o x.root", "-o x.hdf5 --format csv"):
        said = coulex_(f"data export a.h5 {arguments}", 1).stderr
        assert "ends in .csv, .npz or .extxyz" in said
    said = coulex_("data export a.h5 --format npz -o x.csv", 1).stderr
    assert "x.csv is the name of a file of csv, not npz" in said


def test_an_import_that_fails_leaves_nothing(tmp_path):
    simulate("OCS -n 5 -o a.h5")
    coulex_("data export a.h5 -o a.csv")
    lines = tmp_path.joinpath("a.csv").read_text().splitlines(keepends=True)
    bad = [*lines[:-1], lines[-1].replace(lines[-1].split(",")[0], "what", 1)]
    tmp_path.joinpath("a.csv").write_text("".join(bad))
    before = sorted(tmp_path.iterdir())
    coulex_("data import a.csv -o c.h5 --charges C=1,O=1,S=1", 1)
    assert sorted(tmp_path.iterdir()) == before


def test_config_has_the_names_of_the_options(tmp_path):
    tmp_path.joinpath("run.toml").write_text(
        'ensemble = "box"\nfirst-bond = [0.8, 3]\nsecond_bond = "1:2"\nangle = [90, 180]\n'
        'shard = "1/2"\nshard-size = 5\n'
    )
    result = simulate("OCS -n 10 -o run --config run.toml --json")
    assert as_json(result) == {"file": "run", "job": "1/2", "complete": False}
    plan = json.loads(tmp_path.joinpath("run/plan.json").read_text())
    assert "--first-bond 0.8:3.0" in plan["provenance"]["command"]


def test_an_unknown_molecule_lists_those_there_are():
    result = simulate("OCS2 -n 5 -o ocs.h5", 2)
    assert "H2O" in result.stderr


def test_config_stands_in_for_flags_and_flags_override(tmp_path):
    tmp_path.joinpath("run.toml").write_text(
        'molecule = "OCS"\nn = 1e2\nout = "a.h5"\ncharges = [2, 2, 2]\nseed = 3\n'
        'ensemble = "gaussian"\nsigma = 0.05\nat_rest = true\n'
        "[isotopes]\nC = 13\n"
    )
    made = as_json(simulate("--config run.toml --seed 4 --json"))
    assert (made["events"], made["seed"], made["file"]) == (100, 4, "a.h5")
    simulate(f"OCS -n 100 {GAUSSIAN} --isotopes C=13 --at-rest --seed 4 -o b.h5")
    assert digest("a.h5") == digest("b.h5")


def test_config_with_unknown_keys_is_refused(tmp_path):
    tmp_path.joinpath("run.toml").write_text("sigmas = 0.05\n")
    result = simulate("OCS -n 5 -o a.h5 --config run.toml", 2)
    assert "unknown keys sigmas; known are" in result.stderr
    tmp_path.joinpath("run.toml").write_text("sigma = = 1")
    assert "is not TOML" in simulate("OCS -n 5 -o a.h5 --config run.toml", 2).stderr
    assert "cannot read none.toml" in simulate("OCS -n 5 -o a --config none.toml", 2).stderr


def test_dry_run_predicts_and_writes_nothing(tmp_path):
    options = f"OCS -n 2e4 -o ocs.h5 {GAUSSIAN} --shard-size 5000"
    said = as_json(simulate(f"{options} --dry-run --json"))
    assert "would take" in simulate(f"{options} --dry-run").stdout
    assert list(tmp_path.iterdir()) == []
    simulate(options)
    assert said["shards"] == 4
    assert 0 < Path("ocs.h5").stat().st_size - said["bytes"] < 20_000


def test_a_job_array_makes_the_folder_of_a_run_alone():
    options = f"OCS -n 1000 {GAUSSIAN} --shard-size 100"
    simulate(f"{options} -o alone")
    for job in (2, 1, 3):
        result = simulate(f"{options} -o array --shard {job}/3")
    assert "good" in result.stdout  # the last one prints the table
    names = sorted(path.name for path in Path("alone").iterdir())
    assert sorted(path.name for path in Path("array").iterdir()) == names
    assert [digest(f"alone/{n}") for n in names] == [digest(f"array/{n}") for n in names]


def test_a_job_that_is_not_the_last_says_so():
    result = simulate("OCS -n 1000 -o array --shard-size 100 --shard 2/3 --json")
    assert "job 2 of 3 has made its shards" in result.stderr
    assert as_json(result) == {"file": "array", "job": "2/3", "complete": False}


def test_frames_come_in_their_order(tmp_path):
    tmp_path.joinpath("two.xyz").write_text(
        "2\n\nH 0 0 0\nF 0 0 1.0\n2\n\nH 0 0 0\nF 0 0 2.0\n"
    )
    simulate("two.xyz -n 4 -o a.h5 --ensemble frames")
    x = dataset.open("a.h5")["initial_positions"]
    length = np.linalg.norm(x[:, 0] - x[:, 1], axis=1)
    assert length / length[0] == pytest.approx([1, 2, 1, 2])


def test_plots_from_files(tmp_path):
    simulate(f"OCS -n 2000 -o a.h5 {GAUSSIAN}")
    simulate(f"OCS -n 2000 -o b.h5 {GAUSSIAN} --seed 2")
    simulate("CH4 -n 10 -o ch4.h5")
    for line in (
        "ker a.h5 b.h5 ch4.h5 -o ker.png",
        "newton a.h5 -o newton.pdf",
        "newton ch4.h5 --ions 1,2,3 -o ch4.svg",
        "dalitz a.h5 --ions 2,1,3 -o dalitz.png",
    ):
        coulex_(f"plot {line}")
    made = {p.name for p in tmp_path.iterdir() if p.suffix != ".h5"}
    assert made == {"ker.png", "newton.pdf", "ch4.svg", "dalitz.png"}


def test_plots_that_cannot_be_drawn(tmp_path):
    simulate("OCS -n 20 -o a.h5")
    simulate("OCS -n 20 -o bad.h5 --max-steps 1", 1)
    simulate("CO -n 5 -o co.h5")
    for line, code, message in (
        (
            "ker bad.h5 -o fig.png",
            1,
            "nothing is left to draw of 20 events; 20 with bad status",
        ),
        ("newton co.h5 -o fig.png", 1, "needs three ions, the file has 2"),
        ("dalitz co.h5 -o fig.png", 1, "needs three ions, the file has 2"),
        ("newton a.h5 --ions 1,2,9 -o fig.png", 1, "three different ions from 1 to 3"),
        ("newton a.h5 --ions O,C,S -o fig.png", 2, "three different numbers such as 1,2,3"),
        ("ker a.h5 -o fig.txt", 2, "a figure ends in .png"),
        ("ker a.h5 -o none/fig.png", 1, "none is not a folder"),
        ("ker none.h5 -o fig.png", 1, "none.h5 does not exist"),
        ("ker a.h5 -o a.png", 1, "a.png exists; --overwrite it"),
    ):
        tmp_path.joinpath("a.png").touch()
        result = coulex_(f"plot {line}", code)
        assert message in result.stderr
        assert not tmp_path.joinpath("fig.png").exists()
    coulex_("plot ker a.h5 -o a.png --overwrite")
    assert tmp_path.joinpath("a.png").stat().st_size > 10_000


def test_quickstart(tmp_path, monkeypatch):
    """With few events; the README's command makes all of them."""
    q = importlib.import_module("coulex.cli.quickstart")  # not the function of that name

    monkeypatch.setattr(q, "_EVENTS", "5e3")
    monkeypatch.setattr(q, "_EPOCHS", 1)
    result = coulex_("quickstart -o q")
    assert "5,000" in result.stdout
    made = {p.name for p in tmp_path.joinpath("q").iterdir()}
    assert made == set(q._COMMANDS)
    assert "100.00 % of 5,000, within 1e-06 Å" in result.stdout
    assert "effective in the median" in result.stdout  # the scorecard of the network
    assert "q is complete; --overwrite it" in coulex_("quickstart -o q", 1).stderr
    data = dataset.open("q/ocs.h5")
    assert data.n_events == 5000
    coulex_(f"{data.provenance['command'].removeprefix('coulex ')} -o again.h5")
    assert digest("q/ocs.h5") == digest("again.h5")
    # what is missing is made again, what is there is left
    monkeypatch.setattr(q, "_AT_LAST", "data info {out}/ocs.h5")
    before = tmp_path.joinpath("q/flow/model.json").stat().st_mtime_ns
    for name in ("corner.png", "ker.png"):
        tmp_path.joinpath(f"q/{name}").unlink()
    coulex_("quickstart -o q")
    assert {p.name for p in tmp_path.joinpath("q").iterdir()} == made
    assert tmp_path.joinpath("q/flow/model.json").stat().st_mtime_ns == before
    monkeypatch.setattr(q, "_COMMANDS", {"ocs.h5": q._COMMANDS["ocs.h5"]})
    monkeypatch.setattr(q, "_EVENTS", "100")
    coulex_("quickstart -o q --overwrite")
    assert dataset.open("q/ocs.h5").n_events == 100
