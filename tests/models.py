"""A small trained model of OCS in a folder, for the tests of all that uses one."""

from dataclasses import replace

import numpy as np
from geometries import CHARGES, MASSES, OCS, exact

from coulex.ensemble import Gaussian
from coulex.frames import random_rotations, rotate
from generative.data import Arrays
from generative.geometry import Geometry
from generative.model import model_class
from generative.recipe import Training
from generative.train import fit

PRIOR = Gaussian(sigma=0.1)
QUICK = Training(epochs=30, batch_size=200, learning_rate=0.05, warmup=5, patience=0)


def events(seed, count):
    """Return explosions of OCS near its equilibrium, in all orientations."""
    x, _ = PRIOR.sample(OCS, seed=seed, first=0, count=count)
    x = rotate(x, random_rotations(seed, 0, count))
    x -= np.einsum("nik,i->nk", x, MASSES)[:, None] / MASSES.sum()
    arrays = {"initial_positions": x, "momenta": exact(x)}
    return arrays | {"masses": MASSES, "charges": CHARGES, "numbers": OCS.numbers}


def trained(arrays, *, noise=(0.01, 0.05), name="gaussian", training=QUICK, **options):
    """Return a model of events; it sees them by their shape, unless told otherwise."""
    seen = {"coordinates": "shape", "conditions": ("scale-free", "log-ker"), "noise": noise}
    geometry = Geometry.fit(arrays, **{**seen, **options})
    kind = model_class(name)
    model = kind(kind.options_type(), geometry)
    source = Arrays(arrays, constants=("masses", "charges", "numbers"))
    fit(model, source, replace(training, seed=3))
    return model.eval()
