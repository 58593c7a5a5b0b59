import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coulex import dataset
from coulex.cli import app

ROOT = Path(__file__).parent.parent
MAIN = "import sys; from coulex.cli import main; sys.argv[0] = 'coulex'; main()"
#: a second of work, in forty shards
LONG = ["OCS", "-n", "100000", "--charges", "2,2,2", "--shard-size", "2500"]
LONG += ["--ensemble", "gaussian", "--sigma", "0.1"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", os.devnull)  # see `start`


def start(*arguments, **options):
    """Start `coulex simulate` as a process of its own."""
    # no commit in the file: what is committed while these tests run shall not matter
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GIT_DIR": os.devnull}
    environment |= options.pop("environment", {})
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "simulate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def simulate(*arguments, code=0):
    result = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def shards(out):
    return sorted(Path(f"{out}.parts").glob("shard-*.h5"))


def wait_for_shards(out, count, process):
    while len(shards(out)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return the SHA-256 of the long run, and how long it took from end to end."""
    out = tmp_path_factory.mktemp("whole") / "whole.h5"
    finish(start("OCS", "-n", 1, "-o", out))  # compiles, if nothing has before
    out.unlink()
    begin = time.monotonic()
    finish(start(*LONG, "-o", out))
    return digest(out), time.monotonic() - begin


def test_twenty_kills_leave_whole_shards_and_the_same_file(uninterrupted):
    whole, seconds = uninterrupted
    moments = random.Random(20)
    killed = 0
    while killed < 20:
        process = start(*LONG, "-o", "ocs.h5", "--resume")
        # from the import of Python to the merge of the shards, wherever it is by now
        time.sleep(moments.uniform(0.2, 0.6) * seconds)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        for path in shards("ocs.h5"):
            dataset.parts.read_part(path).verify_all()
        if Path("ocs.h5").exists():  # it appears whole or not at all: start anew
            assert digest("ocs.h5") == whole
            Path("ocs.h5").unlink()
    finish(start(*LONG, "-o", "ocs.h5", "--resume"))
    assert digest("ocs.h5") == whole
    assert {path.name for path in Path().iterdir()} == {"ocs.h5"}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_stops_between_blocks_and_the_run_resumes(number, code, uninterrupted):
    process = start(*LONG, "-o", "ocs.h5")
    wait_for_shards("ocs.h5", 3, process)
    process.send_signal(number)
    _, err = finish(process, code)
    assert "the same command with --resume continues it" in err
    assert not Path("ocs.h5").exists()
    assert shards("ocs.h5")
    finish(start(*LONG, "-o", "ocs.h5", "--resume"))
    assert digest("ocs.h5") == uninterrupted[0]


def test_a_full_disk_keeps_the_shards_that_are_finished(uninterrupted):
    def small_files():  # a shard takes 0.4 MB, the whole file 16 MB
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, resource.RLIM_INFINITY))

    process = start(*LONG, "-o", "ocs.h5", preexec_fn=small_files)
    _, err = finish(process, 1)
    assert "bytes needed" in err
    assert not Path("ocs.h5").exists()
    assert len(shards("ocs.h5")) == 40
    finish(start(*LONG, "-o", "ocs.h5", "--resume"))
    assert digest("ocs.h5") == uninterrupted[0]


def test_no_room_is_noticed_before_computing():
    result = simulate("OCS", "-n", "1e15", "-o", "ocs.h5", "--shard-size", "1e12", code=1)
    assert "bytes needed" in result.stderr
    assert "preparing" not in result.stderr


def test_two_runs_into_one_target():
    longer = [*LONG, "-n", "400000", "-o", "ocs.h5"]
    first = start(*longer)
    wait_for_shards("ocs.h5", 1, first)
    first.send_signal(signal.SIGSTOP)  # or it may be done before the second has started
    try:
        _, err = finish(start(*longer, "--resume"), 1)
    finally:
        first.send_signal(signal.SIGCONT)
    assert "ocs.h5" in err
    assert "already" in err
    finish(first)
    assert dataset.verify("ocs.h5").n_events == 400_000


def test_resume_of_another_run_lists_what_differs():
    simulate("OCS", "-n", 100, "-o", "ocs.h5")
    before = digest("ocs.h5")
    result = simulate(
        *("OCS", "-n", 100, "-o", "ocs.h5", "--seed", 9, "--charges", "2,1,2", "--resume"),
        code=4,
    )
    assert "seed: 1 here, 9 now" in result.stderr
    assert "charges: [1.0, 1.0, 1.0] here, [2.0, 1.0, 2.0] now" in result.stderr
    more = simulate("OCS", "-n", 200, "-o", "ocs.h5", "--resume", code=4)
    assert "n_events: 100 here, 200 now" in more.stderr
    assert digest("ocs.h5") == before


def test_resume_by_another_version_is_refused(monkeypatch):
    simulate("OCS", "-n", 100, "-o", "ocs.h5")
    monkeypatch.setattr("coulex.production.__version__", "99.0")
    result = simulate("OCS", "-n", 100, "-o", "ocs.h5", "--resume", code=4)
    assert "versions.coulex: '0.1.0' here, '99.0' now" in result.stderr


def test_output_that_exists_is_refused_without_a_word_from_the_user():
    Path("ocs.h5").write_text("precious")
    assert "ocs.h5 exists" in simulate("OCS", "-n", 5, "-o", "ocs.h5", code=1).stderr
    assert Path("ocs.h5").read_text() == "precious"
    simulate("OCS", "-n", 5, "-o", "ocs.h5", "--overwrite")
    assert dataset.open("ocs.h5").n_events == 5


@pytest.mark.parametrize("out", ["missing/ocs.h5", "/proc/ocs.h5"])
def test_a_folder_that_cannot_be_written_is_noticed_before_computing(out):
    result = simulate("OCS", "-n", 5, "-o", out, code=1)
    assert f"cannot write {out}" in result.stderr
    assert "preparing" not in result.stderr


STRUCTURES = {
    "not finite": ("2\n\nH 0 0 0\nF 0 0 nan\n", "atom 1 (F)"),
    "too close": ("2\n\nH 0 0 0\nF 0 0 0.05\n", "--min-distance"),
    "one atom": ("1\n\nH 0 0 0\n", "1 atoms; an explosion takes at least two"),
    "no atom": ("0\n\n", ""),
    "empty": ("", "empty"),
    "dummy": ("2\n\nH 0 0 0\nX 0 0 1\n", "'X'"),
    "small": ("2\n\nH 0 0 0\nF 0 0 0.4\n", "--units bohr"),
    "large": ("2\n\nH 0 0 0\nF 0 0 50\n", "--units bohr"),
    "periodic": (
        '2\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
        "H 0 0 0\nF 0 0 1\n",
        "--ignore-cell",
    ),
    "in bohr": ("2\nin bohr\nH 0 0 0\nF 0 0 1.7\n", "--units bohr"),
}


@pytest.mark.parametrize("what", STRUCTURES)
def test_a_structure_that_is_none(what):
    text, message = STRUCTURES[what]
    Path("in.xyz").write_text(text)
    result = simulate("in.xyz", "-n", 5, "-o", "out.h5", code=1)
    assert message in result.stderr
    assert "in.xyz" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["in.xyz"]


def test_what_the_messages_advise_works():
    for what, option in (
        ("too close", ["--min-distance", "0.01", "--units", "angstrom"]),
        ("small", ["--units", "angstrom"]),
        ("periodic", ["--ignore-cell"]),
        ("in bohr", ["--units", "bohr"]),
    ):
        Path("in.xyz").write_text(STRUCTURES[what][0])
        simulate("in.xyz", "-n", 5, "-o", "out.h5", "--overwrite", *option)


def test_isotopes_of_hydrogen_are_no_unknown_symbols():
    Path("dt.xyz").write_text("2\n\nD 0 0 0\nT 0 0 0.74\n")
    simulate("dt.xyz", "-n", 5, "-o", "out.h5")
    assert dataset.open("out.h5").configuration["molecule"]["mass_numbers"] == [2, 3]


def test_a_charge_that_is_no_number_is_wrong_data():
    result = simulate("OCS", "-n", 5, "-o", "out.h5", "--charges", "2,nan,2", code=1)
    assert "atom 1 (C) has the charge nan" in result.stderr


def test_spectators_without_charge_stay_where_they_are():
    simulate("OCS", "-n", 5, "-o", "out.h5", "--charges", "1,0,1")
    p = dataset.open("out.h5")["momenta"]
    # steps are made in coordinates that expand, and rounded there
    assert np.abs(p[:, 1]).max() < 1e-14 * np.abs(p[:, 0]).max()


def test_ions_that_stay_bound_have_a_status():
    options = ["--charges", "2,-1,1", "--allow-attraction", "--json"]
    result = simulate("OCS", "-n", 5, "-o", "out.h5", *options, code=1)
    counts = json.loads(result.stdout)["status"]
    assert sum(counts.values()) == 5
    assert "good" not in counts
    assert "5 of 5 events failed" in result.stderr
    assert np.isnan(dataset.open("out.h5")["momenta"]).all()


def test_events_that_fail_are_written_and_counted():
    options = ["--max-steps", "1", "--json"]
    result = simulate("OCS", "-n", 50, "-o", "out.h5", *options, code=1)
    made = json.loads(result.stdout)
    assert made["good"] == 0
    assert sum(made["status"].values()) == 50
    assert made["ker_ev_mean"] is None
    assert "50 of 50 events failed" in result.stderr
    data = dataset.verify("out.h5")
    assert (data["status"] != 0).all()


def test_threads_are_what_the_process_may_use():
    digests = set()
    for threads in (0, 1, 1000):
        simulate("OCS", "-n", 500, "-o", "out.h5", "--overwrite", "--threads", threads)
        digests.add(digest("out.h5"))
    assert len(digests) == 1


@pytest.mark.slow
def test_without_a_cache_that_can_be_written_there_is_one_warning(tmp_path):
    # A file in the place of each __pycache__: permissions would not stop root.
    copy = tmp_path / "copy"
    for path in (ROOT / "coulex").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            (target.parent / "__pycache__").touch()
    nowhere = {"PYTHONPATH": str(copy), "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    nowhere |= {"NUMBA_CACHE_DIR": ""}
    _, err = finish(start("OCS", "-n", 5, "-o", "out.h5", environment=nowhere))
    assert err.count("warning") == 1
    assert "compiled anew" in err
    assert dataset.verify("out.h5").n_events == 5
