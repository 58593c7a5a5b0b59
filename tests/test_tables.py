"""Tables of events: names of columns, units, numbers to and fro exactly, and bad ones."""

import time

import numpy as np
import pytest
from event_files import N_EVENTS, arrays, whole, write
from exchanging import DECLARED, PUBLISHED, UNITS, one_block, run, table

from coulex import dataset
from coulex.dataset import exchange
from coulex.dataset.exchange.labels import hill_order, recognise
from coulex.errors import InvalidDataError
from coulex.units import ANGSTROM, KG_M_PER_S


@pytest.fixture
def events(tmp_path):
    return write(tmp_path / "ocs.h5")


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
