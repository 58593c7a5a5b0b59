"""A model's draws against the exact posterior, under noise of a stated level.

    python benchmarks/posterior.py MODEL FILE [--noise 0.01] [--events 1000] [--draws 500]
        [--json FILE]

FILE is of `coulex simulate`, at rest; its ensemble is the prior. Events are of the test part,
with a good status; momenta get noise as `coulex.invert(noise=)` understands it. The model
draws geometries of each, and the exact simulator weights them: prior x likelihood / density of
the draw. Of the weights

- the effective number of draws says how near the model is to the posterior;
- the weighted mean is the posterior's, which no estimate improves on; the errors of the
  model's own mean are compared with its errors (root mean square over all events and all
  components of positions, Å);
- regions of highest density hold the truth as often as they say, of the model alone and of the
  weighted draws.

One thread; seconds of the CPU.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from coulex import dataset, frames
from coulex.cli.molecule import described
from coulex.ensemble import ENSEMBLES, Ensemble
from coulex.inverse import posterior
from coulex.inverse.noise import without_sum
from coulex.molecule import Molecule
from coulex.units import ANGSTROM
from generative import calibration, sampler
from generative.data import PARTS, Events, part_of
from generative.seen import with_noise

LEVELS = (0.50, 0.68, 0.90, 0.95)


def test_events(path: Path, seed: int, count: int) -> dict[str, np.ndarray]:
    """Return the first good events of the part that training never saw."""
    source = Events(path, ("initial_positions", "momenta", "charges", "masses"))
    size = min(source.n_events, 20 * count)
    mine = part_of(seed, 0, size) == list(PARTS).index("test")
    chosen = np.flatnonzero(mine & source.good(0, size))[:count]
    arrays = source.read(0, size)
    return {k: a[chosen] if source.grows(k) else a for k, a in arrays.items()}


def prior_of(path: Path) -> tuple[Ensemble, Molecule]:
    """Return the ensemble that a file was simulated from, and its molecule."""
    configuration = dataset.open(path).configuration
    options = dict(configuration["ensemble"])
    kind = ENSEMBLES[options.pop("name")]
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return kind(**options), described(configuration["molecule"])


def measure(drawing, prior, events, noise: float, draws: int) -> dict:
    """Draw, weight and compare at one level of noise."""
    rng = np.random.default_rng(5)
    masses, charges = events["masses"], events["charges"]
    p = with_noise(events["momenta"], np.full(len(events["momenta"]), noise), rng)
    p = without_sum(p, noise)
    known = {"charges": charges, "masses": masses, "noise": noise}
    begin = time.process_time()
    x, log_q = drawing(p, draws, **known, rng=rng)
    drawn = time.process_time()
    log_w = posterior.log_weights(
        *(x, log_q, p, masses, charges), noise=noise, prior=prior, threads=1
    )
    weighted = time.process_time()
    weights = posterior.normalised(log_w)
    some = np.isfinite(weights).all(axis=1)

    true = events["initial_positions"]
    true = true - frames.centre_of_mass(true, masses)[:, None]
    log_true, _ = drawing.log_density(true, p, charges=charges, noise=noise)
    # what the exact density of the truth is compared with: prior x likelihood of each draw
    target = log_w + log_q
    at_truth = posterior.log_weights(
        *(true[:, None], np.zeros((len(p), 1)), p, masses, charges), noise=noise, prior=prior
    )[:, 0]
    exact_levels = calibration.pit(-target, -at_truth, rng, np.nan_to_num(weights))

    w = np.nan_to_num(weights)[:, :, None, None]
    own, exact = x.mean(axis=1), (w * x).sum(axis=1)
    spread = np.sqrt((w * (x - exact[:, None]) ** 2).sum(axis=1))
    size = calibration.effective_sample_size(np.nan_to_num(weights[some])) / draws

    def rms(a):
        return float(np.sqrt((a[some] ** 2).mean()) / ANGSTROM)

    def covered(levels):
        found = calibration.coverage(levels[some], LEVELS)
        return dict(zip(map(str, LEVELS), found.shares, strict=True))

    return {
        "noise": noise,
        "events": len(p),
        "events_without_weight": int((~some).sum()),
        "draws": draws,
        "effective_share": {
            f"{q:g}": float(np.quantile(size, q)) for q in (0.01, 0.1, 0.5, 0.9)
        },
        "rmse_model": rms(own - true),
        "rmse_exact": rms(exact - true),
        "rms_model_to_exact": rms(own - exact),
        "posterior_width": rms(spread),
        "coverage_model": covered(calibration.density_levels(log_q, log_true, rng)),
        "coverage_exact": covered(exact_levels),
        "draw_ms_per_event": 1e3 * (drawn - begin) / len(p),
        "weight_ms_per_event": 1e3 * (weighted - drawn) / len(p),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--noise", type=float, action="append")
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of the training's split")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    drawing, _ = sampler.load(given.model)
    events = test_events(given.file, given.seed, given.events)
    prior = prior_of(given.file)
    rows = []
    for noise in given.noise or [0.01, 0.02, 0.05]:
        rows.append(measure(drawing, prior, events, noise, given.draws))
        print(json.dumps(rows[-1], indent=1), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
