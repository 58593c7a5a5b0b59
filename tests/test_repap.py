"""RePAP: a distribution that is exact, drawn as it says, one step like all at once."""

import numpy as np
import pytest
import torch
from scipy import stats
from trajectories import LENGTHS, crystal, factor

from generative.repap import heads
from generative.repap.frames import Frames
from generative.repap.generate import pick
from generative.repap.grid import Grid
from generative.repap.harmonic import Harmonic
from generative.repap.judge import judge, nll_per_coordinate, projections
from generative.repap.model import Repap, RepapOptions
from generative.repap.representation import Sequences
from generative.representation import Batch

SMALL = {"width": 8, "orders": 3, "attention": 2, "components": 3}
KINDS = [
    {"network": network, "head": head}
    for network in ("transformer", "lstm")
    for head in heads.HEADS
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))


def boxed(atoms=2, *, order="spatial", augment="all", length=4.0, numbers=None, **changes):
    """Return a representation of a few atoms in a cube, with places for 4 wide cells."""
    made = {
        "numbers": tuple(numbers or [14] * atoms),
        "atoms": tuple(range(atoms)),
        "low": (0.0, 0.0, 0.0),
        "lengths": (length,) * 3,
        "periodic": True,
        "order": order,
        "augment": augment,
        "closest": 2.0,
    }
    return Sequences(**made | changes)


def built(seen, *, moved=0.5, **options):
    """Return a model in double precision whose parameters are not where they start."""
    torch.manual_seed(1)
    model = Repap(RepapOptions(**SMALL | options), seen).double().eval()
    x = torch.rand(64, len(seen.numbers), 3, dtype=torch.float64) * torch.tensor(seen.lengths)
    if seen.order == "spatial":
        x = x.take_along_dim(x[..., :1].argsort(1), 1)
    model.standardise(iter([Batch(x, x.new_zeros(64, 0))]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(moved * torch.randn_like(parameter))
    model.closest.fill_(1.9)
    return model


def every_structure(cells, atoms, length):
    """Return one structure for each choice of cells."""
    axis = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * length
    return torch.cartesian_prod(*[axis] * (3 * atoms)).unflatten(1, (atoms, 3))


@each_kind
def test_step_by_step_is_all_at_once(kind):
    model = built(boxed(5, length=8.0, numbers=[14, 14, 14, 8, 8]), cells=20, **kind)
    x = torch.rand(6, 5, 3, dtype=torch.float64) * 8
    x[:, :3] = x[:, :3].take_along_dim(x[:, :3, :1].argsort(1), 1)
    x[:, 3:] = x[:, 3:].take_along_dim(x[:, 3:, :1].argsort(1), 1)
    at_once, u, state = model.log_cells(x), x / 8, model.begin(6)
    with torch.no_grad():
        for atom in range(5):
            for axis in range(3):
                log_p, state = model.step(state, u[:, :atom], u[:, atom, :axis])
                torch.testing.assert_close(log_p, at_once[:, atom, axis], rtol=0, atol=1e-10)
            state = model.place(state, u[:, atom])


@each_kind
@pytest.mark.parametrize("order", ["spatial", "given"])
def test_the_density_adds_up_to_one(kind, order):
    augment = "all" if order == "spatial" else "none"
    model = built(
        boxed(order=order, augment=augment), cells=4, start=order == "spatial", **kind
    )
    x = every_structure(4, 2, 4.0)
    density = model.log_prob(x, x.new_zeros(len(x), 0)).value.exp()
    assert float(density.sum()) == pytest.approx(1, abs=1e-9)  # cells of 1 Å³
    assert (density == 0).any()  # the mask, and the order along x


@each_kind
def test_draws_have_the_density_that_is_said(kind):
    model = built(boxed(), cells=4, offset="centre", **kind)
    x = every_structure(4, 2, 4.0)
    p = model.log_prob(x, x.new_zeros(len(x), 0)).value.exp().numpy()
    none = torch.zeros(1, 0, dtype=torch.float64)
    drawn = model.sample(none, 20_000, torch.Generator().manual_seed(2))[0]
    cell = (drawn.flatten(1).floor() * 4.0 ** torch.arange(5, -1, -1)).sum(1).long().numpy()
    counts = np.bincount(cell, minlength=len(p))
    assert counts[p == 0].sum() == 0
    likely = p > 5 / 20_000
    seen = np.append(counts[likely], counts[~likely].sum())
    expected = np.append(p[likely], p[~likely].sum()) * 20_000
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-4


def test_starts_where_its_data_are():
    """On a device that holds no numbers, as no other is at hand."""
    network = Repap(RepapOptions(**SMALL, cells=20), boxed(3, length=8.0)).network.to("meta")
    u = torch.empty(4, 3, 3, device="meta")
    network.superpose(u)
    assert all(out.device.type == "meta" for out in network(u))


def test_offsets_within_a_cell():
    model = built(boxed(), cells=4)
    none = torch.zeros(1, 0, dtype=torch.float64)
    drawn = model.sample(none, 2000, torch.Generator().manual_seed(2))
    assert stats.kstest((drawn % 1).flatten().numpy(), "uniform").pvalue > 1e-4


def test_a_shift_of_all_atoms_shifts_the_distribution():
    model = built(boxed(4, length=8.0), cells=20)
    x = torch.rand(6, 4, 3, dtype=torch.float64) * 8
    x = x.take_along_dim(x[..., :1].argsort(1), 1)
    shifted = (x + torch.tensor([0.0, 1.2, 2.8], dtype=torch.float64)) % 8  # whole cells
    c = x.new_zeros(6, 0)
    before, after = (model.log_prob(y, c).value for y in (x, shifted))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


def test_atoms_that_are_too_close_are_drawn_again_and_marked():
    model = built(boxed(6, length=8.0), cells=20, mask=False)
    none = torch.zeros(4, 0, dtype=torch.float64)
    for redraws, near in ((0, 2.5), (3, 2.5), (20, 1.0)):
        generator = torch.Generator().manual_seed(0)
        x, notes = model.draw(none, 50, generator, redraws=redraws, closest=near)
        assert x.shape == (4, 50, 6, 3)
        d = x.unsqueeze(-2) - x.unsqueeze(-3)
        d = (d - 8 * (d / 8).round()).norm(dim=-1) + 99 * torch.eye(6)
        close = (d < near).flatten(2).any(2)
        if redraws:
            assert torch.equal(close, notes["unfinished"].bool())
            assert (notes["redraws"] <= 5 * redraws).all()
            assert (notes["redraws"][close] >= redraws).all()
        else:
            assert close.any()
            assert not notes["unfinished"].any()
            assert not notes["redraws"].any()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"temperature": 2}, "there are closest, redraws, sharpening, top_p"),
        ({"redraws": 2.5}, "redraws must be a whole number"),
        ({"redraws": -1}, "redraws and closest must be 0 or more"),
        ({"sharpening": "much"}, "sharpening must be a number"),
        ({"top_p": 1.2}, "top_p within"),
        ({"closest": float("nan")}, "redraws and closest must be 0 or more"),
    ],
)
def test_ways_of_drawing_that_are_none(how, message):
    model = built(boxed(), cells=4)
    with pytest.raises(ValueError, match=message):
        model.draw(torch.zeros(1, 0), 1, torch.Generator(), **how)


def test_sharpening_and_top_p():
    log_p = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(40_000, -1)
    generator = torch.Generator().manual_seed(0)

    def shares(**how):
        return np.bincount(pick(log_p, generator, **how), minlength=4) / 40_000

    p = np.array([0.5, 0.3, 0.15, 0.05])
    np.testing.assert_allclose(shares(), p, atol=0.01)
    np.testing.assert_allclose(shares(sharpening=2), p**2 / (p**2).sum(), atol=0.01)
    np.testing.assert_allclose(shares(top_p=0.8), [0.625, 0.375, 0, 0], atol=0.01)
    np.testing.assert_allclose(
        shares(top_p=0.81), [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], atol=0.01
    )


def test_published_network_and_loss():
    options = RepapOptions.preset("published")
    model = Repap(options, boxed(30, order="mean-distance", augment="none", length=8.4854))
    sizes = {name: tuple(p.shape) for name, p in model.network.named_parameters()}
    assert sizes["lstm.weight_ih_l0"] == (4 * 256, 50 + 89)
    assert sizes["lstm.weight_ih_l1"] == (4 * 256, 256)
    assert sizes["leave.2.weight"] == (50, 256)
    assert model.network.lstm.dropout == 0.5
    assert options.smear == pytest.approx(options.sigma**0.5)
    x = torch.rand(2, 30, 3) * 8.4854
    model.eval()
    loss = model.loss(Batch(x, torch.zeros(2, 0)))["loss"].item()
    said = model.network(x / 8.4854)[0].sigmoid().flatten(1, 2).detach().numpy()
    centres, total = (np.arange(50) + 0.5) / 50 * 8.4854, 0.0
    for row, coordinates in zip(said, x.flatten(1).numpy(), strict=True):
        for p, r in list(zip(row, coordinates, strict=True))[1:]:
            off = np.abs(centres - r)
            off = np.minimum(off, 8.4854 - off)
            target = np.exp(-(off**2) / (2 * options.sigma))
            total += ((p - target / target.sum()) ** 2).sum()
    assert loss == pytest.approx(total / 2, rel=1e-4)


def test_without_a_network_atoms_in_order_are_uniform():
    """Four of one element, then two of another: each x has the mean of its place in order."""
    numbers = [14, 14, 14, 14, 8, 8]
    model = built(boxed(6, length=40.0, numbers=numbers), cells=100)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
        # of one x of four the density is 4 (1 - x)^3, of the first of all
        middles = (torch.arange(100) + 0.5) / 100
        model.first.copy_((1 - middles) ** 3 / ((1 - middles) ** 3).sum())
    drawn = model.sample(torch.zeros(1, 0).double(), 4000, torch.Generator().manual_seed(1))
    x = drawn[0, :, :, 0] / 40
    means = torch.tensor([1 / 5, 2 / 5, 3 / 5, 4 / 5, 1 / 3, 2 / 3]).double()
    torch.testing.assert_close(x.mean(0), means, rtol=0, atol=0.02)


def test_a_harmonic_solid_is_known_before_any_training():
    """Nats of a normal distribution, whose entropy is a determinant."""
    run = crystal(20_000)
    arrays = {k: getattr(run, k) for k in Sequences.needs}
    seen = Sequences.fit(arrays, order="given")
    torch.manual_seed(0)
    model = Repap(RepapOptions(**SMALL, cells=100), seen).eval()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    x, c = (torch.from_numpy(a).float() for a in seen.encode(arrays, np.random.default_rng(0)))
    model.standardise(iter([Batch(x, c)]))
    found = -float(model.log_prob(x[:4000], c[:4000]).value.mean()) / 12
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(np.diag(factor())).mean()
    # cells of 0.06 and 0.08 Å blur a width of 0.1 Å: variances are larger by a 20th
    assert found == pytest.approx(entropy, abs=0.03)
    predicted, true = projections(model, x[:2000])
    np.testing.assert_allclose(predicted.sum(1) * LENGTHS / 100, 1, atol=1e-5)
    assert np.abs(np.cumsum(predicted - true, 1) * LENGTHS[:, None] / 100).max() < 0.02


def test_harmonic_conditionals_are_those_of_the_covariance():
    grid = Grid(50, (5.0, 5.0, 5.0), True)
    rng = np.random.default_rng(0)
    x = 0.95 + rng.normal(size=(5000, 12)) @ factor(0.02).T  # across the edge of the box
    u = torch.from_numpy(x - np.floor(x))
    harmonic = Harmonic(grid, 12).double()
    harmonic.fit(u)
    covariance, mean = np.cov(x.T) + np.eye(12) * (0.2 / 50) ** 2, x.mean(0)
    off = x[0] - mean
    for k in (0, 5, 11):
        weights = np.linalg.solve(covariance[:k, :k], covariance[:k, k]) if k else np.zeros(0)
        centre = mean[k] + weights @ off[:k]
        width = (covariance[k, k] - weights @ covariance[:k, k]) ** 0.5
        edges = np.arange(51) / 50
        p = sum(np.diff(stats.norm.cdf(edges + image, centre, width)) for image in (0, 1))
        step = harmonic.step(u[:1, :k])[0].exp().numpy()
        np.testing.assert_allclose(step, p, atol=1e-6)
        torch.testing.assert_close(harmonic(u[:1])[0, k], harmonic.step(u[:1, :k])[0])


def test_of_few_structures_each_coordinate_is_taken_for_itself():
    """A covariance of twelve coordinates would be mostly noise."""
    x = 0.5 + np.random.default_rng(0).normal(size=(420, 12)) @ factor(0.02).T
    u = torch.from_numpy(x)
    harmonic = Harmonic(Grid(200, (5.0, 5.0, 5.0), True), 12).double()
    nats = {}
    for frames in (15, 400):
        harmonic.fit(u[:frames])
        assert bool(harmonic.slope.any()) == (frames == 400)
        cell = harmonic.grid.cell(u[20:]).unsqueeze(-1)
        nats[frames] = -float(harmonic(u[20:]).gather(-1, cell).mean())
    assert nats[400] < nats[15] < 3.2


def test_the_scorecard_has_floors_and_baselines():
    source = Frames([crystal(300)])
    seen = Sequences.fit({**source.constants, "positions": source.frames("train")})
    model = built(seen, cells=40, moved=0.0)
    model = model.float()
    rows = judge(model, source, n=100, close=1.0, energies=lambda s: np.zeros(len(s)))
    assert list(rows) == [
        *("noise_floor", "held_out", "grid", "marginals", "gaussian", "random"),
        *("no_repair", "model"),
    ]
    assert rows["noise_floor"]["err_rdf"] < rows["random"]["err_rdf"]
    assert rows["random"]["nll_per_coordinate"] == pytest.approx(np.log(40))
    assert rows["gaussian"]["nll_per_coordinate"] < rows["marginals"]["nll_per_coordinate"]
    assert rows["gaussian"]["spread"] == pytest.approx(1, abs=0.15)
    assert {"redraws", "unfinished", "structures_per_second"} <= set(rows["model"])


def test_frames_that_cannot_be_are_counted_beside_the_others():
    run = crystal(300)
    source = Frames([run])
    seen = Sequences.fit(source.for_training(1), order="given")
    model = built(seen, cells=40, moved=0.0).float()
    model.closest.fill_(1.0)
    plain = nll_per_coordinate(model, source)
    assert plain["impossible"] == 0
    run.positions[-8:, 1] = run.positions[-8:, 0] + 0.2
    source = Frames([run])
    said = nll_per_coordinate(model, source)
    assert said["impossible"] == pytest.approx(8 / len(source.frames("test")))
    assert np.isfinite([said["nll_per_coordinate"], said["nll_error"]]).all()


def test_the_baseline_knows_its_own_likelihood():
    from generative.repap.baselines import Gaussian, Marginals

    u = crystal(20_000).positions / LENGTHS
    u -= np.floor(u)
    grid = Grid(200, tuple(LENGTHS), True)
    fine = -np.log(LENGTHS / 200).mean() + 0.5 * np.log(2 * np.pi * np.e)
    joint = fine + np.log(np.diag(factor())).mean()
    each = fine + 0.5 * np.log((factor() ** 2).sum(1)).mean()
    assert Gaussian(u, grid).nats(u[:4000]) == pytest.approx(joint, abs=0.02)
    assert Marginals(u, grid).nats(u[:4000]) == pytest.approx(each, abs=0.02)
    drawn = Gaussian(u, grid).draw(20_000, np.random.default_rng(0)).reshape(-1, 12)
    scale = u.reshape(-1, 12).std(0)
    off = (np.cov(drawn.T) - np.cov(u.reshape(-1, 12).T)) / np.outer(scale, scale)
    assert np.abs(off).max() < 5 * 2**0.5 / 20_000**0.5  # of two samples, 5 deviations
