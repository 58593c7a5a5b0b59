"""Who may import whom: the arrows of the architecture, as a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: each module or package, and all of ours that it may import; a new arrow is added here first
MAY_IMPORT = {
    "coulex.errors": set(),
    "coulex.units": set(),
    "coulex.kernels": set(),
    "coulex.accuracy": {"coulex.kernels"},
    "coulex.explosions": {"coulex.accuracy", "coulex.kernels"},
    "coulex.derivatives": {"coulex.explosions", "coulex.linear"},
    "coulex.linear": {"coulex.kernels.compiled"},
    "coulex.random": {"coulex.kernels.compiled"},
    "coulex.frames": {"coulex.random", "coulex.kernels.compiled"},
    "coulex.elements": {"coulex.errors"},
    "coulex.charges": {"coulex.elements"},
    "coulex.structure": {"coulex.elements", "coulex.errors", "coulex.units"},
    "coulex.molecule": {
        "coulex.charges",
        "coulex.elements",
        "coulex.errors",
        "coulex.structure",
        "coulex.units",
    },
    "coulex.ensemble": {
        "coulex.frames",
        "coulex.kernels.compiled",
        "coulex.molecule",
        "coulex.random",
    },
    "coulex.dataset": {
        "coulex.__version__",
        "coulex.errors",
        "coulex.geometry",
        "coulex.inverse.solutions",
        "coulex.units",
    },
    "coulex.production": {
        "coulex.__version__",
        "coulex.dataset",
        "coulex.ensemble",
        "coulex.explosions",
        "coulex.frames",
        "coulex.kernels",
        "coulex.molecule",
    },
    "coulex.inverse": {
        "coulex.accuracy",
        "coulex.derivatives",
        "coulex.ensemble",
        "coulex.errors",
        "coulex.explosions",
        "coulex.frames",
        "coulex.geometry",
        "coulex.kernels",
        "coulex.linear",
        "coulex.molecule",
        "coulex.random",
        "coulex.units",
    },
    "coulex.reconstruction": {
        "coulex.__version__",
        "coulex.dataset",
        "coulex.drawing",
        "coulex.ensemble",
        "coulex.errors",
        "coulex.filling",
        "coulex.inverse",
        "coulex.invert",
        "coulex.kernels.simd",
        "coulex.molecule",
    },
    "coulex.filling": {"coulex.dataset"},
    "coulex.drawing": {
        "coulex.__version__",
        "coulex.dataset",
        "coulex.errors",
        "coulex.filling",
        "coulex.inverse",
    },
    "coulex.round_trip": {"coulex.dataset", "coulex.errors", "coulex.inverse.validate"},
    "coulex.geometry": {"coulex.frames", "coulex.units"},
    "coulex.observables": {"coulex.units"},
    "coulex.events": {"coulex.dataset", "coulex.errors", "coulex.observables"},
    "coulex.summary": {"coulex.events", "coulex.observables", "coulex.units"},
    "coulex.plot": {"coulex.errors", "coulex.events", "coulex.observables", "coulex.units"},
    "coulex.plot_learning": {"coulex.errors", "coulex.plot"},
    "coulex.plot_draws": {"coulex.dataset", "coulex.errors", "coulex.geometry", "coulex.plot"},
    "coulex.plot_corner": {
        "coulex.dataset",
        "coulex.errors",
        "coulex.plot",
        "coulex.plot_draws",
    },
    "coulex.plot_structures": {"coulex.errors", "coulex.plot"},
    "coulex.plot_folds": {
        "coulex.explosions",
        "coulex.geometry",
        "coulex.inverse",
        "coulex.molecule",
        "coulex.plot",
    },
    "coulex.plot_motifs": {"coulex.errors", "coulex.plot"},
    "coulex.plot_environments": {"coulex.errors", "coulex.plot"},
    "coulex.plot_geometry": {
        "coulex.dataset",
        "coulex.errors",
        "coulex.geometry",
        "coulex.plot",
    },
    "coulex.cli": {"coulex", "generative"},
}

#: what a model may be built of; models never import one another
PARTS = {
    f"generative.{name}"
    for name in (
        *("couplings", "latents", "model", "nets", "priors", "representation", "score"),
        *("normalising", "splines"),
    )
}

#: the same table for `generative`, whose every file has one idea
MAY_IMPORT |= {
    "generative.score": set(),
    # a representation opens the files that it reads, and what was opened is encoded by it
    "generative.representation": {"generative.data", "generative.structures"},
    "generative.nets": set(),
    "generative.equivariant": set(),
    "generative.choices": set(),
    "generative.priors": {"generative.nets", "generative.splines"},
    "generative.latents": set(),
    "generative.couplings": set(),
    "generative.splines": set(),
    "generative.permutations": set(),
    "generative.seen": {"coulex.frames", "generative.permutations"},
    "generative.conditions": {"generative.seen"},
    "generative.charts": {"coulex.frames"},
    "generative.geometry": {
        "coulex.frames",
        "generative.charts",
        "generative.choices",
        "generative.conditions",
        "generative.permutations",
        "generative.representation",
        "generative.seen",
    },
    # a model saves itself, and a file of a model is of a model
    "generative.model": {
        "generative.choices",
        "generative.files",
        "generative.representation",
        "generative.score",
    },
    "generative.files": {
        "coulex.__version__",
        "coulex.dataset",
        "coulex.errors",
        "generative.model",
        "generative.representation",
    },
    "generative.normalising": {
        "generative.model",
        "generative.representation",
        "generative.score",
    },
    "generative.gaussian": PARTS,
    "generative.mlp": PARTS,
    "generative.cvae": PARTS,
    "generative.cinn": PARTS,
    "generative.flow": PARTS,
    "generative.data": {
        "coulex.dataset",
        "coulex.errors",
        "coulex.random",
        "generative.representation",
    },
    "generative.trajectories": {
        "coulex.dataset",
        "coulex.errors",
        "generative.structures",
    },
    "generative.correlation": {
        "coulex.errors",
        "generative.structures",
        "generative.trajectories",
    },
    "generative.silicon": {
        "coulex.__version__",
        "coulex.errors",
        "generative.structures",
        "generative.trajectories",
    },
    "generative.recipe": set(),
    "generative.parallel": set(),
    "generative.optimizers": {"generative.recipe"},
    "generative.history": {"coulex.dataset"},
    "generative.checkpoint": {"coulex.dataset", "coulex.errors"},
    "generative.run": {
        "generative.history",
        "generative.model",
        "generative.optimizers",
        "generative.parallel",
        "generative.recipe",
        "generative.representation",
    },
    "generative.train": {
        "generative.checkpoint",
        "generative.data",
        "generative.history",
        "generative.model",
        "generative.parallel",
        "generative.recipe",
        "generative.representation",
        "generative.run",
    },
    "generative.card": {"generative.model"},
    "generative.production": {
        "coulex.__version__",
        "coulex.dataset",
        "coulex.errors",
        "generative.card",
        "generative.checkpoint",
        "generative.data",
        "generative.files",
        "generative.history",
        "generative.model",
        "generative.parallel",
        "generative.recipe",
        "generative.representation",
        "generative.train",
    },
    "generative.sampler": {
        "coulex.errors",
        "coulex.units",
        "generative.files",
        "generative.geometry",
        "generative.model",
    },
    "generative.structures": {
        "coulex.dataset",
        "coulex.errors",
        "coulex.kernels.compiled",
        "coulex.structure",
    },
    "generative.repap": PARTS
    | {
        "coulex.errors",
        "generative.choices",
        "generative.correlation",
        "generative.data",
        "generative.structures",
        "generative.trajectories",
    },
    "generative.gram": PARTS
    | {
        "coulex.errors",
        "coulex.frames",
        "generative.choices",
        "generative.data",
        "generative.equivariant",
        "generative.structures",
    },
    "generative.scorecard": {
        "coulex.errors",
        "generative.gram.canonical",
        "generative.gram.environments",
        "generative.structures",
        "generative.trajectories",
        "generative.two_sample",
    },
    "generative.metrics": {"coulex.frames"},
    "generative.calibration": set(),
    "generative.two_sample": set(),
    "generative.judge": {
        "coulex.frames",
        "generative.calibration",
        "generative.metrics",
        "generative.two_sample",
    },
}

#: what no part of the library may import, and the only package that may import both of ours
HEAVY = {"torch", "e3nn", "zuko"}


def imports(path: Path) -> set[str]:
    """Return the full names of all that a file imports, at its top or in a function."""
    package = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            stem = ".".join(filter(None, [base, node.module]))
            found |= {f"{stem}.{name.name}" for name in node.names}
    return found


def files_of(module: str) -> list[Path]:
    path = ROOT.joinpath(*module.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_arrows(module):
    allowed = MAY_IMPORT[module] | {module}
    for file in files_of(module):
        ours = {name for name in imports(file) if name.startswith(("coulex.", "generative."))}
        strangers = {
            name
            for name in ours
            if not any(name == ok or name.startswith(ok + ".") for ok in allowed)
        }
        assert not strangers, f"{file.relative_to(ROOT)} imports {sorted(strangers)}"


@pytest.mark.parametrize("package", ["coulex"])
def test_the_library_does_without_networks(package):
    for file in files_of(package):
        if "cli" not in file.parts:
            heavy = {name.split(".")[0] for name in imports(file)} & HEAVY
            assert not heavy, f"{file.relative_to(ROOT)} imports {sorted(heavy)}"


def test_every_module_is_in_the_table():
    modules = set()
    for package, no_modules in (("coulex", {"data"}), ("generative", set())):
        parts = {p.stem if p.suffix else p.name for p in (ROOT / package).iterdir()}
        modules |= {f"{package}.{p}" for p in parts - {"__init__", "__pycache__"} - no_modules}
    assert modules == set(MAY_IMPORT)
