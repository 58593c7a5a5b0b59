"""Atoms placed one at a time: a density that adds up to one, turns, and is what is drawn."""

import math

import numpy as np
import pytest
import torch
from pairs import Pairs
from surroundings import clusters

from generative.gram.placing import Mixture
from generative.gram.representation import Environments
from generative.gram.states import states_of
from generative.model import model_class
from generative.representation import Batch

SMALL = {"channels": 3, "hidden": 8, "layers": 2, "components": 3, "latent_size": 2}
MODELS = [
    ("gram-equivariant", "none", {"coupled": 2, "gaussians": 6}),
    ("gram-graph", "none", {"message": 8, "gaussians": 6}),
]
WITH_LATENTS = [
    ("gram-equivariant", "invariant", {"coupled": 2, "gaussians": 6}),
    ("gram-equivariant", "equivariant", {"coupled": 2, "gaussians": 6}),
    ("gram-graph", "invariant", {"message": 8, "gaussians": 6}),
]
each = pytest.mark.parametrize(("name", "latents", "options"), MODELS)
each_with_latents = pytest.mark.parametrize(("name", "latents", "options"), WITH_LATENTS)


def build(name, latents, options, *, atoms=5, outer=0, moved=0.2):
    """Return a model in double precision that is no longer where it starts."""
    torch.manual_seed(1)
    kind = model_class(name)
    shown = Pairs(size=3 * atoms, k=3 * outer, points=True)
    model = kind(kind.options_type(**SMALL, latents=latents, **options), shown)
    x = environments(50, atoms).float()
    model.standardise(iter([Batch(x, torch.zeros(50, 3 * outer))]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(moved * torch.randn_like(parameter))
    return model.double().eval()


def environments(count, atoms=5, seed=0):
    x = clusters(count, atoms, seed)
    order = np.argsort(np.linalg.norm(x, axis=2), 1)
    return torch.from_numpy(np.take_along_axis(x, order[..., None], 1))


def turn(seed=0, mirror=False):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return torch.from_numpy(q * np.sign(np.linalg.det(q)) * (-1 if mirror else 1))


def none(x, outer=0):
    return x.new_zeros(len(x), 3 * outer)


def mixture(seed=0, scale=3.0):
    """Return components about two foci: caps and rings, one that has no axis."""
    rng = np.random.default_rng(seed)
    axis = scale * rng.normal(size=(1, 6, 3))
    axis[0, 0] = 0
    parts = (
        rng.normal(size=(1, 6)),
        np.repeat(rng.normal(size=(1, 2, 3)), 3, 1),
        0.1 * rng.normal(size=(1, 6)),
        math.log(0.1) + 0.1 * rng.normal(size=(1, 6)),
        axis,
        np.array([[0.3, 1.0, 0.9, 0.2, -0.5, -1.0]]),
    )
    return Mixture(*(torch.from_numpy(part) for part in parts))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 10.0])
def test_each_component_adds_up_to_one(scale):
    """By quadrature about its own focus: distances, polar angles, azimuths."""
    m = mixture(scale=scale)
    node, weight = np.polynomial.legendre.leggauss(80)
    phi = torch.arange(160) * (2 * math.pi / 160)
    log_d = torch.linspace(-1.5, 1.5, 241, dtype=torch.float64)
    cosine = torch.from_numpy(node)
    sine = (1 - cosine**2).sqrt()
    grid = (len(cosine), len(phi))
    directions = torch.stack(
        [
            sine[:, None] * phi.cos(),
            sine[:, None] * phi.sin(),
            cosine[:, None].expand(grid),
        ],
        -1,
    ).reshape(-1, 3)
    solid = (torch.from_numpy(weight)[:, None] * (2 * math.pi / 160)).expand(grid).reshape(-1)
    for c in range(6):
        one = Mixture(*(part[:, c : c + 1] for part in m))
        # the two factors separate: one direction for all distances, one distance for all
        at = one.focus[0, 0]
        d = log_d.exp()
        along = at + d[:, None] * directions[7]
        around = at + directions
        radial = (one.log_prob(along).exp() * d**3).sum() * (log_d[1] - log_d[0])
        total = (one.log_prob(around).exp() * solid).sum() * radial
        assert abs(total / one.log_prob(around[7:8]).exp() - 1).max() < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_draws_of_a_mixture_are_of_its_density(seed):
    """The share of draws in a ball, and the mean of p(x + shift) / p(x)."""
    m = mixture(seed)
    count = 20_000
    drawn = Mixture(*(part.expand(count, *part.shape[1:]) for part in m)).draw(
        torch.Generator().manual_seed(seed)
    )
    for shift in torch.eye(3).double() * 0.05:
        ratio = (m.log_prob(drawn + shift) - m.log_prob(drawn)).exp()
        assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / count**0.5
    centre = drawn[0]
    ball = torch.from_numpy(np.random.default_rng(seed).normal(size=(40_000, 3)))
    radius = torch.from_numpy(np.random.default_rng(9).uniform(size=(40_000, 1)) ** (1 / 3))
    ball = centre + 0.3 * ball / ball.norm(dim=1, keepdim=True) * radius
    inside = m.log_prob(ball).exp() * (4 / 3 * math.pi * 0.3**3)
    share = float(((drawn - centre).norm(dim=1) < 0.3).double().mean())
    error = math.hypot((share / count) ** 0.5, float(inside.std()) / 200)
    assert abs(float(inside.mean()) - share) < 4 * error


@each
@pytest.mark.parametrize("outer", [0, 2])
def test_the_density_turns_with_the_atoms(name, latents, options, outer):
    model = build(name, latents, options, outer=outer)
    x = environments(20)
    c = 4 + 0.3 * torch.randn(20, 3 * outer).double()
    before = model.log_prob(x, c)
    assert before.kind == "exact"
    for q in (turn(), turn(mirror=True)):
        turned = (c.reshape(20, outer, 3) @ q.T).reshape(20, -1)
        after = model.log_prob(x @ q.T, turned)
        assert (after.value - before.value).abs().max() < 1e-10
        if outer:
            assert (model.log_prob(x @ q.T, c).value - before.value).abs().max() > 1e-3


@each
def test_components_turn_in_single_precision(name, latents, options):
    """To 1e-6 of what is usual; frames lose more where atoms are nearly in line."""
    model = build(name, latents, options, moved=0.05).float()
    x = (environments(50) / model.unit).float()
    q = turn().float()
    one, other = (
        model._components(states_of(y, none(y), torch.zeros(50).long(), first=0), None)
        for y in (x[:, :4], x[:, :4] @ q.T)
    )
    pairs = [(one.axis @ q.T, other.axis), (one.log_distance, other.log_distance)]
    pairs += [(one.log_width, other.log_width), (one.cos_tilt, other.cos_tilt)]
    for a, b in pairs:
        lost = 1e-6 if name == "gram-equivariant" else 4e-6
        assert (a - b).square().mean().sqrt() < lost * a.square().mean().sqrt()


@each_with_latents
def test_the_encoder_does_not_turn(name, latents, options):
    model = build(name, latents, options)
    x = environments(20)

    def encoded(x):
        given = torch.zeros(len(x), dtype=torch.int64)
        return model._encode(states_of(x / model.unit, none(x), given, first=5))

    mean, log_variance = encoded(x)
    for other in (x @ turn().T, x @ turn(mirror=True).T, x.flip(1)):
        again = encoded(other)
        assert (again[0][..., 0] - mean[..., 0]).abs().max() < 1e-12 * mean.abs().max()
        assert (again[1] - log_variance).abs().max() < 1e-12 * log_variance.abs().max()
    if latents == "equivariant":
        # the vectors among latents are turned
        q = turn()
        found = encoded(x @ q.T)[0][..., 1:4]
        assert (found - mean[..., 1:4] @ q.T).abs().max() < 1e-12 * mean.abs().max()


@each_with_latents
def test_the_bound_is_below_what_many_latents_give(name, latents, options):
    model = build(name, latents, options, atoms=3, moved=0.05)
    x = environments(100, 3)
    torch.manual_seed(0)
    one = -float(model.loss(Batch(x, none(x)))["loss"].detach())
    many = model.log_prob(x, none(x))
    assert many.kind == "IWAE"
    assert one < many.mean()[0]
    q = turn(mirror=True)
    again = model.log_prob(x @ q.T, none(x))
    error = math.hypot(*(float(s.stderr.square().sum().sqrt()) / 100 for s in (many, again)))
    assert abs(again.mean()[0] - many.mean()[0]) < 5 * error


@each
def test_draws_have_the_density_that_is_said(name, latents, options):
    model = build(name, latents, options, atoms=3, moved=0.1)
    x = model.sample(none(torch.zeros(1, 0)).double(), 2000, torch.Generator().manual_seed(0))[
        0
    ]
    c = none(x)
    for shift in (0.02 * torch.randn(3, 3).double(), torch.zeros(3, 3).double()):
        shift[2, 0] += 0.05
        ratio = (model.log_prob(x + shift, c) - model.log_prob(x, c)).exp()
        assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / len(x) ** 0.5


@each
def test_one_atom_is_scored_by_what_it_is_drawn_from(name, latents, options):
    """The state before each atom, on its own, gives its share of the density."""
    model = build(name, latents, options)
    x, given = environments(6) / model.unit, torch.zeros(6, dtype=torch.int64)
    x[0, 4] *= 9  # where nobody thought of
    shares = model._placed(x, none(x), given, None)
    for k in range(5):
        alone = model._components(
            states_of(x[:, :k], none(x), given, first=k), None
        ).together()
        assert (alone.log_prob(x[:, k]) - shares[:, k]).abs().max() < 1e-10
    assert shares[0, 4] > -40
    total = shares.sum(1) - 15 * model.unit.log()
    assert (model.log_prob(x * model.unit, none(x)).value - total).abs().max() < 1e-10


@each
def test_known_atoms_stay(name, latents, options):
    model = build(name, latents, options)
    known = environments(6)[:, [3, 1, 2]]
    before = known.clone()
    drawn = model.infill(known, none(known), 4, torch.Generator().manual_seed(0))
    assert drawn.shape == (6, 4, 5, 3)
    assert torch.equal(drawn[:, :, :3], known.unsqueeze(1).expand(-1, 4, -1, -1))
    assert torch.equal(known, before)
    # their order does not matter, and the frame is theirs
    other = model.infill(known.flip(1), none(known), 4, torch.Generator().manual_seed(0))
    assert torch.equal(other[:, :, 3:], drawn[:, :, 3:])
    whole = model.infill(environments(6), none(known), 1, torch.Generator())
    assert torch.equal(whole.squeeze(1), environments(6))
    with pytest.raises(ValueError, match="7 atoms are known"):
        model.infill(environments(6, 7), none(known), 1, torch.Generator())


@each_with_latents
def test_known_atoms_choose_latents(name, latents, options):
    """Of draws of the prior those are kept that make the known atoms probable."""
    model = build(name, latents, options, outer=1)
    known, c = environments(30)[:, :3] / model.unit, 4 + torch.zeros(30, 3).double()
    given = torch.zeros(30, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    shares = []
    for told in (known, known[:, :0]):
        z = model._latents_for(told, c, generator)
        assert z.shape == (30, *model.latent_shape)
        shares.append(model._placed(known, c, given, z).sum(1).mean())
    assert shares[0] > shares[1]
    drawn = model.infill(known * model.unit, c, 2, generator)
    assert torch.equal(drawn[:, 0, :3], known * model.unit)


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("gram-equivariant", {"channels": 32}, "at most 16"),
        ("gram-equivariant", {"l_max": 2}, "l_max must be 3"),
        ("gram-equivariant", {"latents": "some"}, "latents must be"),
        ("gram-equivariant", {"latents": "equivariant", "prior": "flow"}, "prior of equi"),
        ("gram-graph", {"latents": "equivariant"}, "none or invariant"),
        ("gram-graph", {"components": 0}, "components must be"),
        ("gram-graph", {"reach": 0.0}, "reach must be"),
    ],
)
def test_options_check_themselves(name, wrong, says):
    with pytest.raises(ValueError, match=says):
        model_class(name).options_type(**wrong)


def test_samples_must_be_points_about_an_atom():
    kind = model_class("gram-equivariant")
    about = Environments(neighbours=4, centre="centroid", labels="distance", frame="given")
    with pytest.raises(ValueError, match="not about a centroid"):
        kind(kind.options_type(**SMALL, coupled=2), about)
    with pytest.raises(ValueError, match="places atoms"):
        kind(kind.options_type(**SMALL, coupled=2), Pairs(size=12, k=2, points=True))
