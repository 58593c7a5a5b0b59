"""What `coulex score` computes: the only place where draws meet simulator and inversion."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import coulex
from coulex.dataset import Dataset
from coulex.dataset.solutions import has_solutions
from coulex.ensemble import ENSEMBLES, Ensemble
from coulex.errors import InvalidDataError, MismatchError
from coulex.inverse.posterior import log_weights, normalised
from coulex.molecule import Molecule
from generative import judge
from generative.calibration import effective_sample_size
from generative.metrics import mean_of, point_errors

from .molecule import described

ENOUGH = 0.05  #: of the draws that must be effective, for weights to mean anything


@dataclass(frozen=True)
class Drawn:
    """Events that can be scored, in the frame of the model."""

    draws: np.ndarray  #: (m, n, ions, 3)
    log_density: np.ndarray | None  #: (m, n)
    true: np.ndarray  #: (m, ions, 3), in the gauge of the draws
    momenta: np.ndarray
    charges: np.ndarray
    masses: np.ndarray
    configuration: dict[str, Any]
    left_out: int

    @property
    def noise(self) -> float | None:
        """Return the noise of the momenta, None if there is none."""
        return self.configuration["noise"]

    def own_charges(self, which) -> np.ndarray:
        """Return charges of the events `which`, or of all where they are the same."""
        return self.charges if self.charges.ndim == 1 else self.charges[which]


def read(data: Dataset, reference: Dataset | None, most: int) -> Drawn:
    """Read the first events of a file of draws that have all draws and a truth.

    Raises
    ------
    InvalidDataError
        If these are no draws, nobody knows the truth, or there are fewer than two events.
    MismatchError
        If the reference is of other events.
    """
    about = data.configuration
    if not (has_solutions(data) and "sampler" in about):
        msg = f"{data.path} is not a file of draws; `coulex sample` makes one"
        raise InvalidDataError(msg)
    holder = data if reference is None else reference
    if "initial_positions" not in holder:
        msg = f"{holder.path} does not know the true positions; give a --reference that does"
        raise InvalidDataError(msg)
    if holder.n_events != data.n_events or holder.ions != data.ions:
        msg = (
            f"{holder.path} has {holder.n_events} events of {holder.ions} ions, the draws "
            f"{data.n_events} of {data.ions}: not the same events"
        )
        raise MismatchError(msg)
    count, n = min(most, data.n_events), int(about["draws"])
    numbers = data.read("n_solutions", 0, count)
    rows = int(numbers.sum())
    true = np.asarray(holder.read("initial_positions", 0, count), np.float64)
    good = (numbers == n) & np.isfinite(true).all(axis=(1, 2))
    if good.sum() < 2:
        msg = (
            f"{data.path}: {int(good.sum())} events have all draws and a truth: two are needed"
        )
        raise InvalidDataError(msg)
    kept = np.repeat(good, numbers)

    def listed(name: str) -> np.ndarray:
        flat = data.read(name, 0, rows)[kept]
        return flat.reshape(int(good.sum()), n, *flat.shape[1:])

    has_density = "solution_log_density" in data
    charges = (
        data.read("charges", 0, count)[good] if data.grows("charges") else data["charges"]
    )
    seen = about["sampler"]["representation"]
    momenta = data.read("momenta", 0, count)[good]
    turn = judge.frames_of(momenta, seen)
    return Drawn(
        draws=judge.turned(listed("solution_positions"), turn),
        log_density=listed("solution_log_density") if has_density else None,
        true=judge.turned(judge.in_gauge(true[good], data["masses"], seen), turn),
        momenta=judge.turned(momenta, turn),
        charges=charges,
        masses=data["masses"],
        configuration=about,
        left_out=count - int(good.sum()),
    )


def judged(drawn: Drawn, folder: Path | None, threads: int) -> dict[str, Any]:
    """Return the scorecard, ready for JSON."""
    explode = _residuals_of(drawn, threads)
    nll, at_truth = _likelihood(drawn, folder)
    rows = judge.of_draws(drawn.draws, drawn.true, explode(drawn.draws), nll=nll["value"])
    network = {name: row.scores(drawn.true) for name, row in rows.items()}
    floors = judge.of_nothing(drawn.true)
    floors["noise_floor"] = judge.Row(point=drawn.true)
    exact, about_exact, weights = _exact(drawn, floors["mean"], threads)
    if exact is not None:
        floors["exact"] = exact
    below = {
        name: row.scores(drawn.true)
        | {"momentum_residual": float(np.median(explode(row.point[:, None])))}
        for name, row in floors.items()
    }
    both = (drawn.log_density, at_truth)
    rng = np.random.default_rng(0)
    calibration = judge.calibrated(
        *(drawn.draws, drawn.true, rng), log_density=both if at_truth is not None else None
    )
    said = {
        "events": len(drawn.true),
        "draws": drawn.draws.shape[1],
        "left_out": drawn.left_out,
        "noise": drawn.noise,
        "metrics": network["network"],
        "one_draw": network["one_draw"],
        "best_of": network["best_of"],
        "floors": below,
        "atom_error": {
            name: row.atom_error(drawn.true) for name, row in {**rows, **floors}.items()
        },
        "mre_undefined": point_errors(drawn.true, drawn.true).mre_undefined,
        "nll": nll,
        "exact": about_exact,
        "calibration": calibration,
        "two_sample": judge.alike(drawn.draws, drawn.true, rng),
    }
    if weights is not None and exact is not None:
        said["calibration_exact"] = judge.calibrated(
            drawn.draws, drawn.true, rng, weights=weights
        )
        ratio = network["network"]["mse"] / below["exact"]["mse"]
        said["rmse_over_exact"] = float(np.sqrt(ratio))
    return said


def _residuals_of(drawn: Drawn, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives the relative residual (m, n) of momenta of geometries (m, n, ...)."""

    def residuals(x: np.ndarray) -> np.ndarray:
        there = np.isfinite(x).all(axis=(2, 3))
        own = np.broadcast_to(np.arange(len(x))[:, None], there.shape)[there]
        again = coulex.simulate(
            x[there], drawn.masses, drawn.own_charges(own), threads=threads
        )
        given = drawn.momenta[own].reshape(len(own), -1)
        missed = np.linalg.norm(again.momenta.reshape(len(own), -1) - given, axis=1)
        out = np.full(there.shape, np.inf)
        out[there] = np.nan_to_num(missed / np.linalg.norm(given, axis=1), nan=np.inf)
        return out

    return residuals


def _likelihood(drawn: Drawn, folder: Path | None) -> tuple[dict[str, Any], np.ndarray | None]:
    """Return the NLL of the truth, or why there is none; and log q at each truth."""

    def none(why: str) -> tuple[dict[str, Any], None]:
        return {"value": np.nan, "kind": None, "why": why}, None

    if folder is None:
        return none("no --model to ask")
    if drawn.noise is None:
        return none("without noise momenta leave points, and a likelihood has no bound")
    from generative.sampler import load

    sampler, said = load(folder)
    if said["sha256"] != drawn.configuration["sampler"]["sha256"]:
        msg = f"{folder} is not the model that the draws are of; draw again"
        raise MismatchError(msg)
    try:
        value, kind = sampler.log_density(
            drawn.true, drawn.momenta, charges=drawn.charges, noise=drawn.noise
        )
    except InvalidDataError as error:
        return none(str(error))
    said = {"value": float(-value.mean()), "kind": kind}
    said["stderr"] = float(value.std() / len(value) ** 0.5)
    said["coordinates"] = drawn.configuration["log_density"]
    same = kind == "exact" and drawn.log_density is not None
    return said, value if same else None


def _exact(
    drawn: Drawn, mean: judge.Row, threads: int
) -> tuple[judge.Row | None, dict[str, Any], np.ndarray | None]:
    """Return the row of the exact posterior, what it is worth, and weights of the draws."""
    prior = _prior(drawn.configuration)
    if prior is None:
        return None, {"why": "the ensemble of the events is not known"}, None
    if drawn.noise is None:
        return *_solved(drawn, prior, mean, threads), None
    if drawn.log_density is None:
        return None, {"why": "the draws have no density to be weighted by"}, None
    if drawn.charges.ndim == 2:
        return None, {"why": "charges differ from event to event"}, None
    return _weighted(drawn, prior, threads)


def _solved(
    drawn: Drawn, prior: tuple[Ensemble, Molecule], mean: judge.Row, threads: int
) -> tuple[judge.Row, dict[str, Any]]:
    """Return the row of all solutions of the inversion, with their weights."""
    found = coulex.invert(
        drawn.momenta, drawn.masses, drawn.charges, prior=prior, project=True, threads=threads
    )
    event, numbers = found.solution_event, found.n_solutions
    place = np.arange(len(event)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    width = max(int(numbers.max()), 1)
    x = np.repeat(mean.point[:, None], width, axis=1)  # of weight zero, where there are fewer
    w = np.zeros(x.shape[:2])
    w[numbers == 0, 0] = 1.0
    middle = np.einsum("nik,i->nk", drawn.true, drawn.masses).mean(axis=0) / drawn.masses.sum()
    x[event, place] = found.solution_positions + middle
    w[event, place] = found.solution_weight
    said = {"by": "all solutions", "unsolved": int((numbers == 0).sum())}
    row = judge.Row(point=mean_of(x, w), draws=x, weights=w, fair=False)
    return row, said | {"several": int((numbers > 1).sum())}


def _weighted(
    drawn: Drawn, prior: tuple[Ensemble, Molecule], threads: int
) -> tuple[judge.Row, dict[str, Any], np.ndarray]:
    """Return the row of draws that are weighted by the simulator."""
    about = {"noise": drawn.noise, "prior": prior, "threads": threads}
    log = log_weights(
        drawn.draws, drawn.log_density, drawn.momenta, drawn.masses, drawn.charges, **about
    )
    w = normalised(log)
    lost = np.isnan(w).any(axis=1)
    w[lost] = 1 / w.shape[1]
    share = np.where(lost, 0.0, effective_sample_size(w) / w.shape[1])
    said = {
        "by": "draws weighted by the simulator",
        "effective_share": float(np.median(share)),
        "effective_share_percentile_1": float(np.quantile(share, 0.01)),
        "too_few": int((share < ENOUGH).sum()),
    }
    return judge.Row(point=mean_of(drawn.draws, w), draws=drawn.draws, weights=w), said, w


def _prior(configuration: dict[str, Any]) -> tuple[Ensemble, Molecule] | None:
    """Return the ensemble that simulated events come from, where it has a density."""
    said = dict(configuration.get("ensemble", {}))
    name = said.pop("name", None)
    resting = configuration.get("start", "at rest") == "at rest"
    if name not in ("gaussian", "sphere", "box") or not resting:
        return None
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
    return ENSEMBLES[name](**options), described(configuration["molecule"])
