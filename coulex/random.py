"""Random numbers that belong to an event, not to the order in which events are computed.

Philox4x32-10 turns a counter and a key into four random words, without a state. The key is the
64-bit seed; the counter is (event, low word; event, high word; purpose; block). So the numbers
of event `e` depend on (seed, e, purpose) alone: blocks, shards, threads and resumed runs agree
bit for bit, and a new purpose leaves the numbers of all others as they were.

One block of four words gives two doubles: value k of an event comes from block k // 2.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, Parallel random numbers: as easy as
1, 2, 3, SC'11 (2011). https://doi.org/10.1145/2063384.2063405
"""

import math

import numpy as np

from .kernels.compiled import compiled

#: what a number is drawn for; a new use takes the next number, and none is ever reassigned
GEOMETRY = 0
ORIENTATION = 1
SPLIT = 2  #: whether a model is trained, validated or tested with an event

# Words are kept in uint64, masked: a product of two of them fits, and so nothing overflows
# where numpy, with the compiler switched off, would warn.
_MASK = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_MULTIPLY_0 = np.uint64(0xD2511F53)
_MULTIPLY_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)
_DISCARD = np.uint64(11)
_ULP = 2.0**-53


@compiled
def philox(c0, c1, c2, c3, k0, k1):
    """Return four random words of 32 bits for a counter and a key, all as uint64."""
    for _ in range(10):
        even, odd = _MULTIPLY_0 * c0, _MULTIPLY_1 * c2
        c0, c1 = (odd >> _WORD) ^ c1 ^ k0, odd & _MASK
        c2, c3 = (even >> _WORD) ^ c3 ^ k1, even & _MASK
        k0, k1 = (k0 + _WEYL_0) & _MASK, (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


@compiled
def uniform_pair(seed, event, purpose, block):
    """Return the two doubles in [0, 1) of a block; all arguments are uint64."""
    a, b, c, d = philox(
        event & _MASK, event >> _WORD, purpose, block, seed & _MASK, seed >> _WORD
    )
    u = np.float64(((a << _WORD) | b) >> _DISCARD) * _ULP
    v = np.float64(((c << _WORD) | d) >> _DISCARD) * _ULP
    return u, v


@compiled
def normal_pair(seed, event, purpose, block):
    """Return the two standard normal numbers of a block, by Box and Muller."""
    u, v = uniform_pair(seed, event, purpose, block)
    radius = math.sqrt(-2.0 * math.log(1.0 - u))
    return radius * math.cos(2.0 * math.pi * v), radius * math.sin(2.0 * math.pi * v)


@compiled
def _fill_uniform(out, seed, first, purpose):
    """Write the uniform numbers of events `first`, `first` + 1, ... into the rows of `out`."""
    for i in range(out.shape[0]):
        event = first + np.uint64(i)
        for k in range(0, out.shape[1], 2):
            u, v = uniform_pair(seed, event, purpose, np.uint64(k // 2))
            out[i, k] = u
            if k + 1 < out.shape[1]:
                out[i, k + 1] = v


@compiled
def _fill_normal(out, seed, first, purpose):
    """Write the normal numbers of events `first`, `first` + 1, ... into the rows of `out`."""
    for i in range(out.shape[0]):
        event = first + np.uint64(i)
        for k in range(0, out.shape[1], 2):
            u, v = normal_pair(seed, event, purpose, np.uint64(k // 2))
            out[i, k] = u
            if k + 1 < out.shape[1]:
                out[i, k + 1] = v


def stream(seed: int, first: int, count: int) -> tuple[np.uint64, np.uint64]:
    """Check a range of events, and return seed and first event as compiled code takes them.

    Parameters
    ----------
    seed : int
        From 0 to 2^64 - 1.
    first, count : int
        Events first ... first + count - 1, also within 64 bits.

    Raises
    ------
    ValueError
        If one of them is not an integer or out of range.
    """
    for name, value in (("seed", seed), ("first", first), ("count", count)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            msg = f"{name} must be an integer, got {value!r}"
            raise ValueError(msg)
        if not 0 <= value < 2**64:
            msg = f"{name} must lie between 0 and 2^64 - 1, got {value}"
            raise ValueError(msg)
    if int(first) + int(count) > 2**64:
        msg = f"events are numbered up to 2^64 - 1, but {count} from {first} were asked for"
        raise ValueError(msg)
    return np.uint64(seed), np.uint64(first)


def uniform(seed: int, first: int, count: int, n: int, purpose: int) -> np.ndarray:
    """Return `n` uniform numbers in [0, 1) for each of `count` events, with 53 random bits.

    Parameters
    ----------
    seed, first, count : int
        The key, and the events first ... first + count - 1.
    n : int
        Numbers per event; the first ones do not depend on how many are asked for.
    purpose : int
        One of the constants of this module.

    Returns
    -------
    (count, n) float64 array

    Raises
    ------
    ValueError
        If seed or events are not integers of 64 bits.
    """
    key, start = stream(seed, first, count)
    out = np.empty((count, n))
    _fill_uniform(out, key, start, np.uint64(purpose))
    return out


def normal(seed: int, first: int, count: int, n: int, purpose: int) -> np.ndarray:
    """Return `n` standard normal numbers for each of `count` events.

    Parameters, result and errors are those of `uniform`.

    Notes
    -----
    Box and Muller's transform of one block makes two numbers. With 53 bits none lies further
    out than 8.6, where the normal distribution leaves 1e-17.
    """
    key, start = stream(seed, first, count)
    out = np.empty((count, n))
    _fill_normal(out, key, start, np.uint64(purpose))
    return out
