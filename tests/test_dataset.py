"""What a file of events promises its readers, and every way in which one can be bad."""

import json
import pickle
import struct

import h5py
import numpy as np
import pytest
from event_files import (
    CONFIGURATION,
    N_EVENTS,
    PROVENANCE,
    SHARD_EVENTS,
    change,
    edit_manifest,
    whole,
    write,
)

from coulex import dataset
from coulex.errors import CorruptFileError, InvalidDataError
from coulex.units import ANGSTROM, KG_M_PER_S, U

FLOATS = ("initial_positions", "momenta")


@pytest.fixture
def single(tmp_path):
    return write(tmp_path / "ocs.h5")


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "run")


@pytest.fixture(params=["ocs.h5", "run"])
def either(request, tmp_path):
    return write(tmp_path / request.param)


def flip(path, at: int, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def foreign(path, **options):
    """Write a file as another program would; leave out what is None."""
    kinds = {"momenta": "kg m/s", "charges": "e", "initial_positions": "angstrom"}
    with h5py.File(path, "w") as file:
        for name, unit in kinds.items():
            shape = (5, 3) if name == "charges" else (5, 3, 3)
            file.create_dataset(
                name, data=np.arange(np.prod(shape), dtype=float).reshape(shape)
            )
            if options.get(name, unit) is not None:
                file[name].attrs["units"] = options.get(name, unit)
    return path


# -- reading what is right ---------------------------------------------------------------


def test_what_was_written_is_read(either):
    data = dataset.open(either)
    assert (data.n_events, data.ions) == (N_EVENTS, 3)
    assert (data.configuration, data.provenance) == (CONFIGURATION, PROVENANCE)
    assert data.units["momenta"] == "atomic unit of momentum"
    for name in FLOATS:
        assert np.array_equal(data[name], whole(name))
    assert data["charges"].tolist() == [2, 2, 2]


def test_rows_across_shards(either):
    rows = dataset.open(either).read("momenta", SHARD_EVENTS - 3, 7)
    assert np.array_equal(rows, whole("momenta")[SHARD_EVENTS - 3 : SHARD_EVENTS + 4])
    assert dataset.open(either).read("momenta", 5, 0).shape == (0, 3, 3)


def test_blocks_cover_every_event_once(either):
    data = dataset.open(either)
    blocks = list(data.blocks(["momenta", "charges"], 33))
    assert [first for first, _ in blocks] == [0, 33, 66, 99]
    assert np.array_equal(np.concatenate([b["momenta"] for _, b in blocks]), whole("momenta"))
    assert all(b["charges"].shape == (3,) for _, b in blocks)


def test_maps_are_read_only_and_aligned(either):
    maps = dataset.open(either).map("momenta")
    assert np.array_equal(np.concatenate(maps), whole("momenta"))
    assert all(isinstance(m, np.memmap) and not m.flags.writeable for m in maps)
    assert all(m.ctypes.data % 64 == 0 for m in maps)


def test_plain_h5py_reads_it_at_the_offset_it_says(single):
    with h5py.File(single, "r") as file:
        momenta = file["momenta"]
        assert momenta.chunks is None
        assert momenta.compression is None
        assert np.array_equal(momenta[:], whole("momenta"))
        assert json.loads(file.attrs["configuration"]) == CONFIGURATION
        at, shape = momenta.id.get_offset(), momenta.shape
    mapped = np.memmap(single, np.float64, "r", at, shape)
    assert np.array_equal(mapped, whole("momenta"))


def test_a_dataset_travels_to_workers(either):
    again = pickle.loads(pickle.dumps(dataset.open(either)))
    assert np.array_equal(again["momenta"], whole("momenta"))


def test_read_only_media_without_locks(single, monkeypatch):
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")
    real = h5py.File

    def no_locks(*args, **options):
        assert options.get("locking") is False
        return real(*args, **options)

    monkeypatch.setattr(h5py, "File", no_locks)
    assert dataset.open(single).n_events == N_EVENTS


def test_wrong_names_and_rows_are_refused(single):
    data = dataset.open(single)
    with pytest.raises(InvalidDataError, match="holds no 'momentum'; it holds masses"):
        data["momentum"]
    with pytest.raises(InvalidDataError, match="100 rows, not 90 to 110"):
        data.read("momenta", 90, 20)


def test_verify_is_content_with_what_is_right(either):
    assert dataset.verify(either).n_events == N_EVENTS


# -- files of others ---------------------------------------------------------------------


def test_a_foreign_file_is_converted(tmp_path):
    data = dataset.open(foreign(tmp_path / "lab.h5"))
    assert data.foreign
    expected = np.arange(45.0).reshape(5, 3, 3)
    assert np.array_equal(data["momenta"], expected * KG_M_PER_S)
    assert np.array_equal(data["initial_positions"], expected * ANGSTROM)
    assert np.array_equal(data["charges"], np.arange(15.0).reshape(5, 3))


def test_a_foreign_file_may_be_compressed(tmp_path):
    with h5py.File(foreign(tmp_path / "lab.h5"), "a") as file:
        file.create_dataset("masses", data=[1.0, 2, 3], chunks=(2,), compression="gzip")
        file["masses"].attrs["units"] = "u"
    data = dataset.open(tmp_path / "lab.h5")
    assert data["masses"] == pytest.approx(np.array([1, 2, 3]) * U, rel=1e-15)
    with pytest.raises(InvalidDataError, match="stored in pieces and cannot be mapped"):
        data.map("masses")


@pytest.mark.parametrize(
    ("unit", "message"),
    [(None, "momenta declares no unit; set its attribute"), ("furlong", "unknown unit")],
)
def test_foreign_units_are_never_guessed(tmp_path, unit, message):
    with pytest.raises(InvalidDataError, match=message):
        dataset.open(foreign(tmp_path / "lab.h5", momenta=unit))


def test_a_foreign_file_needs_momenta_and_charges(tmp_path):
    with h5py.File(tmp_path / "lab.h5", "w") as file:
        file["momenta"] = np.zeros((2, 3, 3))
    with pytest.raises(CorruptFileError, match="no charges: not a file of events"):
        dataset.open(tmp_path / "lab.h5")


def test_pieces_that_were_never_written_are_missed(tmp_path):
    with h5py.File(foreign(tmp_path / "lab.h5"), "a") as file:
        del file["momenta"]
        made = file.create_dataset("momenta", (10**15, 3, 3), "f8", chunks=(100, 3, 3))
        made.attrs["units"] = "au"
        made[:100] = 1
    with pytest.raises(CorruptFileError, match="has 1 of 10000000000000 pieces"):
        dataset.open(tmp_path / "lab.h5")


@pytest.mark.parametrize("kind", ["external", "soft", "virtual", "elsewhere"])
def test_nothing_leads_out_of_a_file(tmp_path, kind):
    path = foreign(tmp_path / "lab.h5")
    with h5py.File(foreign(tmp_path / "secret.h5"), "r") as secret:
        source = h5py.VirtualSource(secret["momenta"])
    with h5py.File(path, "a") as file:
        file.move("momenta", "kept")
        if kind == "external":
            file["momenta"] = h5py.ExternalLink("secret.h5", "/momenta")
        elif kind == "soft":
            file["momenta"] = h5py.SoftLink("/kept")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((5, 3, 3), "f8")
            layout[:] = source
            file.create_virtual_dataset("momenta", layout)
        else:
            outside = [("/etc/hostname", 0, 360)]
            file.create_dataset("momenta", (5, 3, 3), "f8", external=outside)
        if kind in ("virtual", "elsewhere"):
            file["momenta"].attrs["units"] = "au"
    with pytest.raises(CorruptFileError, match="copy the data in"):
        dataset.open(path)


# -- damage ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 5000, -9000, -1])
def test_truncated_files_are_refused(single, size):
    data = single.read_bytes()
    single.write_bytes(data[:size])
    with pytest.raises(CorruptFileError, match=r"empty|not a whole|not whole|damaged|missing"):
        dataset.open(single)


def test_what_is_not_hdf5_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    path.write_text("momenta,charges\n1,2\n" * 100)
    with pytest.raises(CorruptFileError, match="not a whole HDF5 file"):
        dataset.open(path)


def test_what_does_not_exist_is_said(tmp_path):
    with pytest.raises(InvalidDataError, match="does not exist"):
        dataset.open(tmp_path / "none.h5")


@pytest.mark.parametrize("name", FLOATS)
def test_a_flipped_bit_is_found_at_first_read_and_by_verify(either, name):
    part = dataset.open(either).parts[-1]
    flip(part.path, part.stored[name].offset + 137, 3)
    with pytest.raises(CorruptFileError, match=r"damaged"):
        dataset.verify(either)
    data = dataset.open(either)
    for read in (data.__getitem__, data.map, lambda n: list(data.blocks([n]))):
        with pytest.raises(CorruptFileError, match=f"{name} is damaged, its SHA-256 differs"):
            read(name)


def test_every_flipped_bit_of_the_headers_is_found(single):
    """HDF5 alone loops for ever on some of these: the seal has to come first."""
    good = single.read_bytes()
    stored = dataset.open(single).parts[0].stored.values()
    inside = [range(s.offset, s.offset + s.column.nbytes) for s in stored]
    headers = [i for i in range(len(good)) if not any(i in array for array in inside)]
    for at in headers[:: len(headers) // 400]:
        flip(single, at, at % 8)
        with pytest.raises(CorruptFileError):
            dataset.open(single)
        single.write_bytes(good)


def test_a_wrong_shape_is_refused_before_any_allocation(tmp_path):
    with h5py.File(foreign(tmp_path / "lab.h5"), "a") as file:
        del file["momenta"]
        file.create_dataset("momenta", (2**50, 3, 3), "f8").attrs["units"] = "au"
    with pytest.raises(CorruptFileError, match=r"claims \d{17} bytes of a file of \d{4}"):
        dataset.open(tmp_path / "lab.h5")


def test_an_array_beyond_the_end_of_its_file_is_refused(tmp_path):
    """Old headers have no checksum: five events become 2^40; new HDF5 libraries notice too."""
    path = foreign(tmp_path / "lab.h5")
    for _ in range(path.read_bytes().count(struct.pack("<QQQ", 5, 3, 3))):
        change(path, struct.pack("<QQQ", 5, 3, 3), struct.pack("<QQQ", 2**40, 3, 3))
    with pytest.raises(CorruptFileError, match="claims 7916|invalid dataset size"):
        dataset.open(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((5, 9), "f8", r"momenta must have shape \(5, 3, 3\), got \(5, 9\)"),
        ((5, 4, 3), "f8", r"momenta must have shape \(5, 3, 3\), got \(5, 4, 3\)"),
        ((5, 3, 3), "i8", "momenta must be of kind 'f', got int64"),
    ],
)
def test_wrong_shapes_and_types_are_refused(tmp_path, shape, dtype, message):
    with h5py.File(foreign(tmp_path / "lab.h5"), "a") as file:
        del file["momenta"]
        file["momenta"] = np.zeros(shape, dtype)
        file["momenta"].attrs["units"] = "au"
    with pytest.raises(CorruptFileError, match=message):
        dataset.open(tmp_path / "lab.h5")


@pytest.mark.parametrize("key", ["configuration", "sha256", "n_events", "format_version"])
def test_a_missing_attribute_is_named(single, key):
    with h5py.File(single, "a") as file:
        del file.attrs[key]
    with pytest.raises(CorruptFileError, match=f"attribute '{key}' of / is missing"):
        dataset.open(single)


def test_a_changed_configuration_is_found(single):
    change(single, b'"seed": 7', b'"seed": 8')
    with pytest.raises(CorruptFileError, match="the headers are damaged"):
        dataset.open(single)


def test_a_newer_format_names_the_version_it_needs(single, folder):
    with h5py.File(single, "a") as file:
        file.attrs["format_version"] = 2
        file.attrs["needs"] = "3.1"
    with pytest.raises(CorruptFileError, match=r"needs coulex >= 3\.1"):
        dataset.open(single)
    edit_manifest(folder, lambda m: m.update(format_version=2, needs="3.1"))
    with pytest.raises(CorruptFileError, match=r"needs coulex >= 3\.1"):
        dataset.open(folder)


def test_a_swap_under_an_open_set_is_noticed(single, tmp_path):
    data = dataset.open(single)
    other = write(tmp_path / "other.h5", n=60)
    other.rename(single)
    with pytest.raises(CorruptFileError, match="changed while it was open"):
        data["momenta"]
