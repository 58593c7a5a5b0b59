"""What a run leaves behind when it is killed, or finds no room."""

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
    OUTPUTS,
    arrays,
    begin,
    digests,
    sha256,
    target,
    whole,
    write,
)

from coulex import dataset
from coulex.errors import (
    CorruptFileError,
    OutputError,
)


@pytest.fixture(autouse=True)
def _straight(tmp_path):
    (tmp_path / "straight").mkdir()


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
