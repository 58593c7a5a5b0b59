from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import config
from numpy.testing import assert_array_equal

from coulex import random

COLUMNS, SEED = 4, 20_240_607
ROWS = 2_000 if config.DISABLE_JIT else 100_000  # a thousand times slower without compiler
#: largest distance between an empirical and the true distribution, exceeded once in 10^4
KOLMOGOROV = np.sqrt(np.log(2e4) / 2)

# counter, key and result from the file kat_vectors of Random123, philox4x32 10
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000")
    + ("6627e8d5 e169c58d bc57ac4c 9b00dbd8",),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff")
    + ("408f276d 41c83b0e a20bc7c6 6d5451fd",),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0")
    + ("d16cfe09 94fdcceb 5001e420 24126ea1",),
]


def words(text):
    return [np.uint64(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
@pytest.mark.parametrize("compiled", [True, False])
def test_known_answers(counter, key, expected, compiled):
    philox = random.philox if compiled else getattr(random.philox, "py_func", random.philox)
    assert list(philox(*words(counter), *words(key))) == words(expected)


def test_words_come_from_the_counter_that_is_promised():
    seed, event, purpose, block = 0xA4093822_299F31D0, 0x85A308D3_243F6A88, 7, 3
    counter = [event & 0xFFFFFFFF, event >> 32, purpose, block]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    a, b, c, d = (int(w) for w in random.philox(*map(np.uint64, counter + key)))
    expected = [(a << 32 | b) >> 11, (c << 32 | d) >> 11]
    drawn = random.uniform(seed, event, 1, 8, purpose)[0, 2 * block : 2 * block + 2]
    assert [int(u * 2**53) for u in drawn] == expected


@pytest.mark.parametrize("draw", [random.uniform, random.normal])
def test_an_event_has_its_numbers_however_the_run_is_cut(draw):
    whole = draw(SEED, 0, 100, 5, random.GEOMETRY)
    pieces = [
        draw(SEED, a, b - a, 5, random.GEOMETRY) for a, b in [(0, 1), (1, 64), (64, 100)]
    ]
    assert_array_equal(np.concatenate(pieces), whole)
    assert_array_equal(draw(SEED, 0, 100, 2, random.GEOMETRY), whole[:, :2])


def test_events_beyond_32_bits_do_not_repeat():
    near = random.uniform(SEED, 2**32 - 2, 4, 2, random.GEOMETRY)
    assert_array_equal(near[2:], random.uniform(SEED, 2**32, 2, 2, random.GEOMETRY))
    start = random.uniform(SEED, 0, 4, 2, random.GEOMETRY)
    assert not np.isin(near, start).any()


def test_seed_purpose_event_and_place_all_matter():
    sets = [
        random.uniform(seed, 0, 100, 5, purpose)
        for seed in (0, 1, 2**32, 2**64 - 1)
        for purpose in (random.GEOMETRY, random.ORIENTATION)
    ]
    assert len(np.unique(sets)) == np.size(sets)


def test_threads_agree_with_one_after_the_other():
    serial = random.normal(SEED, 0, 8000, 3, random.GEOMETRY)
    with ThreadPoolExecutor(4) as pool:
        blocks = pool.map(
            lambda i: random.normal(SEED, 1000 * i, 1000, 3, random.GEOMETRY), range(8)
        )
    assert_array_equal(np.concatenate(list(blocks)), serial)


def test_uniform_numbers_have_53_random_bits():
    k = random.uniform(SEED, 0, ROWS, COLUMNS, random.GEOMETRY) * 2.0**53
    assert (k >= 0).all()
    assert (k < 2.0**53).all()
    assert_array_equal(k, np.floor(k))
    # each bit is set in half of them; the standard deviation of the share is 1/2 sqrt(n)
    bits = (k.astype(np.int64).ravel()[:, None] >> np.arange(53)) & 1
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(k.size)


def test_normal_numbers_are_those_of_box_and_muller():
    u, v = random.uniform(SEED, 0, ROWS, 2, random.GEOMETRY).T
    x, y = random.normal(SEED, 0, ROWS, 2, random.GEOMETRY).T
    np.testing.assert_allclose(x**2 + y**2, -2 * np.log1p(-u), rtol=1e-13)
    # the angle is rounded once per library, relative to a full turn
    turn = np.arctan2(y, x) / (2 * np.pi) - v
    assert np.abs(turn - np.round(turn)).max() < 1e-15


@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_distribution(name):
    from scipy import stats

    x = getattr(random, name)(SEED, 0, ROWS, COLUMNS, random.GEOMETRY)
    law = {"uniform": stats.uniform, "normal": stats.norm}[name]
    distance = stats.kstest(x.ravel(), law.cdf).statistic
    assert distance < KOLMOGOROV / np.sqrt(x.size)


@pytest.mark.parametrize("draw", [random.uniform, random.normal])
def test_columns_and_neighbouring_events_are_independent(draw):
    x = draw(SEED, 0, ROWS + 1, COLUMNS, random.GEOMETRY)
    together = np.corrcoef(np.concatenate([x[:-1], x[1:]], axis=1), rowvar=False)
    squares = np.corrcoef(np.concatenate([x[:-1], x[1:]], axis=1) ** 2, rowvar=False)
    for correlation in (together, squares):
        off_diagonal = correlation - np.eye(2 * COLUMNS)
        assert np.abs(off_diagonal).max() < 5 / np.sqrt(ROWS)


def test_nothing_is_asked_for():
    assert random.uniform(SEED, 5, 0, 3, random.GEOMETRY).shape == (0, 3)
    assert random.normal(SEED, 5, 3, 0, random.GEOMETRY).shape == (3, 0)


@pytest.mark.parametrize(
    ("seed", "first", "count", "message"),
    [
        (-1, 0, 1, "seed must lie between 0 and 2\\^64 - 1, got -1"),
        (2**64, 0, 1, "seed must lie between"),
        (1.0, 0, 1, "seed must be an integer, got 1.0"),
        (True, 0, 1, "seed must be an integer, got True"),
        (0, -1, 1, "first must lie between"),
        (0, 0, -1, "count must lie between"),
        (0, 2**64 - 1, 2, "but 2 from 18446744073709551615 were asked for"),
    ],
)
def test_wrong_keys_are_refused(seed, first, count, message):
    with pytest.raises(ValueError, match=message):
        random.uniform(seed, first, count, 1, random.GEOMETRY)
