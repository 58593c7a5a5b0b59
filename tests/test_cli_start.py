"""How `coulex` starts: quickly, importing nothing heavy and touching nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "numba", "ase", "scipy", "e3nn", "matplotlib.pyplot", "matplotlib", "h5py")


def process(code):
    """Run Python code in a process of its own; return its output and its CPU seconds."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    after = os.times()
    used = after.children_user - before.children_user
    return done.stdout, used + after.children_system - before.children_system


@pytest.mark.parametrize(
    "arguments",
    [["--help"]]
    + [[word, "--help"] for word in ("simulate", "invert", "validate", "plot", "data")],
)
def test_help_is_quick_and_imports_nothing_heavy(arguments):
    code = f"""
import sys
from coulex.cli import main
sys.argv = ["coulex", *{arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code
print("loaded:", [name for name in {HEAVY} if name in sys.modules])
"""
    runs = [process(code) for _ in range(3)]
    assert "loaded: []" in runs[0][0]
    # of the CPU, not of the clock: other work on the machine shall not fail this
    assert min(seconds for _, seconds in runs) < 0.4


def test_import_is_cheap_and_touches_nothing():
    code = f"""
import random, sys, warnings
before = random.getstate(), list(warnings.filters)
import coulex
assert (random.getstate(), list(warnings.filters)) == before
print([name for name in (*{HEAVY}, "numpy") if name in sys.modules])
assert set(coulex.__all__) <= set(dir(coulex))
"""
    assert process(code)[0].strip() == "[]"
