"""What a run leaves behind when it ends: the same bytes, whoever made them."""

import time

import numpy as np
import pytest
from event_files import (
    N_EVENTS,
    OUTPUTS,
    PROVENANCE,
    SHARD_EVENTS,
    arrays,
    begin,
    digests,
    names,
    sha256,
    target,
    whole,
    write,
)

from coulex import dataset
from coulex.errors import (
    CorruptFileError,
    IncompleteError,
    InvalidDataError,
)

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
