"""The same bits, whatever stands beside an event, whoever computes it, and with what."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import reference
from numba import config
from numpy.testing import assert_array_equal

from coulex import simulate
from coulex.explosions import Explosions
from coulex.kernels import simd
from coulex.units import U

ROOT = Path(__file__).parent.parent
MASSES = np.array([15.999, 12.011, 32.06]) * U
FIELDS = ("momenta", "status", "energy_error", "error_estimate")
#: more events than lanes, than a pool holds, and than the smallest block
MANY = 1000


def crowd(n=MANY):
    """Explosions of all sorts: moving, near, of charges of their own, without a result."""
    rng = np.random.default_rng(3)
    x = reference.in_sphere(rng, n, 3, separation=0.02)
    x[::7, 1] = x[::7, 0] + rng.normal(size=(len(x[::7]), 3)) * 1e-3  # they need many steps
    x[5::53, 2] = x[5::53, 0]
    p = rng.normal(size=x.shape) * np.sqrt(MASSES)[:, None]
    q = rng.integers(0, 4, (n, 3)).astype(float)
    return x, p, q


def explode(events, **options):
    x, p, q = events
    return simulate(x, MASSES, q, initial_momenta=p, **options)


def assert_same_bits(one, other):
    for field in FIELDS:
        assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)


def chosen(events, which):
    return tuple(array[which] for array in events)


def part(run, which):
    return Explosions(*(getattr(run, field)[which] for field in FIELDS))


PRECISION = pytest.mark.parametrize("precision", ["float64", "float32"])


@pytest.fixture(params=["float64", "float32"])
def whole(request):
    """A precision, and the crowd in it, on one thread."""
    run = explode(crowd(), precision=request.param, threads=1)
    assert 0.5 < np.mean(run.status == 0) < 1  # of both kinds, or this shows less
    return request.param, run


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_do_not_matter(whole, threads):
    precision, run = whole
    assert_same_bits(explode(crowd(), precision=precision, threads=threads), run)


@pytest.mark.parametrize("block", [1, 64, 100, 1 << 13])
def test_blocks_do_not_matter(whole, block, monkeypatch):
    precision, run = whole
    monkeypatch.setattr("coulex.explosions._BLOCK", block)
    assert_same_bits(explode(crowd(), precision=precision, threads=2), run)


@pytest.mark.parametrize(
    "which",
    [
        slice(1),
        slice(7),
        slice(65),
        slice(500, 517),
        slice(None, None, -1),
        slice(3, None, 10),
    ],
    ids=str,
)
def test_neighbours_do_not_matter(whole, which):
    precision, run = whole
    alone = explode(chosen(crowd(), which), precision=precision, threads=1)
    assert_same_bits(alone, part(run, which))


def test_the_order_of_events_does_not_matter(whole):
    precision, run = whole
    order = np.random.default_rng(0).permutation(MANY)
    assert_same_bits(explode(chosen(crowd(), order), precision=precision), part(run, order))


def test_an_event_alone_is_the_same(whole):
    precision, run = whole
    for event in (0, 1, 5, 7, 14, 58, 500, 999):
        which = slice(event, event + 1)
        alone = explode(chosen(crowd(), which), precision=precision)
        assert_same_bits(alone, part(run, which))


def test_python_threads_at_once(whole):
    precision, run = whole
    events = crowd()
    with ThreadPoolExecutor(4) as pool:
        runs = list(
            pool.map(lambda t: explode(events, precision=precision, threads=t), [1, 2] * 4)
        )
    for each in runs:
        assert_same_bits(each, run)


WITHOUT_COMPILER = """
import sys
import numpy as np
sys.path.insert(0, "tests")
import test_engine
run = test_engine.explode(test_engine.crowd({n}), precision="{precision}", portable=True)
np.savez(sys.argv[1], **{{field: getattr(run, field) for field in test_engine.FIELDS}})
"""


def without_compiler(tmp_path, precision, n):
    path = tmp_path / "plain.npz"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    code = WITHOUT_COMPILER.format(precision=precision, n=n)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(path)


@pytest.mark.skipif(config.DISABLE_JIT, reason="compares with the compiler")
@pytest.mark.parametrize(
    "precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_portable_is_plain_python_bit_for_bit(tmp_path, precision):
    portable = explode(crowd(60), precision=precision, portable=True)
    plain = without_compiler(tmp_path, precision, 60)
    for field in FIELDS:
        assert_array_equal(getattr(portable, field), plain[field], err_msg=field)
    native = explode(crowd(60), precision=precision)
    assert_array_equal(native.status, portable.status)
    good = native.status == 0
    tolerance = {"float64": 1e-9, "float32": 3e-4}[precision]
    apart = reference.errors(native.momenta[good], portable.momenta[good])
    assert apart.max() <= 2 * tolerance


def forced(monkeypatch, instructions, width, precision):
    """Let `simulate` believe in another processor, whatever it asks for."""
    asked = []

    def lanes(precision, **_):
        asked.append(precision)
        return simd.Lanes(precision, width, instructions)

    monkeypatch.setattr(simd, "lanes", lanes)
    run = explode(crowd(200), precision=precision)
    monkeypatch.undo()
    assert asked
    return run


@pytest.mark.skipif(config.DISABLE_JIT, reason="needs the compiler")
@pytest.mark.parametrize(
    ("instructions", "width", "precision"),
    [
        ("fma", 8, "float64"),
        pytest.param("fma", 16, "float32", marks=pytest.mark.slow),
        pytest.param("portable", 2, "float64", marks=pytest.mark.slow),
        pytest.param("portable", 4, "float32", marks=pytest.mark.slow),
    ],
)
def test_other_instructions_agree_to_the_tolerance(
    monkeypatch, instructions, width, precision
):
    sets = ["portable", "fma", "avx512"]
    if sets.index(instructions) > sets.index(simd.instruction_set()):
        pytest.skip(f"this processor has no {instructions}")
    other = forced(monkeypatch, instructions, width, precision)
    native = explode(crowd(200), precision=precision)
    assert_array_equal(other.status, native.status)
    good = native.status == 0
    tolerance = {"float64": 1e-9, "float32": 3e-4}[precision]
    apart = reference.errors(other.momenta[good].astype(float), native.momenta[good])
    assert apart.max() <= 2 * tolerance


@pytest.mark.skipif(config.DISABLE_JIT, reason="runs without the compiler already")
def test_kernels_and_explosions_without_the_compiler(tmp_path):
    """The tests of kernels, and of all numbers of ions, are run so: no kernel to compile."""
    files = ("test_kernels", "test_tail", "test_explosions", "test_explosion_inputs")
    names = [f"tests/{name}.py" for name in files]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        # in Python, ten thousand steps and many forms of one array take their time
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *names]
        + ["-k", "not bound and not any_form"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
