"""What a run leaves behind when it ends, is killed, finds no room, or meets another run."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from event_files import (
    CONFIGURATION,
    N_EVENTS,
    PROVENANCE,
    SHARD_EVENTS,
    arrays,
    begin,
    sha256,
    target,
    whole,
    write,
)

from coulex import dataset
from coulex.dataset import files
from coulex.errors import (
    CorruptFileError,
    IncompleteError,
    InvalidDataError,
    MismatchError,
    OutputError,
)

OUTPUTS = ["ocs.h5", "run"]


def digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of the output, of each file if it is a folder."""
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: sha256(file) for file in found}


@pytest.fixture(autouse=True)
def _straight(tmp_path):
    (tmp_path / "straight").mkdir()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# -- equal bytes -------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_resumed_run_has_the_bytes_of_one_that_was_not_interrupted(tmp_path, name):
    expected = digests(write(tmp_path / name))
    again = tmp_path / "again"
    again.mkdir()
    begin(again / name, 2)
    with pytest.raises(CorruptFileError, match=r"is unfinished: .*`coulex data finalize"):
        dataset.open(again / name)
    with target(again / name, resume=True, provenance={"command": "other"}) as out:
        assert [shard.number for shard in out.missing()] == [2]
        out.write(out.missing()[0], arrays(out.missing()[0]))
        assert out.finalize()
    assert digests(again / name) == expected
    assert names(again) == [name]  # neither parts nor locks are left


def test_the_bytes_do_not_depend_on_shards_or_on_the_time(tmp_path):
    write(tmp_path / "a.h5")
    time.sleep(1.1)  # HDF5 would store seconds

    def make(shard):
        one = arrays(shard)
        grown = ("initial_positions", "momenta", "status")
        return one | {name: whole(name) for name in grown}

    write(tmp_path / "b.h5", shard_events=N_EVENTS, make=make)
    assert sha256(tmp_path / "a.h5") == sha256(tmp_path / "b.h5")


def test_jobs_in_any_order_make_the_same_bytes(tmp_path):
    expected = digests(write(tmp_path / "run"))
    path = tmp_path / "jobs"
    made = []
    for k in (2, 1):
        with target(path, job=(k, 2)) as out:
            made.append([shard.number + 1 for shard in out.missing()])
            for shard in out.missing():
                out.write(shard, arrays(shard))
            assert out.finalize() == (k == 1)  # the last one completes it
    assert made == [[2], [1, 3]]  # job k makes the shards k modulo n, counted from 1
    assert digests(path) == expected


def test_finalize_completes_what_the_jobs_left(tmp_path):
    path = tmp_path / "ocs.h5"
    for k in (1, 2, 3):
        begin(path, job=(k, 3))
    assert not path.exists()
    dataset.finalize(tmp_path / "ocs.h5.parts")
    assert sha256(path) == sha256(write(tmp_path / "other.h5"))
    assert dataset.finalize(path) == path  # nothing is left to do


def test_finalize_lists_the_shards_that_are_missing(tmp_path):
    begin(tmp_path / "run", 1)
    with pytest.raises(IncompleteError, match="2 of 3 shards missing: 000001, 000002"):
        dataset.finalize(tmp_path / "run")
    with (
        target(tmp_path / "run", resume=True) as out,
        pytest.raises(IncompleteError, match="--resume"),
    ):
        out.finalize()


def test_single_precision_stays_single(tmp_path):
    path = write(tmp_path / "a.h5", make=lambda shard: arrays(shard, "float32"))
    data = dataset.open(path)
    assert data["momenta"].dtype == np.float32
    assert data["masses"].dtype == np.float64
    assert np.array_equal(data["momenta"], whole("momenta").astype("float32"))


def test_predicted_bytes_are_those_of_the_arrays(tmp_path):
    with target(tmp_path / "a.h5", n=5000, shard_events=5000) as out:
        out.write(out.missing()[0], arrays(out.missing()[0]))
        out.finalize()
    size = (tmp_path / "a.h5").stat().st_size
    predicted = dataset.predicted_bytes(5000, 3)
    assert predicted == 5000 * (9 * 8 + 9 * 8 + 1)
    assert 0 < size - predicted < 2**16


# -- killed ------------------------------------------------------------------------------

KILLED = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from event_files import arrays, target
with target({path!r}, n=2000, shard_events=100, resume=True) as out:
    print("begun", flush=True)
    for shard in out.missing():
        out.write(shard, arrays(shard))
    out.finalize()
"""


@pytest.mark.parametrize("name", OUTPUTS)
def test_kill_at_any_moment_leaves_whole_shards(tmp_path, name):
    path = tmp_path / name
    here = Path(__file__).parent
    script = KILLED.format(root=str(here.parent), tests=str(here), path=str(path))
    rng = np.random.default_rng(11)
    kills = 0
    for _ in range(4):
        run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(rng.uniform(0, 0.08))
        run.kill()
        kills += run.wait() == -signal.SIGKILL
        run.stdout.close()
        work = path if name == "run" else Path(f"{path}.parts")
        for shard in work.glob("shard-*.h5"):
            with pytest.raises(CorruptFileError, match="one shard"):  # whole, if not all
                dataset.open(shard)
    assert kills > 1
    options = {"n": 2000, "shard_events": 100}
    write(path, resume=True, **options)
    assert digests(path) == digests(write(tmp_path / "straight" / name, **options))


def test_temporary_files_of_a_killed_run_are_cleared(tmp_path):
    path = tmp_path / "ocs.h5"
    begin(path, 1)
    rubbish = [
        tmp_path / "ocs.h5.parts" / ".shard-000001.h5.0123abcd.tmp",
        tmp_path / ".ocs.h5.0123abcd.tmp",
    ]
    for file in rubbish:
        file.write_bytes(b"half")
    other = tmp_path / ".elsewhere.h5.0123abcd.tmp"
    other.write_bytes(b"of another run")
    write(path, resume=True)
    assert not any(file.exists() for file in rubbish)
    assert other.exists()


@pytest.mark.parametrize("name", OUTPUTS)
def test_killed_between_publishing_and_clearing_up(tmp_path, name):
    path = write(tmp_path / name)
    expected = digests(path)
    begin(tmp_path / "straight" / name, 3)  # all shards, not finalized
    left = tmp_path / "straight" / (name if name == "run" else f"{name}.parts")
    shutil.copytree(left, tmp_path / f"{name}.parts")
    with target(path, resume=True) as out:
        assert out.missing() == []
        assert out.finalize()
    assert digests(path) == expected
    assert not (tmp_path / f"{name}.parts").exists()


# -- no room -----------------------------------------------------------------------------


@pytest.fixture
def small_disk():
    """Let no file grow beyond 5000 bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size=5000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_takes_one_line_and_no_shard(tmp_path, small_disk):
    path = tmp_path / "ocs.h5"
    expected = sha256(write(tmp_path / "expected.h5"))
    begin(path, 1)
    with target(path, resume=True) as out:
        shard = out.missing()[0]
        small_disk()
        with pytest.raises(OutputError, match=r"no room for .*: \d+ bytes needed, \d+ free"):
            out.write(shard, arrays(shard))
        small_disk(resource.RLIM_INFINITY)
    assert not path.exists()
    assert [file.name for file in (tmp_path / "ocs.h5.parts").glob("*.h5")] == [
        "shard-000000.h5"
    ]
    assert not list(tmp_path.rglob("*.tmp"))
    assert sha256(write(path, resume=True)) == expected


def test_no_room_for_the_merged_file_keeps_the_shards(tmp_path, small_disk):
    path = tmp_path / "ocs.h5"
    with target(path) as out:
        for shard in out.missing():
            out.write(shard, arrays(shard))
        small_disk(20_000)
        with pytest.raises(OutputError, match="no room for"):
            out.finalize()
        small_disk(resource.RLIM_INFINITY)
    assert not path.exists()
    dataset.finalize(path)
    assert np.array_equal(dataset.verify(path)["momenta"], whole("momenta"))


def test_space_is_checked_before_computing(tmp_path):
    with (
        target(tmp_path / "a.h5", n=10**15, shard_events=10**12) as out,
        pytest.raises(OutputError, match="290000000000000000 bytes needed"),
    ):
        out.check_space(145)


# -- what is there already ---------------------------------------------------------------


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_that_exists_is_refused(tmp_path, name):
    path = write(tmp_path / name)
    before = digests(path)
    with pytest.raises(OutputError, match="exists; --overwrite it"), target(path):
        pass
    assert digests(path) == before


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_old_output_stays_until_the_new_one_is_complete(tmp_path, name):
    path = write(tmp_path / name)
    before = digests(path)
    new = {**CONFIGURATION, "seed": 8}
    with target(path, configuration=new, overwrite=True) as out:
        for shard in out.missing():
            out.write(shard, arrays(shard))
            assert digests(path) == before
        out.finalize()
    assert dataset.verify(path).configuration["seed"] == 8
    assert names(tmp_path) == sorted([name, "straight"])


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_interrupted_overwrite_can_be_resumed(tmp_path, name):
    path = write(tmp_path / name)
    new = {**CONFIGURATION, "seed": 8}
    begin(path, 2, configuration=new, overwrite=True)
    assert dataset.verify(path).configuration["seed"] == 7
    write(path, configuration=new, resume=True)
    assert dataset.verify(path).configuration["seed"] == 8


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_unfinished_run_is_neither_continued_nor_deleted_unasked(tmp_path, name):
    path = tmp_path / name
    begin(path, 2)
    with pytest.raises(OutputError, match="an unfinished run lies in"), target(path):
        pass
    with target(path, overwrite=True, configuration={"seed": 9}) as out:
        assert len(out.missing()) == 3
    with target(path, resume=True, configuration={"seed": 9}) as out:
        assert len(out.missing()) == 3


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("shards", [1, 3])
def test_a_resumption_must_be_of_the_same_run(tmp_path, name, shards):
    path = write(tmp_path / name) if shards == 3 else tmp_path / name
    if shards == 1:
        begin(path, shards)
    new = {
        "molecule": "OCS",
        "seed": 8,
        "versions": {"coulex": "0.2.0"},
        "instructions": "avx2",
    }
    with pytest.raises(MismatchError) as caught, target(path, configuration=new, resume=True):
        pass
    assert "seed: 7 here, 8 now" in str(caught.value)
    assert "versions.coulex: '0.1.0' here, '0.2.0' now" in str(caught.value)
    assert "instructions: 'absent' here, 'avx2' now" in str(caught.value)
    assert "molecule" not in str(caught.value)
    with pytest.raises(MismatchError, match="n_events: 100 here, 60 now"):
        target(path, n=60, resume=True).__enter__()


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("job", [(1, 1), (2, 2)])
def test_an_error_before_the_first_shard_leaves_nothing(tmp_path, name, job):
    folder = tmp_path / "straight"
    with pytest.raises(ZeroDivisionError), target(folder / name, job=job):
        raise ZeroDivisionError
    assert names(folder) == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_error_keeps_what_is_finished_and_what_others_do(tmp_path, name):
    def fail(path, shards=0, **options):
        with target(path, **options) as out:
            for shard in out.missing()[:shards]:
                out.write(shard, arrays(shard))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / name, shards=1)
    with pytest.raises(OutputError, match="an unfinished run lies in"):
        target(tmp_path / name).__enter__()
    with target(tmp_path / name, resume=True) as out:
        assert [shard.number for shard in out.missing()] == [1, 2]
    other = tmp_path / "straight" / name
    with target(other, job=(1, 2)) as out:  # at work while another job of the array fails
        with pytest.raises(ZeroDivisionError):
            fail(other, job=(2, 2))
        for shard in out.missing():
            out.write(shard, arrays(shard))
    with pytest.raises(ZeroDivisionError):
        fail(other, job=(2, 2))
    with target(other, job=(2, 2)) as out:
        assert [shard.number for shard in out.missing()] == [1]


def test_a_damaged_shard_is_not_built_upon(tmp_path):
    path = tmp_path / "ocs.h5"
    begin(path, 2)
    shard = tmp_path / "ocs.h5.parts" / "shard-000001.h5"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    with pytest.raises(CorruptFileError, match="delete it and make it again"):
        target(path, resume=True).__enter__()
    shard.unlink()
    assert sha256(write(path, resume=True)) == sha256(write(tmp_path / "b.h5"))


def test_a_lost_shard_of_a_finished_folder_is_made_again(tmp_path):
    path = write(tmp_path / "run")
    expected = digests(path)
    (path / "shard-000001.h5").unlink()
    write(path, resume=True)
    assert digests(path) == expected


def test_a_strangers_folder_is_left_alone(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    (path / "thesis.tex").write_text("precious")
    for options in ({}, {"resume": True}):
        with pytest.raises(OutputError, match=r"holds thesis\.tex"), target(path, **options):
            pass
    assert names(path) == ["thesis.tex"]


@pytest.mark.parametrize("parent", ["none", "file"])
def test_a_missing_folder_is_said_before_computing(tmp_path, parent):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is no folder; make it first"):
        target(tmp_path / parent / "ocs.h5").__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder_is_said_before_computing(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        target(tmp_path / "ocs.h5").__enter__()
    tmp_path.chmod(0o700)


# -- two runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_the_second_of_two_runs_stops(tmp_path, name, options):
    path = tmp_path / name
    with target(path) as out:
        for one in (options, {"job": (1, 2)}):
            with pytest.raises(OutputError, match="is already writing .*; wait for it"):
                target(path, **one).__enter__()
        with pytest.raises(OutputError, match="a run is writing"):
            dataset.finalize(path)
        for shard in out.missing():
            out.write(shard, arrays(shard))
        out.finalize()
    assert dataset.verify(path).n_events == N_EVENTS


def test_jobs_work_side_by_side_but_not_twice(tmp_path):
    path = tmp_path / "run"
    with target(path, job=(1, 3)), target(path, job=(2, 3)) as other:
        with pytest.raises(OutputError, match="job 2 of 3 is already writing"):
            target(path, job=(2, 3)).__enter__()
        with pytest.raises(OutputError, match="a run is already writing"):
            target(path).__enter__()
        other.write(other.missing()[0], arrays(other.missing()[0]))
    with pytest.raises(OutputError, match="1 shards of this job .* --resume"):
        target(path, job=(2, 3)).__enter__()
    with pytest.raises(MismatchError, match="seed"):
        target(path, job=(3, 3), configuration={"seed": 8}).__enter__()


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(files.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="no file locks; start no second run"):
        write(tmp_path / "ocs.h5")
    assert dataset.verify(tmp_path / "ocs.h5").n_events == N_EVENTS


# -- misuse ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momenta": np.zeros((SHARD_EVENTS, 2, 3))}, r"momenta must have shape \(40, 3, 3\)"),
        ({"momenta": np.zeros((7, 3, 3))}, r"momenta must have shape \(40, 3, 3\)"),
        ({"momenta": np.zeros((SHARD_EVENTS, 3, 3), int)}, "of kind 'f', got int64"),
        ({"energy": np.zeros(SHARD_EVENTS)}, r"unknown arrays \['energy'\]"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, change, message):
    with (
        target(tmp_path / "a.h5") as out,
        pytest.raises(InvalidDataError, match=message),
    ):
        out.write(out.missing()[0], arrays(out.missing()[0]) | change)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("what", ["masses", "initial_positions"])
def test_shards_that_do_not_belong_together_are_not_joined(tmp_path, name, what):
    with target(tmp_path / name) as out:
        for shard in out.missing():
            made = arrays(shard)
            if shard.number == 1 and what == "masses":
                made["masses"] = made["masses"] + 1
            elif shard.number == 1:
                del made[what]
            out.write(shard, made)
        with pytest.raises(CorruptFileError, match="differ between|holds other arrays"):
            out.finalize()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True, "overwrite": True}, "resume or overwrite, not both"),
        ({"overwrite": True, "job": (1, 2)}, "2 jobs cannot agree who overwrites"),
        ({"job": (0, 2)}, "jobs are numbered from 1 to 2"),
        ({"job": (3, 2)}, "jobs are numbered from 1 to 2"),
        ({"n": 0}, "0 events in shards of 40"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(InvalidDataError, match=message):
        target(tmp_path / "a.h5", **options)


def test_inputs_are_left_alone_and_may_be_strided(tmp_path):
    def strided(shard):
        made = arrays(shard)
        wide = np.repeat(made["momenta"], 2, axis=0)
        wide.setflags(write=False)
        return made | {"momenta": np.asfortranarray(wide)[::2].astype(">f8")}

    data = dataset.open(write(tmp_path / "a.h5", make=strided))
    assert np.array_equal(data["momenta"], whole("momenta"))
    assert data.provenance == PROVENANCE
