"""Lanes: numbers of many trajectories side by side, in one register of the processor.

A loop over lanes is not vectorised by LLVM once a step has branches in it, so the kernels say
what they mean: `load` gives a vector of one number per lane, and ``+ - * /``, comparisons and
the functions below act on all lanes at once. How many lanes there are, in which precision, and
which instructions may be used, is the type of one argument, `lanes`, which every kernel hands
on; numba compiles (and caches) a kernel for each.

Three instruction sets are told apart, because they round differently:

- ``avx512``: fused multiply-add, and reciprocal square roots from the 14-bit estimate;
- ``fma``: fused multiply-add (AVX2, NEON), correctly rounded square roots and quotients;
- ``portable``: single operations rounded as IEEE 754 says, hence the same bits everywhere.

Without the compiler (``NUMBA_DISABLE_JIT=1``) the same kernels run on one lane, where a vector
is a numpy scalar: slow, readable in a debugger, and equal to ``portable`` bit for bit.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
from numba import config

_UNCOMPILED = bool(getattr(config, "DISABLE_JIT", 0))


@dataclass(frozen=True)
class Lanes:
    """How a kernel is compiled: precision, number of lanes, instruction set."""

    dtype: str
    width: int
    instructions: str

    @property
    def sources(self) -> str:
        """What the kernels are made of: part of the type, so that the cache knows old ones."""
        return _digest()


@cache
def _digest():
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@cache
def instruction_set() -> str:
    """Return what this processor offers: ``avx512``, ``fma`` or ``portable``."""
    if _UNCOMPILED:
        return "portable"
    has = llvm.get_host_cpu_features()
    if has.get("avx512f") and has.get("avx512dq"):
        return "avx512"
    return "fma" if has.get("fma") or has.get("neon") else "portable"


def lanes(precision: str, *, registers: int = 1, portable: bool = False) -> Lanes:
    """Return the lanes that fill one register of this processor, or two.

    Parameters
    ----------
    precision : {"float64", "float32"}
    registers : int
        Two, 1 or 2, where one chain of operations is too short to keep the processor busy.
    portable : bool
        Use only operations that give the same bits on every processor.
    """
    size = np.dtype(precision).itemsize
    native = instruction_set()
    if _UNCOMPILED:
        return Lanes(precision, 1, "portable")
    register = {"avx512": 64, "fma": 32, "portable": 16}[native]
    return Lanes(precision, registers * register // size, "portable" if portable else native)


class Rows:
    """A table of zeros, (rows, slots), seen by kernels as a pointer to rows of known length.

    An array of numba's own counts references at every call, which costs more than a short
    kernel. Tables start on a cache line, so that no vector lies across two.
    """

    def __init__(self, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = np.zeros(size + 64, np.uint8)
        begin = -raw.ctypes.data % 64
        self.array = raw[begin : begin + size].view(dtype).reshape(shape)
        self.address = self.array.ctypes.data

    @classmethod
    def of(cls, values, dtype):
        """Return a table of these values; a list becomes its only row."""
        values = np.atleast_2d(np.asarray(values, float))
        rows = cls(values.shape, dtype)
        rows.array[:] = values
        return rows

    def __getitem__(self, place):
        return self.array[place]

    def __setitem__(self, place, value):
        self.array[place] = value


# The functions as plain Python, on one lane; `lowering.py` has them as instructions.


def lane_count(lanes):
    """Return how many lanes there are."""
    return lanes.width


def load(lanes, rows, row):
    """Return a row of a table with as many slots as lanes."""
    return rows[row, 0]


def store(rows, row, value):
    """Put `value` into a row."""
    rows[row, 0] = value


def splat(lanes, value):
    """Return `value` in every lane."""
    return np.dtype(lanes.dtype).type(value)


def fma(a, b, c):
    """Return a * b + c, rounded once where the instruction set has that."""
    return a * b + c


def sqrt(a):
    """Return the square root."""
    return np.sqrt(a)


def rough_rsqrt(a):
    """Return 1/sqrt(a), to 14 bits at least: for step sizes, not for physics."""
    return 1.0 / np.sqrt(a)


def inverse_cube(a):
    """Return a**(-3/2) to about the last bit."""
    return 1.0 / (a * np.sqrt(a))


def inverse(a):
    """Return 1/a, to 1e-11 at least: for derivatives, beside `inverse_cube` nearly free."""
    return 1.0 / a


def select(mask, a, b):
    """Return `a` where `mask` holds, `b` elsewhere."""
    return a if mask else b


def bits(mask):
    """Return a mask as an integer, lane 0 in the lowest bit."""
    return int(mask)


def from_bits(lanes, number):
    """Return the mask whose lanes are the bits of an integer."""
    return bool(number & 1)


def take(rows, row, slot, mask, other):
    """Fill the lanes of `mask` from consecutive slots of a row; others keep `other`."""
    return rows[row, slot] if mask else other


def put(rows, row, slot, value, mask):
    """Write the lanes of `mask` to consecutive slots of a row."""
    if mask:
        rows[row, slot] = value
