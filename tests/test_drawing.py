"""Files of draws, made with a sampler that needs no network."""

import numpy as np
import pytest
from geometries import CHARGES, MASSES, OCS, box, exact
from inverting import as_json, digest, run

from coulex import dataset, plot_geometry
from coulex.dataset import Target
from coulex.dataset.exchange import Source
from coulex.drawing import Drawing, some_of
from coulex.filling import fill

N, DRAWS = 150, 8
CONSTANTS = {"masses": MASSES, "charges": CHARGES, "numbers": OCS.numbers}


def toy(momenta, n, *, charges, masses, noise, rng):
    """Draw about minus the momenta; every value says what it was made of."""
    x = -0.01 * momenta[:, None] + 0.1 * rng.normal(size=(len(momenta), n, *momenta.shape[1:]))
    return x, -x.sum(axis=(2, 3))


def source(**arrays):
    held = {"initial_positions": box(1, N)}
    held |= {"momenta": exact(held["initial_positions"])} | arrays

    def blocks(size):
        for first in range(0, N, size):
            yield {name: array[first : first + size] for name, array in held.items()}

    return Source("test", N, ("O", "C", "S"), CONSTANTS, tuple(held), blocks)


def drawing(**options):
    known = {"source": source(), "constants": CONSTANTS, "origin": {}, "sampler": toy}
    return Drawing(**{**known, "described": {"model": "toy"}, "draws": DRAWS, **options})


def write(path, made, *, shard_events=40, shards=None, **options):
    """Write a file, or its first few shards."""
    about = made.configuration(), {}, made.source.n_events
    with Target(path, *about, shard_events=shard_events, **options) as target:
        left = iter(range(10**6 if shards is None else shards))
        ends = {"block": 10, "stop": lambda: next(left, None) is None}
        _, _, stopped = fill(target, made.source, made.constants, made.events, **ends)
        if not stopped:
            target.finalize()
    return dataset.open(path) if not stopped else None


def test_a_file_of_draws_is_one_of_solutions(tmp_path):
    data = write(tmp_path / "draws.h5", drawing())
    assert (data["n_solutions"] == DRAWS).all()
    assert np.array_equal(data["solution_event"], np.repeat(np.arange(N), DRAWS))
    x = data["solution_positions"].reshape(N, DRAWS, 3, 3)
    assert np.abs(data["positions"] - x.mean(axis=1)).max() < 1e-14
    assert np.abs(data["solution_log_density"] + x.sum(axis=(2, 3)).ravel()).max() < 1e-14
    assert (data["solution_weight"] == 1 / DRAWS).all()
    assert data.configuration["sampler"] == {"model": "toy"}
    assert np.abs(x - -0.01 * data["momenta"][:, None]).std() == pytest.approx(0.06, rel=0.1)


def test_what_reads_solutions_reads_draws(tmp_path):
    data = write(tmp_path / "draws.h5", drawing())
    said = as_json(run(f"validate {tmp_path / 'draws.h5'} --json"))
    assert said["solutions"] == N * DRAWS
    assert said["residual"]["median"] > 0.1
    assert said["truths"] == N
    plot_geometry.geometry(data)
    run(f"data export {tmp_path / 'draws.h5'} -o {tmp_path / 'draws.csv'}")
    assert len((tmp_path / "draws.csv").read_text().splitlines()) == 1 + N * DRAWS


def test_draws_depend_on_the_seed_and_on_nothing_else(tmp_path):
    paths = [tmp_path / f"{k}.h5" for k in range(3)]
    write(paths[0], drawing())
    assert write(paths[1], drawing(), shards=7) is None
    write(paths[1], drawing(), resume=True)
    write(paths[2], drawing(seed=2))
    assert digest(paths[0]) == digest(paths[1]) != digest(paths[2])


def test_events_without_momenta_have_no_draws(tmp_path):
    p = exact(box(1, N))
    p[3], p[5, 0, 0] = 0, np.nan
    status = np.zeros(N, np.uint8)
    status[7] = 1
    data = write(tmp_path / "draws.h5", drawing(source=source(momenta=p, status=status)))
    assert np.flatnonzero(data["n_solutions"] == 0).tolist() == [3, 5, 7]
    assert np.isnan(data["positions"][[3, 5, 7]]).all()
    run(f"validate {tmp_path / 'draws.h5'}")


def test_draws_that_are_not_finite_are_left_out(tmp_path):
    def broken(momenta, n, **options):
        x, log_q = toy(momenta, n, **options)
        x[:, 1] = np.nan
        x[2] = np.inf
        return x, log_q

    data = write(tmp_path / "draws.h5", drawing(sampler=broken))
    assert set(data["n_solutions"]) == {0, DRAWS - 1}
    assert np.isfinite(data["solution_positions"]).all()
    known = data["n_solutions"] > 0
    assert np.isfinite(data["positions"][known]).all()


def test_noise_is_added_once_and_has_no_sum(tmp_path):
    data = write(tmp_path / "draws.h5", drawing(noise=0.02, add_noise=True))
    p, clean = data["momenta"], exact(box(1, N))
    assert np.abs(p.sum(axis=1)).max() < 1e-11
    size = np.linalg.norm(clean, axis=2, keepdims=True)
    off = ((p - clean) / size)[:, 0].std(axis=0)
    # the sum that is taken out by variance takes the share v_i / Σv of an ion's own
    expected = 0.02 * np.sqrt((1 - size[:, 0] ** 2 / (size**2).sum(axis=1)).mean())
    assert np.abs(off - expected).max() < 4 * expected / np.sqrt(2 * N)
    told = write(tmp_path / "told.h5", drawing(noise=0.02))
    assert np.abs(told["momenta"] - clean).max() < 1e-9


def test_what_a_network_never_saw_is_flagged(tmp_path):
    def outside(momenta, noise):
        return momenta[:, 0, 0] > 0

    data = write(tmp_path / "draws.h5", drawing(outside=outside))
    assert np.array_equal(data["outside_training"], data["momenta"][:, 0, 0] > 0)


def test_a_sampler_without_density_and_one_of_wrong_shape(tmp_path):
    data = write(tmp_path / "a.h5", drawing(sampler=lambda *a, **k: (toy(*a, **k)[0], None)))
    assert "solution_log_density" not in data
    with pytest.raises(ValueError, match="must return"):
        write(tmp_path / "b.h5", drawing(sampler=lambda p, n, **k: (p[:, None], None)))
    assert not (tmp_path / "b.h5").exists()


def test_some_events_of_a_source():
    whole = source()
    kept = some_of(whole, lambda first, count: np.arange(first, first + count) % 3 == 1)
    assert kept.n_events == 50
    for size in (7, 50, 1000):
        blocks = list(kept.blocks(size))
        assert all(len(b["momenta"]) == size for b in blocks[:-1])
        joined = np.concatenate([b["momenta"] for b in blocks])
        assert np.array_equal(joined, exact(box(1, N))[1::3])
    few = some_of(kept, most=20)
    assert few.n_events == 20
    assert [len(b["momenta"]) for b in few.blocks(8)] == [8, 8, 4]
