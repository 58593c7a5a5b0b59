"""What a run does about an output, an unfinished run or another run that is there already."""

import os

import pytest
from event_files import (
    CONFIGURATION,
    N_EVENTS,
    OUTPUTS,
    arrays,
    begin,
    digests,
    names,
    sha256,
    target,
    write,
)

from coulex import dataset
from coulex.dataset import files
from coulex.errors import (
    CorruptFileError,
    MismatchError,
    OutputError,
)


@pytest.fixture(autouse=True)
def _straight(tmp_path):
    (tmp_path / "straight").mkdir()


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
