"""Folders of shards: what their manifest promises, and every way in which one can be bad."""

import numpy as np
import pytest
from event_files import change, edit_manifest, write

from coulex import dataset
from coulex.errors import CorruptFileError


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "run")


def test_missing_shards_are_listed(folder):
    for number in (0, 2):
        (folder / f"shard-{number:06d}.h5").unlink()
    with pytest.raises(CorruptFileError, match="lacks 2 of 3 shards: 000000, 000002"):
        dataset.open(folder)


def test_a_shard_alone_is_not_the_set(folder):
    with pytest.raises(CorruptFileError, match="one shard, events 40 to 79 of 100"):
        dataset.open(folder / "shard-000001.h5")


def test_shards_in_each_others_place_are_noticed(folder):
    (folder / "shard-000000.h5").rename(folder / "x")
    (folder / "shard-000001.h5").rename(folder / "shard-000000.h5")
    (folder / "x").rename(folder / "shard-000001.h5")
    with pytest.raises(CorruptFileError, match="is not the shard that manifest.json lists"):
        dataset.open(folder)


@pytest.mark.parametrize(("first", "what"), [(30, "overlap"), (41, "leave a gap")])
def test_event_ranges_must_follow_one_another(folder, first, what):
    edit_manifest(folder, lambda m: m["shards"][1].update(first=first))
    with pytest.raises(CorruptFileError, match=f"event ranges {what}"):
        dataset.open(folder)


@pytest.mark.parametrize("name", ["../shard-000000.h5", "/etc/passwd", "sub/shard-000000.h5"])
def test_a_manifest_stays_in_its_folder(folder, name):
    edit_manifest(folder, lambda m: m["shards"][0].update(file=name))
    with pytest.raises(CorruptFileError, match="lists .* beside it"):
        dataset.open(folder)


def test_a_changed_manifest_is_found(folder):
    change(folder / "manifest.json", b'"seed": 7', b'"seed": 8')
    with pytest.raises(CorruptFileError, match="its SHA-256 differs"):
        dataset.open(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"shards": ', "[" * 10**5])
def test_a_manifest_that_is_no_object_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CorruptFileError, match="is not JSON|must hold a JSON object"):
        dataset.open(folder)


def test_an_exchanged_shard_is_found_by_verify(folder, tmp_path):
    """Sound in itself, of the same run and range, and yet not the file of the manifest."""
    from event_files import arrays

    def other(shard):
        return arrays(shard) | {"status": np.ones(shard.count, np.uint8)}

    write(tmp_path / "other", make=other)
    (tmp_path / "other" / "shard-000001.h5").rename(folder / "shard-000001.h5")
    with pytest.raises(CorruptFileError, match=r"SHA-256 is not the one in manifest\.json"):
        dataset.verify(folder)


def test_a_folder_of_anything_else_is_refused(tmp_path):
    with pytest.raises(CorruptFileError, match=r"no manifest\.json; it is not a folder"):
        dataset.open(tmp_path)
