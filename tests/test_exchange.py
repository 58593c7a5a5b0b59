"""Events to and from the files of others, and the commands that do it."""

import json
import time
import zipfile

import h5py
import numpy as np
import pytest
from ase.io import read as ase_read
from event_files import N_EVENTS, SHARD_EVENTS, arrays, begin, sha256, whole, write
from typer.testing import CliRunner

from coulex import dataset
from coulex.cli.data import app
from coulex.dataset import exchange
from coulex.dataset.exchange.labels import hill_order, recognise
from coulex.errors import CorruptFileError, InvalidDataError, OutputError
from coulex.units import ANGSTROM, KG_M_PER_S

#: the header of the published OCS sets
PUBLISHED = "cx,cy,cz,ox,oy,oz,sx,sy,sz,pcx,pcy,pcz,pox,poy,poz,psx,psy,psz"
UNITS = {"position_units": "bohr", "momentum_units": "au"}
DECLARED = ["--position-units", "bohr", "--momentum-units", "au"]


@pytest.fixture
def events(tmp_path):
    return write(tmp_path / "ocs.h5")


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def table(path, text):
    path.write_text(text)
    return path


def one_block(source):
    return next(source.blocks(source.n_events))


# -- names of columns --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbols", "ordered", "labels"),
    [
        ("OCS", "COS", "c o s"),
        ("HCHHH", "CHHHH", "c h1 h2 h3 h4"),
        (["H", "O", "H"], ["H", "H", "O"], "h1 h2 o"),
        (["F", "Br", "C", "Cl", "H"], ["C", "H", "Br", "Cl", "F"], "c h br cl f"),
    ],
)
def test_hill_order_and_labels(symbols, ordered, labels):
    order = hill_order(list(symbols))
    assert [symbols[i] for i in order] == list(ordered)
    assert exchange.labels([symbols[i] for i in order]) == labels.split()


def test_the_published_header_is_recognised():
    positions, momenta = recognise(PUBLISHED.split(","))
    assert [symbol for symbol, _ in positions] == ["C", "O", "S"]
    assert momenta[1] == ("O", ("pox", "poy", "poz"))


@pytest.mark.parametrize(
    ("header", "positions", "momenta"),
    [
        ("PH1X,ph1y,ph1z,ph2x,ph2y,ph2z", None, ["H", "H"]),
        ("px,py,pz,ppx,ppy,ppz", ["P"], ["P"]),  # phosphorus, and its momentum
        ("pbx,pby,pbz", None, ["B"]),  # not lead: a list of momenta
        ("brx,bry,brz", ["Br"], None),
    ],
)
def test_headers(header, positions, momenta):
    found = recognise(header.split(","))
    named = [
        None if columns is None else [symbol for symbol, _ in columns] for columns in found
    ]
    assert named == [positions, momenta]


# -- tables ------------------------------------------------------------------------------


def test_csv_goes_out_and_comes_back_exactly(tmp_path, events):
    out = tmp_path / "ocs.csv"
    assert exchange.export_events(dataset.open(events), out) == N_EVENTS
    assert out.read_text().splitlines()[0] == PUBLISHED
    run("import", out, "-o", tmp_path / "b.h5", "--charges", "C=2,O=2,S=2", *DECLARED)
    data = dataset.open(tmp_path / "b.h5")
    for name in ("initial_positions", "momenta"):
        assert np.array_equal(data[name], whole(name)[:, [1, 0, 2]])  # O C S to C O S
    assert data["numbers"].tolist() == [6, 8, 16]
    assert data["charges"].tolist() == [2, 2, 2]
    assert data["status"].tolist() == [0] * N_EVENTS
    assert 12 * 1822 < data["masses"][0] < 12 * 1823


def test_single_precision_comes_back_exactly(tmp_path):
    path = write(tmp_path / "a.h5", make=lambda shard: arrays(shard, "float32"))
    exchange.export_events(dataset.open(path), tmp_path / "a.csv")
    back = one_block(exchange.read_source(tmp_path / "a.csv", **UNITS))["momenta"]
    assert np.array_equal(back.astype("f4"), whole("momenta").astype("f4")[:, [1, 0, 2]])


def test_declared_units_are_converted(tmp_path):
    path = table(tmp_path / "x.csv", "hx,hy,hz,phx,phy,phz\n1,2,3,1e-24,0,0\n")
    source = exchange.read_source(path, position_units="angstrom", momentum_units="kg m/s")
    block = one_block(source)
    assert np.array_equal(block["initial_positions"], np.array([[[1, 2, 3]]]) * ANGSTROM)
    assert block["momenta"][0, 0, 0] == 1e-24 * KG_M_PER_S


@pytest.mark.parametrize("missing", ["position_units", "momentum_units"])
def test_undeclared_units_are_refused(tmp_path, missing):
    path = table(tmp_path / "x.csv", "hx,hy,hz,phx,phy,phz\n1,2,3,4,5,6\n")
    option = missing.replace("_", "-")
    with pytest.raises(InvalidDataError, match=f"in which unit .* --{option}"):
        exchange.read_source(path, **{**UNITS, missing: None})


def test_measured_momenta_alone(tmp_path):
    path = table(tmp_path / "x.csv", "# pox poy poz pcx pcy pcz\n1 2 3 4 5 6\n\n7 8 9 1 2 3\n")
    source = exchange.read_source(path, momentum_units="au")
    assert (source.symbols, source.n_events) == (("O", "C"), 2)
    assert one_block(source)["momenta"].tolist()[1] == [[7, 8, 9], [1, 2, 3]]
    assert source.by_event == ("momenta",)


@pytest.mark.parametrize("columns", ["C=a,b,c;O=f,e,d", "C=2,3,4;O=7,6,5"])
def test_columns_by_name_or_number(tmp_path, columns):
    path = table(tmp_path / "x.csv", "event,a,b,c,d,e,f\n17,1,2,3,4,5,6\n")
    source = exchange.read_source(
        path, momentum_units="au", columns=exchange.parse_columns(columns)
    )
    assert source.symbols == ("C", "O")
    assert one_block(source)["momenta"].tolist() == [[[1, 2, 3], [6, 5, 4]]]


def test_a_table_without_header_is_read_by_numbers(tmp_path):
    path = table(tmp_path / "x.csv", "1;2;3\n4;5;6\n")
    with pytest.raises(InvalidDataError, match="has no header; name its columns"):
        exchange.read_source(path, momentum_units="au")
    source = exchange.read_source(
        path, momentum_units="au", columns=exchange.parse_columns("H=1,2,3")
    )
    assert source.n_events == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("phx,phy,phz\n", "has no row"),
        ("phx,phy,phz\n1,2,3\n1,2\n", "line 3: 2 fields, expected 3"),
        ("phx,phy,phz\n1,2,3,4\n", "line 2: 4 fields, expected 3"),
        ("phx,phy,phz\n1,2,3\n\n1,two,3\n", "line 4, column 2: 'two' is no number"),
        ("phx,phy,phz\n1,2,3\n1,,3\n", "line 3, column 2: '' is no number"),
        ("phx,phy,phz\n1,2,3\n1,2,nan\n", "line 3, column 3: nan; every number must be"),
        ("phx,phy,phz\n1,2,inf\n", "line 2, column 3: inf"),
        ("phx,phy\n1,2\n", "lacks phz; each ion needs x, y and z"),
        ("phx,phy,phz,phx\n1,2,3,4\n", r"several columns \['phx'\]"),
        ("event,phx,phy,phz\n1,2,3,4\n", "column 'event' is named neither like .* --columns"),
        ("pqqx,pqqy,pqqz\n1,2,3\n", "'pqqx' is named neither like"),
        ("cx,cy,cz,ox,oy,oz,pcx,pcy,pcz\n", "positions of c o, but momenta pc"),
    ],
)
def test_bad_tables_name_the_line(tmp_path, text, message):
    with pytest.raises(InvalidDataError, match=message):
        one_block(exchange.read_source(table(tmp_path / "x.csv", text), **UNITS))


@pytest.mark.parametrize("text", ["", "C=a,b", "Xx=a,b,c", "a,b,c", "C=a,,c"])
def test_bad_column_options(text):
    with pytest.raises(InvalidDataError, match="C=px1,py1,pz1"):
        exchange.parse_columns(text)


@pytest.mark.parametrize(
    ("columns", "message"), [("H=a,b,q", "no column 'q'"), ("H=a,b,b", "named twice")]
)
def test_columns_that_are_not_there(tmp_path, columns, message):
    path = table(tmp_path / "x.csv", "a,b,c\n1,2,3\n")
    with pytest.raises(InvalidDataError, match=message):
        exchange.read_source(
            path, momentum_units="au", columns=exchange.parse_columns(columns)
        )


def test_a_bad_row_leaves_no_output(tmp_path):
    path = table(tmp_path / "x.csv", "phx,phy,phz,pox,poy,poz\n1,2,3,4,5,6\n1,2,3,4,5,nan\n")
    result = run(
        *("import", path, "-o", tmp_path / "x.h5", "--charges", "1,1", *DECLARED), code=1
    )
    assert result.stderr.count("\n") == 1
    assert "line 3, column 6: nan" in result.stderr
    assert not (tmp_path / "x.h5").exists()


def test_a_large_table_takes_seconds(tmp_path):
    n = 30_000

    def make(shard):
        few = arrays(shard)
        rng = np.random.default_rng(0)
        vectors = {
            name: rng.normal(size=(n, 3, 3)) for name in ("initial_positions", "momenta")
        }
        return few | vectors

    path = write(tmp_path / "a.h5", n=n, shard_events=n, make=make)
    start = time.process_time()
    exchange.export_events(dataset.open(path), tmp_path / "a.csv")
    source = exchange.read_source(tmp_path / "a.csv", **UNITS)
    assert sum(len(block["momenta"]) for block in source.blocks(2**13)) == n
    assert (
        time.process_time() - start < 10
    )  # 1.5 s where it was written; a guard, no benchmark


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
