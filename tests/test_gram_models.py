"""The autoencoder of Gram matrices and the diffusion of environments: what they promise."""

import math

import numpy as np
import pytest
import torch
from surroundings import clusters, shaken_diamond, turned
from typer.testing import CliRunner

from coulex.cli import app
from generative.gram.denoising import START, draw, levels
from generative.gram.diffusion import GramDiffusion, GramDiffusionOptions
from generative.gram.gram import gram, spectrum
from generative.gram.representation import Environments
from generative.gram.vae import GramVae, GramVaeOptions, decoded_spectra
from generative.representation import as_batch
from generative.structures import Structure, write

DATA = {"neighbours": clusters(200)}
NOTHING = torch.zeros(200, 0).double()


@pytest.fixture(scope="module")
def canonical():
    return Environments.fit(DATA)


def seen(representation, data=DATA):
    return torch.tensor(representation.encode(data, np.random.default_rng(0))[0])


def build(kind, representation, data=DATA, **options):
    torch.manual_seed(1)
    model = kind(kind.options_type(**options), representation)
    x, condition = representation.encode(data, np.random.default_rng(0))
    model.standardise(iter([as_batch(x, condition)]))
    return model.double().eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(representation, data=DATA, **options):
    sizes = {"width": 16, "blocks": 1, "hidden": 16, "rounds": 2}
    return build(GramDiffusion, representation, data, **sizes | options)


# -- the autoencoder


@pytest.mark.parametrize("options", [{}, {"decoder": "gram", "misfit": "gram"}])
def test_the_encoder_knows_no_frame(canonical, options):
    model, x = build(GramVae, canonical, **options), seen(canonical)
    there, _ = turned(x.numpy())
    z = model.encode(x, NOTHING)
    assert z.std(0).min() > 1e-3
    apart = model.encode(torch.tensor(there), NOTHING) - z
    assert apart.abs().max() < 1e-12


def test_with_a_bit_mirror_images_differ_and_rotations_do_not():
    representation = Environments.fit(DATA, mirror="SO3")
    model, x = build(GramVae, representation, misfit="positions"), seen(representation)
    there, _ = turned(x.numpy(), mirror=False)
    z = model.encode(x, NOTHING)
    assert (model.encode(torch.tensor(there), NOTHING) - z).abs().max() < 1e-12
    assert (model.encode(-x, NOTHING) - z).abs().amax(1).min() > 1e-3
    with pytest.raises(ValueError, match="mirror"):
        GramVae(GramVaeOptions(misfit="gram"), representation)


@pytest.mark.parametrize("options", [{}, {"decoder": "gram", "misfit": "gram"}])
def test_what_is_decoded_belongs_to_atoms_and_lies_on_the_mean(canonical, options):
    model = build(GramVae, canonical, **options)
    z = torch.randn(50, 8).double()
    x, g = model.decode(z, NOTHING[:50]), model.decode_gram(z, NOTHING[:50])
    values = spectrum(g)
    beside = values[:, 3:].abs().amax(1) / values[:, 0]
    if options:
        assert beside.max() > 1e-3  # any rank
    else:
        assert beside.max() < 1e-12
        assert (gram(x) - g).abs().max() < 1e-9
    # laid on best: the covariance with the mean is symmetric, and positive
    product = model.mean.mT @ x
    assert (product - product.mT).abs().max() < 1e-9
    assert torch.linalg.eigvalsh(product).min() > -1e-9


def test_latents_have_a_gradient_for_those_who_search_them(canonical):
    model = build(GramVae, canonical)
    z = torch.zeros(3, 8).double().requires_grad_()
    model.decode(z, NOTHING[:3]).square().sum().backward()
    assert z.grad is not None
    assert z.grad.abs().amax(1).min() > 0


def test_overlapping_atoms_cost_and_others_do_not(canonical):
    model, c = build(GramVae, canonical, repulsion=1.0), NOTHING[:2]
    z = torch.zeros(2, 8).double()
    apart = seen(canonical)[:2]
    together = apart.clone()
    together[:, 4] = together[:, 5]
    model.decoder = torch.nn.Sequential()  # draws: whatever lies in z, see below
    model._decoded = lambda z, c: apart  # type: ignore[method-assign]
    assert float(model._overlap(apart, z, c)) == 0
    assert float(model._overlap(together, z, c)) == pytest.approx(0.5, abs=1e-9)


def test_the_published_network_has_its_sizes(canonical):
    model = build(GramVae, canonical, **GramVaeOptions.PRESETS["published"])
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim == 2]
    assert shapes == [(28, 36), (18, 28), (16, 18), (18, 8), (28, 18), (36, 28)]
    with pytest.raises(ValueError, match="decoder of G"):
        GramVaeOptions(decoder="gram", misfit="both")


# -- diffusion


def silent(representation, **options):
    """Return a diffusion whose network says nothing: that of a normal distribution."""
    model = small(representation, **options)
    for parameter in model.network.leave.parameters():
        parameter.data.zero_()
    return model


def test_a_silent_network_has_a_normal_distribution(canonical):
    model, x = silent(canonical, density_steps=100), seen(canonical)
    rows = x.flatten(1) - x.flatten(1).mean(0)
    variances = torch.linalg.eigvalsh(rows.mT @ rows / len(rows))
    assert float(model.network.space.trace()) == pytest.approx(21, abs=1e-5)  # 3n - 3
    assert variances[:3].max() < 1e-9
    variance = variances.sum() / 21
    square = (rows[:3] ** 2).sum(1) / variance
    expected = -0.5 * (square + 21 * (2 * math.pi * variance).log())
    found = model.log_prob(x[:3], NOTHING[:3]).value
    # of steps, and of the noise that is left
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_draws_are_in_the_canonical_frame(canonical):
    model = silent(canonical)
    x = model.sample(NOTHING[:1], 2000, generator())[0]
    template = torch.tensor(canonical.template, dtype=torch.float64)
    torque = torch.linalg.cross(template.expand_as(x), x).sum(1)
    assert torque.abs().max() < 1e-3  # Å²; scales are in single precision
    covariance = torch.cov(x.flatten(1).T)
    expected = model.scale**2 * model.network.space
    assert (covariance - expected).abs().max() < 5 * expected.max() * (2 / 2000) ** 0.5


def test_steps_are_of_second_order():
    y = torch.ones(1, 1).double()

    def normal(y, sigma, told):
        return y / (1 + sigma**2)

    def missed(steps):
        path = levels(steps, y)
        exact = ((1 + path[-1] ** 2) / (1 + path[0] ** 2)).sqrt() / (1 + path[-1] ** 2)
        return abs(float(draw(normal, y, NOTHING[:1], steps) / exact) - 1)

    assert missed(40) < 0.01
    assert missed(40) / missed(80) == pytest.approx(4, rel=0.2)


def test_the_density_is_that_of_the_map_from_noise(canonical):
    """Draws are a map of noise, and autograd knows its determinant."""
    model = small(canonical, density_steps=90)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    _, axes = torch.linalg.eigh(model.network.space)
    axes = axes[:, 3:]  # of the space of the data
    start = START * torch.randn(21).double()

    def there(u):
        y = draw(model._denoised, (axes @ u)[None], NOTHING[:1], 90)[0]
        return model.scale * y @ axes

    jacobian = torch.autograd.functional.jacobian(there, start)
    assert isinstance(jacobian, torch.Tensor)
    log_det = torch.linalg.slogdet(jacobian).logabsdet
    variance = torch.tensor(START**2).double()
    normal = -0.5 * (start**2 / variance + (2 * math.pi * variance).log()).sum()
    x = (model.mean + axes @ there(start)).reshape(1, 8, 3)
    found = model.log_prob(x, NOTHING[:1]).value[0]
    # both paths are of second order in their steps
    assert float(found - (normal - log_det)) == pytest.approx(0, abs=0.1)


def points_of(x, q=None, order=slice(None), count=0):
    """Return points as `Filling` sees them, turned by q, in another order; kinds; log σ."""
    outer = torch.tensor(5 * np.random.default_rng(3).normal(size=(len(x), count, 3)))
    points = torch.cat([torch.zeros_like(x[:, :1]), x, outer], 1)
    kinds = torch.tensor([0, *[1] * 5, *[3] * (x.shape[1] - 5), *[2] * count])
    points = points if q is None else points @ q
    log_noise = torch.linspace(-4, 2, len(x)).double()[:, None]
    return points[:, order], kinds.expand(len(x), -1)[:, order], log_noise


@pytest.mark.parametrize("mirror", ["O3", "SO3"])
@pytest.mark.parametrize("context", [0, 2])
def test_missing_atoms_are_pushed_the_same_way_in_any_frame_and_order(mirror, context):
    data = DATA | {"outer": np.zeros((200, context, 3))}
    representation = Environments.fit(data, mirror=mirror, context=context)
    filling, x = small(representation, data).filling, seen(representation, data)[:20]
    pushed = filling(*points_of(x, count=context))
    assert pushed[:, 6:9].abs().min() > 1e-9
    q = torch.tensor(turned(x.numpy(), mirror=mirror == "O3")[1])
    again = filling(*points_of(x, q, count=context))
    torch.testing.assert_close(again, pushed @ q, rtol=0, atol=1e-12)
    order = np.random.default_rng(0).permutation(9)
    outer = np.arange(9, 9 + context)[::-1]
    again = filling(*points_of(x, order=[*order, *outer], count=context))
    torch.testing.assert_close(again, pushed[:, order], rtol=0, atol=1e-12)
    if mirror == "SO3":
        mirrored = filling(*points_of(x, -torch.eye(3).double(), count=context))
        assert (mirrored + pushed).abs().amax((1, 2)).min() > 1e-8  # rounding is 1e-15


def test_known_atoms_stay_and_others_are_drawn(canonical):
    model, x = small(canonical), seen(canonical)[:20]
    known = x[:, :5]
    drawn = model.infill(known, NOTHING[:20], 3, generator())
    assert drawn.shape == (20, 3, 8, 3)
    assert torch.equal(drawn[:, :, :5], known[:, None].expand(-1, 3, -1, -1))
    assert drawn[:, :, 5:].std(1).min() > 1e-3
    for k in (3, 8):
        with pytest.raises(ValueError, match=f"4 to 7 atoms must be known, got {k}"):
            model.infill(torch.zeros(1, k, 3).double(), NOTHING[:1], 1, generator())
    without = small(canonical, filling=False)
    with pytest.raises(ValueError, match="filling"):
        without.infill(torch.zeros(1, 5, 3).double(), NOTHING[:1], 1, generator())


def test_a_silent_network_fills_in_normal_noise(canonical):
    """Without a network, missing atoms have the variance of the data, and know of nothing."""
    model = small(canonical, filling_steps=64, hidden=4, rounds=1)
    x = seen(canonical)[:2]
    with torch.no_grad():
        for parameter in model.filling.parameters():
            parameter.zero_()
    drawn = (
        model.infill(x[:, :6], NOTHING[:2], 400, generator())[:, :, 6:] / model.filling.scale
    )
    assert float(drawn.var()) == pytest.approx(1, rel=0.05)


def test_outer_neighbours_are_seen():
    rng = np.random.default_rng(0)
    data = DATA | {"outer": 5 * rng.normal(size=(200, 2, 3))}
    representation = Environments.fit(data, context=2)
    x, c = map(torch.tensor, representation.encode(data, rng))
    model = small(representation, data)
    drawn = model.infill(x[:9, :6], c[:9], 2, generator())
    other = model.infill(x[:9, :6], c[9:18], 2, generator())
    assert (drawn - other).abs().amax((1, 2, 3)).min() > 1e-4


def test_options_check_themselves():
    for wrong in (
        {"width": 0},
        {"rounds": 0},
        {"steps": 0},
        {"dropout": 1.0},
        {"activation": "x"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GramDiffusionOptions.preset(None, **wrong)
    for wrong in ({"latents": 0}, {"prior": "x"}, {"kl_weight": -1.0}, {"misfit": "x"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GramVaeOptions.preset(None, **wrong)


def test_spectra_and_motifs_are_drawn(tmp_path):
    """From the command line: two models of one file; a decoder of G leaves rank 3."""
    positions, cell = shaken_diamond()
    about = {"periodic": np.ones(3, bool), "numbers": np.full(len(positions), 14)}
    write(tmp_path / "si.extxyz", [Structure(positions=positions, cell=cell, **about)])
    fitted = Environments.fit(Environments.source([tmp_path / "si.extxyz"]).read(0, 64))
    for name, decoder in (("free", "gram"), ("atoms", "coordinates")):
        model = build(GramVae, fitted, decoder=decoder, misfit="gram").float()
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
        real, decoded = decoded_spectra(model, tmp_path / "si.extxyz")
        assert real.shape == decoded.shape == (64, 8)
        assert abs(real[:, 3:]).max() < 1e-5
        beyond = abs(decoded[:, 3:]).max()
        assert beyond > 0.1 if decoder == "gram" else beyond < 1e-4
    write(
        tmp_path / "ge.extxyz",
        [Structure(positions=positions, cell=cell, **about | {"numbers": [32] * 64})],
    )
    with pytest.raises(ValueError, match="atoms of Ge, but environments are of Si"):
        decoded_spectra(model, tmp_path / "ge.extxyz")
    words = f"--reference {tmp_path}/si.extxyz -o {tmp_path}/spectrum.png"
    for command in (
        f"spectrum {tmp_path}/free {tmp_path}/atoms {words}",
        f"motifs {tmp_path}/si.extxyz -o {tmp_path}/motifs.png",
    ):
        done = CliRunner().invoke(app, ["plot", *command.split()])
        assert done.exit_code == 0, done.output
    assert {p.name for p in tmp_path.glob("*.png")} == {"spectrum.png", "motifs.png"}
