"""Events that wait: moved between lanes and a table with a slot for each, by masks of lanes.

A mask is an integer here, lane 0 in its lowest bit. All rows up to `kept` of a layout move.
"""

from .compiled import compiled
from .simd import from_bits, load, put, store, take


@compiled
def count_bits(number):
    """Return how many bits are set."""
    count = 0
    while number:
        number &= number - 1
        count += 1
    return count


@compiled
def lowest_bits(number, count):
    """Return the `count` lowest of the bits that are set."""
    kept = 0
    for _ in range(count):
        bit = number & -number
        kept |= bit
        number ^= bit
    return kept


@compiled
def push(lanes, rows, kept, mask, pool, count):
    """Append the events in the lanes of `mask` to a pool; return how many it then holds."""
    chosen = from_bits(lanes, mask)
    for row in range(kept):
        put(pool, row, count, load(lanes, rows, row), chosen)
    return count + count_bits(mask)


@compiled
def pull(lanes, rows, kept, mask, pool, count):
    """Move the last events of a pool to the lanes of `mask`; return how many it then holds."""
    chosen = from_bits(lanes, mask)
    count -= count_bits(mask)
    for row in range(kept):
        store(rows, row, take(pool, row, count, chosen, load(lanes, rows, row)))
    return count
