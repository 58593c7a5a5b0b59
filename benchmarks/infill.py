"""How often missing atoms are found: models against the lookup of known environments.

    python benchmarks/infill.py MODEL... --library FILE --judge FILE [--events 300]
        [--missing any] [--draws 100] [--vacancies 20] [--json FILE]

Environments of JUDGE, which no model has seen, lose all but 7, 6, 5 and 4 of their 8
neighbours. LIBRARY holds the structures that the models were trained on. Everything is found
from the known atoms alone, in a random order: neither frame nor labels are given. Columns:

- first: all missing atoms within 0.5 Å of their places, each by an atom of its own, by one
  completion: one draw of a model (on average over 10), the end of a search with the least f,
  the nearest part of the library;
- best: by any of 10 of these;
- agreed, best: the same of the 10 completions with which most of 100 draws agree;
- atoms: share of missing atoms that any of the 10 has found.

Three rows are told more, to compare with numbers that were obtained so. "labels given": the
canonical labels of the known atoms, which tell at which place of the template an atom is
missing. "frame and labels given": the canonical frame too. It is that in which the whole
environment lies best on the template t, so Σ t × x = 0: three linear equations for what is
missing. The mean of a normal distribution, given the known coordinates, solves them.

With --vacancies, atoms are taken out of the first structure of JUDGE one at a time, and put
back by the environments around; beside it stands the centroid of the atoms that lack a bond.
Canonical labels are timed, and tried with shifted atoms.

One thread; seconds of the CPU.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generative.files import load
from generative.gram import environments
from generative.gram.canonical import Template, label
from generative.gram.finding import hidden, ranked, rates
from generative.gram.infill import infill
from generative.gram.lookup import Library
from generative.gram.synchronise import align
from generative.gram.vacancy import bonds_of, place_missing, underbonded
from generative.model import Model
from generative.structures import Structure, read

KNOWN = (7, 6, 5, 4)
COMPLETIONS = 10
SHIFTS = (0.001, 0.01, 0.05)  # Å


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what work gives, and its seconds of the CPU."""
    start = time.process_time()
    return work(), time.process_time() - start


def with_labels(
    library: np.ndarray, x: np.ndarray, k: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return the rates of ways that are told the canonical labels of whole environments."""
    template = Template.fit(library)
    held, whole = label(library, template).x, label(x, template).x
    normal = held.reshape(len(held), -1)
    middle, covariance = normal.mean(0), np.cov(normal.T)
    order = rng.permuted(np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1)
    labels, both, linear = [], [], []
    for one, places in zip(whole, order, strict=True):
        there, gone = places[:k], places[k:]
        q = align(np.broadcast_to(one[there], (len(held), k, 3)), held[:, there])
        nearest = _nearest(held[:, there] @ q, one[there])
        labels.append((held[nearest] @ q[nearest])[:, gone])
        both.append(held[_nearest(held[:, there], one[there])][:, gone])
        known, missing = ((3 * p[:, None] + np.arange(3)).ravel() for p in (there, gone))
        slope = covariance[np.ix_(missing, known)] @ np.linalg.pinv(
            covariance[np.ix_(known, known)], rcond=1e-6
        )
        mean = middle[missing] + slope @ (one[there].ravel() - middle[known])
        linear.append(mean.reshape(1, -1, 3))
    missing = np.take_along_axis(whole, order[:, k:, None], axis=1)
    ways = {"lookup, labels given": labels, "lookup, frame and labels given": both}
    ways["normal distribution, likewise"] = linear
    return {name: rates(np.array(drawn), missing) for name, drawn in ways.items()}


def _nearest(held: np.ndarray, known: np.ndarray) -> np.ndarray:
    return ((held - known) ** 2).sum((1, 2)).argsort()[:COMPLETIONS]


def rows_of(
    models: dict[str, Model], library: np.ndarray, x: np.ndarray, outer: dict, args: Any
) -> Iterator[dict[str, Any]]:
    """Yield a row for each way and number of known atoms."""
    for k in KNOWN:
        known, missing = hidden(x, k, np.random.default_rng(args.seed), which=args.missing)
        found, seconds = timed(lambda k=k, known=known: _lookup(library, known, k))
        yield {"way": "lookup", "known": k, "seconds": seconds, **rates(found, missing)}
        given = with_labels(library, x, k, np.random.default_rng(args.seed))
        for name, row in given.items():
            yield {"way": name, "known": k, **row}
        for name, model in models.items():
            yield from model_rows(name, model, known, missing, outer[name], args)


def _lookup(library: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    return Library(library, k).lookup(known, COMPLETIONS)[:, :, k:]


def model_rows(
    name: str, model: Model, known: np.ndarray, missing: np.ndarray, outer: Any, args: Any
) -> list[dict[str, Any]]:
    """Return the rows of a model."""
    k, searched = known.shape[1], not hasattr(model, "infill")
    count = COMPLETIONS if searched else args.draws
    generator = torch.Generator().manual_seed(args.seed)
    drawn, seconds = timed(lambda: infill(model, known, count, generator, outer=outer))
    drawn = drawn[:, :, k:]
    row = {"way": name, "known": k, "seconds": seconds, "draws": count}
    if searched:
        return [{**row, **rates(drawn, missing)}]
    plain = rates(drawn[:, :COMPLETIONS], missing)
    plain["first"] = plain["one"]
    chosen = drawn[np.arange(len(drawn))[:, None], ranked(drawn, COMPLETIONS)]
    return [{**row, **plain}, {**row, "way": f"{name}, agreed", **rates(chosen, missing)}]


def vacancies(model: Model, whole: Structure, args: Any) -> dict[str, Any]:
    """Return how far from their places atoms are put that were taken out."""
    rng = np.random.default_rng(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    bond, bonds = bonds_of(whole)
    before = {frozenset(group.tolist()) for group in underbonded(whole, bond, bonds)}
    apart, centroid, detected, begin = [], [], 0, time.process_time()
    for atom in rng.permutation(len(whole))[: args.vacancies]:
        kept = np.delete(np.arange(len(whole)), atom)
        cell = replace(whole, positions=whole.positions[kept], numbers=whole.numbers[kept])
        groups = underbonded(cell, bond, bonds)
        new = [g for g in groups if frozenset(kept[g].tolist()) not in before]
        if not new:
            continue
        detected += 1
        made = place_missing(model, cell, new[0], draws=args.draws, generator=generator)
        apart.append(float(np.linalg.norm(_short(made.position, whole, atom))))
        middle = _short(cell.positions[new[0]], whole, atom).mean(axis=0)
        centroid.append(float(np.linalg.norm(middle)))
    told: dict[str, Any] = {"taken": args.vacancies, "detected": detected}
    for name, distance in (("model", apart), ("centroid", centroid)):
        told[name] = {
            "median": float(np.median(distance)),
            "within_0.5": float((np.array(distance) <= 0.5).mean()),
        }
    return told | {"seconds": time.process_time() - begin}


def _short(positions: np.ndarray, whole: Structure, atom: int) -> np.ndarray:
    """Return the vectors to positions from the nearest image of an atom."""
    shift = positions - whole.positions[atom]
    return shift - np.round(shift @ np.linalg.inv(whole.cell)) @ whole.cell


def labels(x: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the time of canonical labels, and how often a small shift changes them."""
    rng = np.random.default_rng(seed)
    template, fitting = timed(lambda: Template.fit(x))
    found, seconds = timed(lambda: label(x, template))
    told: dict[str, Any] = {"environments": len(x), "fit": fitting, "label": seconds}
    told["to_template"] = float(np.sqrt((found.distance**2).mean() / x.shape[1]))
    told["margin"] = np.quantile(found.margin, [0.01, 0.1, 0.5]).tolist()
    for shift in SHIFTS:
        again = label(x + rng.normal(0, shift, x.shape), template)
        told[f"changed_{shift}"] = float((again.order != found.order).any(axis=1).mean())
    return told


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Missing atoms: who finds them.")
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--library", dest="known", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--missing", choices=("any", "farthest", "nearest"), default="any")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--vacancies", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = {path.name: load(path) for path in args.models}
    library = environments.of(read(args.known))["neighbours"]
    judged = read(args.judge)
    sizes = {
        name: getattr(model.representation, "context", 0) for name, model in models.items()
    }
    most = max(sizes.values(), default=0)
    arrays = environments.of(judged, context=most)
    chosen = np.random.default_rng(args.seed).permutation(len(arrays["atom"]))[: args.events]
    x = arrays["neighbours"][chosen]
    outer = {name: arrays["outer"][chosen][:, :size] for name, size in sizes.items()}

    told: dict[str, Any] = {"torch": torch.__version__, "labels": labels(library, args.seed)}
    print(json.dumps(told["labels"]))
    told["rows"] = []
    for r in rows_of(models, library, x, outer, args):
        told["rows"].append(r)
        cost = f"{r['seconds']:8.1f} s" if "seconds" in r else ""
        print(
            f"{r['known']} known  {r['way']:32} first {r['first']:.3f} ± {r['error']:.3f}"
            f"  best {r['best']:.3f}  atoms {r['coverage']:.3f} {cost}",
            flush=True,
        )
    if args.vacancies:
        told["vacancies"] = {
            name: vacancies(model, judged[0], args) for name, model in models.items()
        }
        print(json.dumps(told["vacancies"]))
    if args.json:
        args.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
