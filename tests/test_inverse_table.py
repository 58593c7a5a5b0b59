"""A table of all shapes of three ions: explosions are found back, by laws and by search."""

import itertools
import os

import numpy as np
import pytest
from geometries import bent, box
from scipy.optimize import least_squares

from coulex import Molecule, frames, simulate
from coulex.inverse import preimages
from coulex.inverse import table as module
from coulex.inverse.table import Table, table_of
from coulex.units import ANGSTROM, U

MASSES = np.array([15.994915, 12.0, 31.972071]) * U  # O, C, S
CHARGES = np.array([2.0, 2.0, 2.0])


@pytest.fixture(scope="module")
def table():
    return Table.build(MASSES, CHARGES)


def exact(positions, masses=MASSES, charges=CHARGES):
    return simulate(positions, masses, charges, tolerance=1e-13).momenta


def distances(positions):
    i, j = np.triu_indices(3, 1)
    return np.linalg.norm(positions[:, i] - positions[:, j], axis=2)


def nearest(event, found, positions):
    """Return the largest relative error of a distance, of the best candidate of each event."""
    error = np.abs(distances(found) / distances(positions)[event] - 1).max(axis=1)
    best = np.full(len(positions), np.inf)
    np.minimum.at(best, event, error)
    return best


def misfit(event, found, momenta, masses=MASSES, charges=CHARGES):
    """Return how far, relative, the momenta of candidates are from the targets, unrotated."""
    difference = exact(found, masses, charges) - momenta[event]
    return np.linalg.norm(difference, axis=(1, 2)) / np.linalg.norm(
        momenta[event], axis=(1, 2)
    )


def test_the_true_geometry_is_among_the_candidates(table):
    x = box(1, 5000)
    event, found = table.candidates(exact(x))
    assert np.all(np.diff(event) >= 0)
    # one of 5000 may lie so near to a fold that 1e-6 is not reached: 99.99 %, rounded up
    assert np.count_nonzero(nearest(event, found, x) > 1e-6) <= 1
    assert nearest(event, found, x).max() < 1e-4


def test_every_candidate_explodes_into_the_momenta(table):
    # orientation and size, too: momenta are compared as they are
    x = box(2, 5000)
    turned = frames.rotate(x, frames.random_rotations(3, 0, len(x)))
    p = exact(turned)
    event, found = table.candidates(p)
    assert misfit(event, found, p).max() < 10 * table.error
    assert np.abs(frames.centre_of_mass(found, MASSES)).max() < 1e-12 * np.abs(found).max()


def test_the_stated_error_holds_at_random_shapes(table):
    rng = np.random.default_rng(4)
    cell = rng.integers(len(table.cells), size=20_000)
    chart, t, dt, angle, da = table.cells[cell].T
    u, v = rng.uniform(-1, 1, (2, len(cell)))
    order, m, q = module._ratios(MASSES, CHARGES)
    truth = module._explode(chart, t + dt * u, angle + da * v, m, q, None)
    tabulated, row, slope = np.empty((len(cell), 3, 4)), *np.empty((2, preimages.ROW))
    for n, k in enumerate(cell):
        preimages._polynomials(table.coefficients[k], u[n], v[n], tabulated[n], row, slope)
    assert np.abs(tabulated[:, 0] - truth).max() < table.error
    assert table.error < 1e-8
    assert list(order) == [1, 0, 2]


def test_published_degenerate_pair(table):
    # Coulomb explosion of OCS 6+: two geometries, one set of momenta (physics.md says 3e-5)
    pair = bent([1.8949, 2.4860], [1.2990, 1.0755], [160.601, 164.568])
    event, found = table.candidates(exact(pair))
    for i in range(2):
        error = [
            np.abs(distances(found[event == i]) / distances(x[None]) - 1).max(axis=1).min()
            for x in pair
        ]
        assert max(error) < 1e-3


@pytest.mark.parametrize(
    ("degrees", "published", "events"),
    # of 3000 events, a ninth of them from 160 to 170 degrees
    [((90.0, 180.0), 0.043, 3000), ((160.0, 170.0), 0.33, 333)],
)
def test_share_of_events_with_several_geometries_of_the_box(table, degrees, published, events):
    count = 20_000
    event, found = table.candidates(exact(box(5, count, degrees)))
    bonds = distances(found)[:, [0, 2]] / ANGSTROM
    bent_enough = frames.angle(found[:, 0], found[:, 1], found[:, 2]) >= np.pi / 2
    within = bent_enough & (bonds >= 0.8 - 1e-6).all(axis=1) & (bonds <= 3 + 1e-6).all(axis=1)
    several = (np.bincount(event[within], minlength=count) > 1).mean()
    sigma = np.sqrt(published * (1 - published) * (1 / count + 1 / events))
    assert abs(several - published) < 3 * sigma


def winding_cells(target, jacobi):
    """Return the cells of a grid around whose rim the residual winds about zero."""
    z = jacobi[:, :, 0] * target[1] - jacobi[:, :, 1] * target[0]
    rim = np.stack([z[:-1, :-1], z[1:, :-1], z[1:, 1:], z[:-1, 1:], z[:-1, :-1]])
    return np.argwhere(np.abs(np.angle(rim[1:] / rim[:-1]).sum(axis=0)) > np.pi)


@pytest.mark.slow
def test_nothing_is_missed_that_a_dense_grid_finds(table):
    # An independent search: 3 × 500 × 700 shapes, and cells around whose rim the residual
    # winds once. They are polished by explosions, not by the table. Pairs of roots in one cell
    # escape the grid.
    _, m, q = module._ratios(MASSES, CHARGES)
    t, angle = np.linspace(-5, 0.01, 500), np.linspace(1e-9, np.pi - 1e-9, 700)
    grid = np.stack(np.meshgrid(t, angle, indexing="ij"), axis=-1).reshape(-1, 2)
    p = exact(box(60, 60))
    images, vectors = np.empty((len(p), 3)), np.empty((len(p), 2, 3))
    preimages.image(images, vectors, np.ascontiguousarray(p[:, table.order]), m)
    targets = vectors[:, :, 0] + 1j * vectors[:, :, 1]
    targets /= np.linalg.norm(targets, axis=1)[:, None]
    below = (targets[:, 0].conj() * targets[:, 1]).imag < 0
    targets[below] = targets[below].conj()
    event, found = table.candidates(p)
    known, missed = distances(found[:, table.order]), 0
    reached = np.zeros(len(event), bool)
    for chart in range(3):

        def numbers(shapes, chart=chart):
            charts = np.full(len(shapes), float(chart))
            flat = module._explode(charts, *shapes.T, m, q, 1)
            return flat[:, ::2] + 1j * flat[:, 1::2]

        jacobi = numbers(grid).reshape(len(t), len(angle), 2)
        for n, target in enumerate(targets):

            def residual(shape, target=target, numbers=numbers):
                z = numbers(shape[None])[0]
                z = z[0] * target[1] - z[1] * target[0]
                return z.real, z.imag

            for i, j in winding_cells(target, jacobi):
                if t[i] > module._border(angle[j]) + 0.1:
                    continue
                root = least_squares(residual, [t[i], angle[j]], xtol=1e-13, gtol=1e-13)
                if root.cost > 1e-20 or root.x[0] > module._border(root.x[1]):
                    continue  # the cell is too coarse, or the shape is another chart's
                r, o = np.exp(root.x[0]), (chart + 2) % 3
                x = np.zeros((1, 3, 3))
                x[0, (chart + 1) % 3, :2] = r * np.cos(root.x[1]), r * np.sin(root.x[1])
                x[0, o, 0] = 1.0
                sides = distances(x)[0]
                error = np.abs(known / sides / (known / sides)[:, :1] - 1).max(axis=1)
                error[event != n] = np.inf
                missed += error.min() > 1e-5
                reached[error.argmin()] = True
    assert missed == 0
    assert reached.mean() > 0.9


def test_permutations_of_the_ions_permute_the_candidates(table):
    p = exact(box(7, 200))
    event, found = table.candidates(p)
    for order in map(list, itertools.permutations(range(3))):
        other = Table.build(MASSES[order], CHARGES[order]) if order == [2, 0, 1] else None
        other = other or module.replace(
            table,
            masses=MASSES[order],
            charges=CHARGES[order],
            order=np.argsort(order)[table.order],
        )
        again, permuted = other.candidates(p[:, order])
        np.testing.assert_array_equal(again, event)
        np.testing.assert_allclose(permuted, found[:, order], rtol=0, atol=1e-9)


def test_masses_and_charges_matter_by_their_ratios(table):
    x = box(8, 200)
    p = exact(x, 7 * MASSES, 3 * CHARGES)
    scaled = Table.build(7 * MASSES, 3 * CHARGES)
    event, found = scaled.candidates(p)
    again, same = table.candidates(p / np.sqrt(7) / 3)
    np.testing.assert_array_equal(again, event)
    np.testing.assert_allclose(found, same, rtol=0, atol=1e-9)
    assert nearest(event, found, x).max() < 1e-5


def test_size_follows_from_the_energy(table):
    x = box(9, 50)
    event, found = table.candidates(exact(x))
    again, larger = table.candidates(exact(x) / 2)
    np.testing.assert_array_equal(again, event)
    np.testing.assert_allclose(larger, 4 * found, rtol=1e-9, atol=1e-9)


def test_collinear_geometries_are_found(table):
    rng = np.random.default_rng(10)
    x = bent(*rng.uniform(0.8, 3.0, (2, 300)), 180.0)
    event, found = table.candidates(exact(x))
    assert nearest(event, found, x).max() < 1e-6
    end = bent(rng.uniform(0.8, 1.4, 300), rng.uniform(1.6, 3.0, 300), 0.0)
    event, found = table.candidates(exact(end))
    assert nearest(event, found, end).max() < 1e-6


def test_a_curve_that_leaves_its_patch_on_the_way_is_followed():
    # Beyond the rim of a patch here, where the determinant turns over, the curve on which the
    # first coordinate is right has a second root, and Newton's method went there.
    molecule = Molecule.named("CO2").with_charges([1, 1, 1])
    ratio, degrees = np.meshgrid(np.linspace(0.62, 0.645, 30), np.linspace(57.5, 67.0, 30))
    x = bent(1.0, ratio.ravel(), degrees.ravel())[:, [2, 0, 1]]
    masses, charges = molecule.ion_masses, molecule.charges
    event, found = Table.build(masses, charges).candidates(exact(x, masses, charges))
    assert nearest(event, found, x).max() < 1e-6


def test_shapes_at_a_fold_are_found(table):
    # the fold between 150 and 170 degrees, by bisection on the sign of the determinant
    order, m, q = module._ratios(MASSES, CHARGES)

    def determinant(ratio, degrees, step=1e-4):
        t, angle = np.log(ratio), np.radians(degrees)
        steps = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]) * step
        x = bent(*np.exp([(t + steps[:, 0]) / 2, -(t + steps[:, 0]) / 2]),
                 np.degrees(angle + steps[:, 1]))  # fmt: skip
        s, vectors = np.empty((4, 3)), np.empty((4, 2, 3))
        preimages.image(s, vectors, np.ascontiguousarray(exact(x)[:, order]), m)
        return np.cross(s[0] - s[1], s[2] - s[3]) @ s[0] / step**2

    for ratio in (0.6, 0.74, 1.0, 1.5):
        low, high = 145.0, 175.0
        assert determinant(ratio, low) * determinant(ratio, high) < 0
        for _ in range(40):
            middle = 0.5 * (low + high)
            if determinant(ratio, middle) * determinant(ratio, low) > 0:
                low = middle
            else:
                high = middle
        x = bent(np.sqrt(ratio), 1 / np.sqrt(ratio), low)
        event, found = table.candidates(exact(x))
        # the root of the error, times a curvature of the order of one
        assert nearest(event, found, x).max() < 30 * np.sqrt(table.error)


@pytest.mark.parametrize(
    ("masses", "charges"),
    [([16, 12, 32], [2, 2, 2]), ([1, 80, 127], [1, 1, 5]), ([1, 100, 1], [10, 1, 10])],
)
def test_triangles_of_momenta_never_turn_over(masses, charges):
    rng = np.random.default_rng(11)
    t, near = -7 * rng.random(3000), np.pi * 10.0 ** (-4 * rng.random(3000))
    angle = np.where(rng.random(3000) < 0.5, near, np.pi - near)
    _, m, q = module._ratios(np.array(masses, float), np.array(charges, float))
    a = module._explode(rng.integers(0, 3, 3000), t, angle, m, q, None)
    assert np.all(a[:, 0] * a[:, 3] - a[:, 1] * a[:, 2] > 0)


def test_threads_change_nothing(table):
    p = exact(box(12, 20_000))
    one, three = table.candidates(p, threads=1), table.candidates(p, threads=3)
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)


def test_events_without_momenta_have_no_candidates(table):
    p = exact(box(13, 4))
    p[1], p[2, 0, 0] = 0.0, np.nan
    np.testing.assert_array_equal(table.count(p) > 0, [True, False, False, True])
    event, found = table.candidates(p[:0])
    assert event.shape == (0,)
    assert event.dtype == np.int64
    assert found.shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("masses", "charges", "says"),
    [
        ([1.0, 1.0], [1.0, 1.0], "three ions"),
        ([1.0, 1.0, 1.0, 1.0], [1.0] * 4, "three ions"),
        ([1.0, 1.0, 1.0], [1.0, 0.0, 1.0], "charges must be positive"),
        ([1.0, -1.0, 1.0], [1.0, 1.0, 1.0], "masses must be positive"),
    ],
)
def test_ions_that_have_no_table(masses, charges, says):
    for make in (Table.build, table_of):
        with pytest.raises(ValueError, match=says) as info:
            make(masses, charges)
        assert "\n" not in str(info.value)


def test_momenta_of_another_number_of_ions(table):
    with pytest.raises(ValueError, match=r"\(n, 3, 3\), got \(2, 4, 3\)"):
        table.candidates(np.zeros((2, 4, 3)))


@pytest.fixture
def cached(tmp_path, monkeypatch, table):
    """Return the folder of the cache, and a list that grows with every table that is built."""
    built = []

    def build(*_, **__):
        built.append(1)
        return table

    monkeypatch.setenv("COULEX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(Table, "build", build)
    module._remembered.cache_clear()
    yield tmp_path / "cache", built
    module._remembered.cache_clear()


def test_a_table_is_kept_on_the_disk(cached, table):
    folder, built = cached
    table_of(MASSES, CHARGES)
    assert [path.suffix for path in folder.iterdir()] == [".npz"]
    table_of(2 * MASSES[::-1], 3 * CHARGES[::-1])  # from memory
    module._remembered.cache_clear()
    again = table_of(MASSES, CHARGES)  # from the disk
    assert len(built) == 1
    for name in Table.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    p = exact(box(14, 100))
    np.testing.assert_array_equal(again.candidates(p)[1], table.candidates(p)[1])


@pytest.mark.parametrize("damage", ["empty", "cut", "garbled", "foreign", "other key"])
def test_a_damaged_file_is_built_anew(cached, damage):
    folder, built = cached
    table_of(MASSES, CHARGES)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbled":
        middle = len(content) // 3
        path.write_bytes(content[:middle] + b"\xff" * 64 + content[middle + 64 :])
    elif damage == "foreign":
        with path.open("wb") as file:
            np.savez(file, momenta=np.zeros(3))
    else:
        module._save(path, "another", module._remembered(*map(tuple, module._ratios(
            MASSES, CHARGES)[1:]), folder, None))  # fmt: skip
    module._remembered.cache_clear()
    table_of(MASSES, CHARGES)
    assert len(built) == 2
    module._remembered.cache_clear()
    table_of(MASSES, CHARGES)
    assert len(built) == 2
    assert len(list(folder.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_error(cached, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("COULEX_CACHE_DIR", str(blocked / "cache"))
    assert table_of(MASSES, CHARGES).error > 0
    assert blocked.read_text() == "not a folder"


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("COULEX_CACHE_DIR", str(tmp_path / "one"))
    assert module._folder() == tmp_path / "one"
    monkeypatch.delenv("COULEX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module._folder() == tmp_path / "coulex"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert module._folder().parts[-2:] == (".cache", "coulex")
    assert os.path.isabs(module._folder())  # noqa: PTH117
