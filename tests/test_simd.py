"""Every operation on lanes, on each instruction set that this processor has, against numpy."""

import math
from fractions import Fraction

import numpy as np
import pytest
from numba import config
from numpy.testing import assert_array_equal

from coulex.kernels import simd
from coulex.kernels.compiled import compiled

if config.DISABLE_JIT:
    pytest.skip("one lane in Python is numpy itself", allow_module_level=True)

SETS = {"avx512": 64, "fma": 32, "portable": 16}  # bytes in a register
HERE = list(SETS)[list(SETS).index(simd.instruction_set()) :]


def kinds():
    for name in HERE:
        for precision in ("float64", "float32"):
            for registers in (1, 2):
                width = registers * SETS[name] // np.dtype(precision).itemsize
                yield simd.Lanes(precision, width, name)


@pytest.fixture(params=kinds(), ids=lambda k: f"{k.instructions}-{k.width}x{k.dtype}")
def lanes(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@compiled
def each(lanes, rows, out, count):
    """Write what every operation makes of rows a, b, c to rows of `out`."""
    for k in range(count):
        a = simd.load(lanes, rows, 3 * k)
        b = simd.load(lanes, rows, 3 * k + 1)
        c = simd.load(lanes, rows, 3 * k + 2)
        at = 16 * k
        simd.store(out, at, a + b)
        simd.store(out, at + 1, a - b)
        simd.store(out, at + 2, a * b)
        simd.store(out, at + 3, a / b)
        simd.store(out, at + 4, -a)
        simd.store(out, at + 5, simd.fma(a, b, c))
        simd.store(out, at + 6, simd.sqrt(c))
        simd.store(out, at + 7, simd.inverse_cube(c))
        simd.store(out, at + 8, simd.rough_rsqrt(c))
        simd.store(out, at + 9, simd.select(a < b, a, b))
        simd.store(out, at + 10, simd.select((a <= b) & (b <= c), a, c))
        simd.store(out, at + 11, simd.select((a > b) | (b >= c), a, c))
        simd.store(out, at + 12, 2.5 * a + 1)
        simd.store(out, at + 13, simd.splat(lanes, 0.1))
        simd.store(out, at + 14, 1.0 / a)
        simd.store(out, at + 15, a - 0.1)


def run_each(lanes, a, b, c):
    count = a.size // lanes.width
    rows = simd.Rows((3 * count, lanes.width), lanes.dtype)
    for part, values in enumerate((a, b, c)):
        rows.array[part::3] = values.reshape(count, lanes.width)
    out = simd.Rows((16 * count, lanes.width), lanes.dtype)
    each(lanes, rows, out, count)
    return [out.array[k::16].ravel() for k in range(16)]


@pytest.fixture
def numbers(lanes, rng):
    """Of every size from 1e-6 to 1e6; the third are positive."""
    a, b, c = np.exp(rng.uniform(-14, 14, (3, 64 * lanes.width))).astype(lanes.dtype)
    return a * rng.choice([-1, 1], a.size).astype(a.dtype), -b, c


def test_arithmetic_rounds_like_numpy(lanes, numbers):
    a, b, c = numbers
    out = run_each(lanes, a, b, c)
    small = a.dtype.type(0.1)
    for got, true in zip(
        (*out[:5], out[6], *out[9:16]),
        (
            a + b,
            a - b,
            a * b,
            a / b,
            -a,
            np.sqrt(c),
            np.minimum(a, b),
            np.where((a <= b) & (b <= c), a, c),
            np.where((a > b) | (b >= c), a, c),
            a.dtype.type(2.5) * a + a.dtype.type(1),
            np.full_like(a, small),
            a.dtype.type(1) / a,
            a - small,
        ),
        strict=True,
    ):
        assert got.dtype == true.dtype
        assert_array_equal(got, true)


def test_fused_multiply_add_rounds_once_or_is_portable(lanes, rng):
    a, b = rng.normal(size=(2, 64 * lanes.width)).astype(lanes.dtype)
    c = -(a * b)  # what is left is nothing but the rounding of the product
    got = run_each(lanes, a, b, c)[5]
    exact = [float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in
             zip(a, b, c, strict=True)]  # fmt: skip
    true = np.zeros_like(a) if lanes.instructions == "portable" else np.array(exact, a.dtype)
    assert_array_equal(got, true)
    assert np.any(np.array(exact) != 0)


def test_inverse_cube_to_about_the_last_bit(lanes, rng):
    # all mantissas of interest: a**(-3/2) repeats itself every factor of four
    dtype = np.dtype(lanes.dtype).type
    top = 30 if lanes.dtype == "float32" else 200
    a = rng.uniform(1, 4, 4096 * lanes.width)
    a *= 4.0 ** rng.integers(-top // 3, top // 3, a.size)
    a = a.astype(dtype)
    a[:4] = 1, 4, np.nextafter(dtype(4), dtype(0)), np.nextafter(dtype(1), dtype(2))
    got = run_each(lanes, a, a, a)[7]
    wide = a.astype(np.longdouble)
    true = 1 / (wide * np.sqrt(wide))
    error = np.abs(got.astype(np.longdouble) / true - 1).max() / np.finfo(dtype).eps
    # four operations round by half a unit at most. With the processor's estimate, whose square
    # is off by d < 2^-13, a series is cut off before 15/8 d^2, or before 315/128 d^4
    cut = {"float32": 15 / 8 * 2.0**-3, "float64": 315 / 128}[lanes.dtype]
    assert error < 2 + (cut if lanes.instructions == "avx512" else 0)


def test_rough_reciprocal_square_root(lanes, numbers):
    c = numbers[2]
    got = run_each(lanes, *numbers)[8].astype(float)
    assert np.abs(got * np.sqrt(c.astype(float)) - 1).max() < 2.0**-14


def test_rough_reciprocal_square_root_of_extremes(lanes):
    # of what the step control may meet: a zero, an overflow and a result that is no number
    c = np.resize(np.array([0, np.inf, np.nan, -1, 1, 4], lanes.dtype), 6 * lanes.width)
    with np.errstate(all="ignore"):
        got = run_each(lanes, c, c, c)[8]
    true = np.resize(np.array([np.inf, 0, np.nan, np.nan, 1, 0.5], lanes.dtype), c.size)
    np.testing.assert_allclose(got, true, rtol=2.0**-14)


@pytest.mark.parametrize("registers", [1, 2])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_comparisons_with_what_is_no_number_fail(precision, registers):
    lanes = simd.lanes(precision, registers=registers)
    nan = np.full(lanes.width, np.nan, precision)
    one = np.ones(lanes.width, precision)
    out = run_each(lanes, nan, one, 2 * one)
    assert_array_equal(out[9], one)  # a < b does not hold
    assert_array_equal(out[10], 2 * one)
    assert_array_equal(out[11], 2 * one)


@compiled
def turn_bits(lanes, rows, number):
    """Return a number by way of a mask, and the lanes of the first row above zero."""
    positive = simd.load(lanes, rows, 0) > 0.0
    return (
        simd.bits(simd.from_bits(lanes, number)),
        simd.bits(positive),
        simd.lane_count(lanes),
    )


def test_masks_are_bits_from_the_lowest_lane(lanes, rng):
    rows = simd.Rows((1, lanes.width), lanes.dtype)
    full = (1 << lanes.width) - 1
    for number in [0, 1, full, full - 1, full ^ 1, *rng.integers(0, full + 1, 50).tolist()]:
        above = np.array([number >> k & 1 for k in range(lanes.width)])
        rows.array[0] = 2 * above - 1
        assert turn_bits(lanes, rows, number) == (number, number, lanes.width)
    # bits beyond the lanes do not count
    assert turn_bits(lanes, rows, -1)[0] == full


@compiled
def pack(lanes, rows, pool, row, slot, number):
    """Put the first row's lanes of a mask into a pool, and take them from there again."""
    chosen = simd.from_bits(lanes, number)
    simd.put(pool, row, slot, simd.load(lanes, rows, 0), chosen)
    other = simd.load(lanes, rows, 1)
    simd.store(rows, 2, simd.take(pool, row, slot, chosen, other))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_put_and_take_touch_what_they_should_alone(lanes, rng, row):
    width, full = lanes.width, (1 << lanes.width) - 1
    for number in [0, 1, full, 1 << (width - 1), *rng.integers(0, full + 1, 20).tolist()]:
        chosen = np.array([bool(number >> k & 1) for k in range(width)])
        count = chosen.sum()
        for slot in {0, 1, 4 * width - count}:  # up to the very end of the table
            rows, pool = (simd.Rows(s, lanes.dtype) for s in ((3, width), (3, 4 * width)))
            rows.array[:2] = rng.normal(size=(2, width))
            pool.array[:] = before = rng.normal(size=pool.array.shape)
            before = before.astype(lanes.dtype)
            pack(lanes, rows, pool, row, slot, number)
            before[row, slot : slot + count] = rows.array[0, chosen]
            assert_array_equal(pool.array, before)
            assert_array_equal(rows.array[2], np.where(chosen, rows.array[0], rows.array[1]))


@compiled
def touch(rows, row, slot):
    """Read and write one number."""
    rows[row, slot] = rows[row, slot] + 1.5
    return rows[row, slot]


def test_rows_are_seen_alike_by_kernels_and_numpy(lanes):
    rows = simd.Rows((5, lanes.width), lanes.dtype)
    assert rows.address % 64 == 0
    assert not rows.array.any()
    for place in [(0, 0), (0, lanes.width - 1), (4, 0), (4, lanes.width - 1)]:
        assert touch(rows, *place) == 1.5 == rows[place]
    assert rows.array.sum() == 6


def test_rows_of_values_lie_on_a_cache_line():
    for values in ([1.0, 2.0, 3.0], np.arange(6.0).reshape(2, 3)):
        rows = simd.Rows.of(values, "float32")
        assert rows.address % 64 == 0
        assert rows.array.dtype == np.float32
        assert_array_equal(rows.array, np.atleast_2d(values))


def test_lanes_fill_the_registers_of_this_processor():
    bytes_ = SETS[simd.instruction_set()]
    for precision, size in (("float64", 8), ("float32", 4)):
        assert simd.lanes(precision).width == bytes_ // size
        assert simd.lanes(precision, registers=2).width == 2 * bytes_ // size
        assert simd.lanes(precision, portable=True).instructions == "portable"


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ({"avx512f": True, "avx512dq": True, "fma": True}, "avx512"),
        ({"avx512f": True, "avx512dq": False, "fma": True}, "fma"),
        ({"neon": True}, "fma"),
        ({"sse2": True}, "portable"),
    ],
)
def test_instructions_follow_the_processor(monkeypatch, features, name):
    monkeypatch.setattr(simd.llvm, "get_host_cpu_features", lambda: features)
    simd.instruction_set.cache_clear()
    try:
        assert simd.instruction_set() == name
    finally:
        monkeypatch.undo()
        simd.instruction_set.cache_clear()
    assert math.log2(simd.lanes("float64").width) % 1 == 0
