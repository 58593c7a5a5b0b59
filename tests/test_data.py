"""Batches: every event once, in the part it belongs to, in an order that can be repeated."""

import numpy as np
import pytest
import torch
from pairs import Pairs

from coulex.errors import InvalidDataError
from generative.data import PARTS, Arrays, Events, Stream, part_of

N = 20_000


def numbered(n=N):
    """Return events whose sample is their number."""
    number = np.arange(n, dtype=float)
    return Arrays({"x": np.stack([number, number], 1), "y": np.zeros((n, 3))})


def numbers(stream, **options):
    return torch.cat([batch.x[:, 0] for batch in stream.batches(512, **options)]).numpy()


def test_shares_of_the_parts():
    counts = np.bincount(part_of(1, 0, 100_000), minlength=3)
    for count, share in zip(counts, PARTS.values(), strict=True):
        assert abs(count - share * 1e5) < 5 * (1e5 * share * (1 - share)) ** 0.5


def test_the_part_of_an_event_is_its_own():
    assert (part_of(1, 0, 1000)[300:400] == part_of(1, 300, 100)).all()
    assert (part_of(1, 0, 1000) != part_of(2, 0, 1000)).any()


def test_parts_are_disjoint_and_complete():
    seen = [numbers(Stream(numbered(), Pairs(), part, seed=1)) for part in PARTS]
    assert sorted(np.concatenate(seen)) == list(range(N))


@pytest.mark.parametrize("pool_bytes", [1 << 29, 1])
def test_an_epoch_has_every_event_once(pool_bytes):
    stream = Stream(numbered(), Pairs(), "train", seed=1, pool_bytes=pool_bytes)
    in_order, shuffled = numbers(stream), numbers(stream, epoch=0)
    assert (np.diff(in_order) > 0).all()
    assert len(in_order) == stream.n
    assert (sorted(shuffled) == in_order).all()
    assert (shuffled != in_order).mean() > 0.9
    assert (numbers(stream, epoch=1) != shuffled).mean() > 0.9


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("pool_bytes", [1 << 29, 1])
def test_an_epoch_can_be_repeated_and_entered(noise, pool_bytes):
    made = [
        Stream(numbered(), Pairs(noise=noise), "train", seed=1, pool_bytes=pool_bytes)
        for _ in range(2)
    ]
    first = numbers(made[0], epoch=3)
    numbers(made[0], epoch=2)
    assert (numbers(made[0], epoch=3) == first).all()
    assert (numbers(made[1], epoch=3, skip=5) == first[5 * 512 :]).all()


def test_noise_is_fresh_in_each_epoch_and_fixed_without():
    stream = Stream(numbered(), Pairs(noise=0.1), "train", seed=1)
    assert np.isin(numbers(stream, epoch=0), numbers(stream, epoch=1)).mean() < 0.05
    assert (numbers(stream) == numbers(stream)).all()


def test_whole_batches():
    stream = Stream(numbered(), Pairs(), "train", seed=1)
    sizes = [len(b.x) for b in stream.batches(512, epoch=0, whole=True)]
    assert sizes == [512] * (stream.n // 512)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    from typer.testing import CliRunner

    from coulex.cli import app

    path = tmp_path_factory.mktemp("data") / "ocs.h5"
    command = f"simulate OCS -n 300 --charges 2,2,2 --ensemble gaussian --sigma 0.05 -o {path}"
    assert CliRunner().invoke(app, command.split()).exit_code == 0
    return path


class Plain(Pairs):
    """Positions given momenta, flat."""

    kind = "plain"
    needs = ("initial_positions", "momenta")

    def encode(self, arrays, rng):
        n = len(arrays["momenta"])
        return arrays["initial_positions"].reshape(n, -1), arrays["momenta"].reshape(n, -1)


def test_a_file(file):
    source = Events(file, Plain.needs)
    stream = Stream(source, Plain(9, 9), "all", seed=1)
    batch = next(stream.batches(1000))
    assert batch.x.shape == batch.condition.shape == (300, 9)
    assert np.allclose(batch.condition.numpy().reshape(-1, 3, 3), source.data["momenta"])
    assert len(source.identity) == 64


def test_arrays_that_a_file_lacks(file):
    with pytest.raises(InvalidDataError, match="holds no initial_momenta; it holds"):
        Events(file, ("momenta", "initial_momenta"))


def test_bad_events_stay_behind(monkeypatch, file):
    source = Events(file, Plain.needs)
    good = Events.good
    monkeypatch.setattr(Events, "good", lambda s, f, n: good(s, f, n) & (np.arange(n) != 7))
    stream = Stream(source, Plain(9, 9), "all", seed=1)
    assert (stream.n, stream.n_left_out) == (299, 1)


def test_numbers_that_are_not_finite_are_named(monkeypatch, file):
    read = Events.read

    def broken(source, first, count):
        arrays = read(source, first, count)
        arrays["momenta"] = arrays["momenta"].copy()
        arrays["momenta"][41, 1, 2] = np.nan
        return arrays

    monkeypatch.setattr(Events, "read", broken)
    stream = Stream(Events(file, Plain.needs), Plain(9, 9), "all", seed=1)
    with pytest.raises(InvalidDataError, match=r"1 events .* event 41 \(row 41 of .*ocs.h5\)"):
        next(stream.batches(10))
