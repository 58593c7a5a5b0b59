"""Events to and from the files of others, and the commands that do it."""

import json
import zipfile

import h5py
import numpy as np
import pytest
from ase.io import read as ase_read
from event_files import N_EVENTS, SHARD_EVENTS, arrays, begin, sha256, whole, write
from exchanging import DECLARED, PUBLISHED, UNITS, one_block, run, table

from coulex import dataset
from coulex.dataset import exchange
from coulex.errors import CorruptFileError, InvalidDataError, OutputError
from coulex.units import ANGSTROM, KG_M_PER_S


@pytest.fixture
def events(tmp_path):
    return write(tmp_path / "ocs.h5")


# -- npz ---------------------------------------------------------------------------------


def test_npz_goes_out_and_comes_back_exactly(tmp_path):
    path = write(tmp_path / "run")
    for name in ("a.npz", "b.npz"):
        exchange.export_events(dataset.open(path), tmp_path / name)
    assert sha256(tmp_path / "a.npz") == sha256(tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as file:
        assert np.array_equal(file["momenta"], whole("momenta"))
        assert str(file["momenta_units"]) == "atomic unit of momentum"
    run("import", tmp_path / "a.npz", "-o", tmp_path / "c.h5")
    data = dataset.open(tmp_path / "c.h5")
    assert all(np.array_equal(data[name], dataset.open(path)[name]) for name in data.names)


def test_npz_without_units_needs_them_declared(tmp_path):
    np.savez(tmp_path / "x.npz", momenta=np.ones((4, 2, 3)), charges=np.ones(2))
    with pytest.raises(InvalidDataError, match="--momentum-units"):
        exchange.read_source(tmp_path / "x.npz")
    source = exchange.read_source(tmp_path / "x.npz", momentum_units="kg m/s")
    assert np.array_equal(one_block(source)["momenta"], np.full((4, 2, 3), KG_M_PER_S))
    run("import", tmp_path / "x.npz", "-o", tmp_path / "x.h5", *DECLARED, code=1)
    given = ["--charges", "O=1,H=1"]
    run("import", tmp_path / "x.npz", "-o", tmp_path / "x.h5", *DECLARED, *given)
    assert dataset.open(tmp_path / "x.h5")["numbers"].tolist() == [8, 1]


def test_npz_with_pickles_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", momenta=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CorruptFileError, match="Python objects, which are never loaded"):
        exchange.read_source(tmp_path / "x.npz", **UNITS)


def test_npz_with_an_absurd_shape_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", momenta=np.ones((4, 2, 3)))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        member = archive.read("momenta.npy")
    wrong = member.replace(b"(4, 2, 3), }" + b" " * 12, b"(4000000000000, 2, 3), }")
    assert len(wrong) == len(member)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("momenta.npy", wrong)
    with pytest.raises(CorruptFileError, match=r"claims shape \(4000000000000, 2, 3\)"):
        exchange.read_source(tmp_path / "x.npz", **UNITS)


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_truncated_npz_is_refused(tmp_path, size):
    np.savez(tmp_path / "x.npz", momenta=np.ones((40, 2, 3)))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data[:size])
    with pytest.raises(CorruptFileError, match="not a whole npz"):
        exchange.read_source(tmp_path / "x.npz", **UNITS)


def test_npz_with_nan_is_refused_unless_the_status_says_so(tmp_path):
    momenta = np.ones((4, 2, 3))
    momenta[2, 1, 1] = np.nan
    np.savez(tmp_path / "x.npz", momenta=momenta)
    with pytest.raises(InvalidDataError, match="momenta of event 2 is not finite"):
        exchange.read_source(tmp_path / "x.npz", **UNITS)
    status = np.array([0, 0, 3, 0], np.uint8)
    np.savez(tmp_path / "x.npz", momenta=momenta, status=status)
    assert exchange.read_source(tmp_path / "x.npz", **UNITS).n_events == 4


# -- extxyz ------------------------------------------------------------------------------


def test_extxyz_is_what_ase_reads(tmp_path, events):
    out = tmp_path / "ocs.extxyz"
    exchange.export_events(dataset.open(events), out)
    frames = ase_read(out, index=":")
    assert len(frames) == N_EVENTS
    assert frames[7].get_chemical_symbols() == ["O", "C", "S"]
    assert frames[7].info["event"] == 7
    close = pytest.approx(whole("initial_positions")[7], rel=1e-14)
    assert frames[7].positions * ANGSTROM == close
    assert np.array_equal(frames[7].arrays["momenta_au"], whole("momenta")[7])


def test_extxyz_comes_back(tmp_path, events):
    exchange.export_events(dataset.open(events), tmp_path / "a.extxyz")
    run("import", tmp_path / "a.extxyz", "-o", tmp_path / "b.h5", "--charges", "2,2,2")
    data = dataset.open(tmp_path / "b.h5")
    assert np.array_equal(data["momenta"], whole("momenta"))
    assert data["initial_positions"] == pytest.approx(whole("initial_positions"), rel=1e-14)
    assert data["charges"].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no frame|not an extxyz"),
        ("2\nnan\nH 0 0 nan\nH 0 0 1\n", r"atom 0 \(H\) in frame 0 is not finite"),
        ("2\n\nH 0 0 1\nH 0 0 1.01\n", r"atoms 0 \(H\) and 1 \(H\) coincide in frame 0"),
        ("2\nunits=bohr\nH 0 0 0\nH 0 0 1\n", "speaks of bohr, .* --position-units"),
        ("2\n\nH 0 0 0\nH 0 0 1\n2\n\nH 0 0 0\nO 0 0 1\n", "frame 1 is HO, frame 0 H2"),
        ("2\n\nH 0 0 0\n", "not an extxyz"),
    ],
)
def test_what_ase_would_read_in_silence(tmp_path, text, message):
    path = table(tmp_path / "x.xyz", text)
    with pytest.raises(InvalidDataError, match=message):
        exchange.read_source(path)


def test_bohr_can_be_declared(tmp_path):
    path = table(tmp_path / "x.xyz", "2\nunits=bohr\nH 0 0 0\nH 0 0 1.4\n")
    block = one_block(exchange.read_source(path, position_units="bohr"))
    assert block["initial_positions"].tolist() == [[[0, 0, 0], [0, 0, 1.4]]]


# -- both ways ---------------------------------------------------------------------------


def test_events_that_failed_stay_behind_where_there_is_no_status(tmp_path):
    def make(shard):
        made = arrays(shard)
        made["status"][3] = 2
        made["momenta"][3] = np.nan
        return made

    data = dataset.open(write(tmp_path / "a.h5", make=make))
    good = N_EVENTS - 3  # one in each shard
    for name, expected in (("a.csv", good), ("a.extxyz", good), ("a.npz", N_EVENTS)):
        assert exchange.export_events(data, tmp_path / name) == expected
    assert len((tmp_path / "a.csv").read_text().splitlines()) == good + 1
    assert "nan" not in (tmp_path / "a.csv").read_text()
    result = run("export", tmp_path / "a.h5", "-o", tmp_path / "b.csv")
    assert "3 of 100 events have a status other than 0: left out" in result.stderr


def test_export_replaces_only_when_told(tmp_path, events):
    out = table(tmp_path / "a.csv", "precious")
    with pytest.raises(OutputError, match="exists; --overwrite it"):
        exchange.export_events(dataset.open(events), out)
    assert out.read_text() == "precious"
    exchange.export_events(dataset.open(events), out, overwrite=True)
    assert out.read_text().startswith(PUBLISHED)


def test_a_damaged_set_leaves_no_export(tmp_path, events):
    data = dataset.open(events)
    stored = data.parts[0].stored["momenta"]
    content = bytearray(events.read_bytes())
    content[stored.offset + 5] ^= 1
    events.write_bytes(content)
    run("export", events, "-o", tmp_path / "a.csv", code=4)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ocs.h5"]


def test_foreign_hdf5_is_imported(tmp_path):
    with h5py.File(tmp_path / "lab.h5", "w") as file:
        file["momenta"] = np.full((4, 2, 3), 1e-24)
        file["momenta"].attrs["units"] = "kg m/s"
        file["charges"] = np.ones(2)
        file["charges"].attrs["units"] = "e"
    run("import", tmp_path / "lab.h5", "-o", tmp_path / "a.h5", "--charges", "O=1,H=1")
    data = dataset.open(tmp_path / "a.h5")
    assert np.array_equal(data["momenta"], np.full((4, 2, 3), 1e-24 * KG_M_PER_S))
    assert data.units["momenta"] == "atomic unit of momentum"


def test_unknown_suffixes_are_refused(tmp_path, events):
    with pytest.raises(InvalidDataError, match=r"a\.root: .* ends in \.csv, \.npz or"):
        exchange.export_events(dataset.open(events), tmp_path / "a.root")


# -- commands ----------------------------------------------------------------------------


def test_info(tmp_path, events):
    found = json.loads(run("info", events, "--json").stdout)
    assert (found["events"], found["ions"], found["atoms"]) == (N_EVENTS, 3, ["O", "C", "S"])
    assert found["status"] == {"0": N_EVENTS}
    assert found["arrays"]["momenta"]["units"] == "atomic unit of momentum"
    assert found["configuration"]["seed"] == 7
    text = run("info", events).stdout
    assert "atomic unit of momentum" in text
    assert "O C S" in text


def test_verify_ends_with_4_when_a_bit_is_flipped(events):
    assert json.loads(run("verify", events, "--json").stdout)["events"] == N_EVENTS
    content = bytearray(events.read_bytes())
    content[len(content) // 2] ^= 1
    events.write_bytes(content)
    result = run("verify", events, code=4)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


def test_finalize_ends_with_3_when_shards_are_missing(tmp_path):
    begin(tmp_path / "run", 2)
    assert "1 of 3 shards missing: 000002" in run("finalize", tmp_path / "run", code=3).stderr
    begin(tmp_path / "run", 3, resume=True)
    found = json.loads(run("finalize", tmp_path / "run", "--json").stdout)
    assert found["events"] == N_EVENTS
    assert dataset.open(tmp_path / "run").parts[0].identity.count == SHARD_EVENTS


def test_nothing_there_ends_with_1(tmp_path):
    assert "does not exist" in run("info", tmp_path / "none.h5", code=1).stderr


def test_import_needs_charges(tmp_path):
    path = table(tmp_path / "x.csv", "phx,phy,phz,pox,poy,poz\n1,2,3,4,5,6\n")
    result = run("import", path, "-o", tmp_path / "x.h5", *DECLARED, code=1)
    assert "say --charges" in result.stderr
