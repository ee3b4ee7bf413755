"""Owns the order in which samples are seen: a pure function of (seed, epoch), open at any position at once.

    position 0 1 2 3 ... n-1   --keyed bijection-->   row of the split

The bijection is a balanced Feistel network over the smallest even number of bits that holds n, with cycle walking: a
value that falls outside [0, n) is put through again until it falls inside (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", CT-RSA 2002). No permutation is stored, so any position costs the same time and memory.
"""

import numpy as np

ROUNDS = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(*numbers: "int | np.ndarray") -> np.ndarray:
    """Hash whole numbers to uint64, element by element (SplitMix64's finaliser, chained); shapes broadcast.

    It keys every random decision: the order by (seed, epoch), a sample's augmentation by (seed, epoch, row), dropout by
    (seed, step, micro-batch).
    """
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for number in numbers:
            word = np.asarray(number).astype(np.uint64)
            state = _finalise(np.asarray((state ^ word) + _GOLDEN))
    return np.asarray(state)


def _finalise(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def rows_at(positions: np.ndarray, *, rows: int, seed: int, epoch: int) -> np.ndarray:
    """Return the rows that stand at `positions` of one epoch's order.

    Args:
        positions: int64[k], each in [0, rows).
        rows: number of rows in the split.

    Returns:
        int64[k]; over all positions each row comes exactly once.
    """
    if rows <= 1:
        return np.zeros(len(positions), dtype=np.int64)
    half = max(1, ((rows - 1).bit_length() + 1) // 2)
    keys = mix(seed, epoch, np.arange(ROUNDS))
    values = np.asarray(positions).astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    # The domain is below 4 * rows, so a value needs fewer than four turns on average.
    while outside.any():
        values[outside] = _feistel(values[outside], half, keys)
        outside = values >= np.uint64(rows)
    return values.astype(np.int64)


def _feistel(values: np.ndarray, half: int, keys: np.ndarray) -> np.ndarray:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for round_key in keys:
        left, right = right, left ^ (mix(round_key, right) & mask)
    return (left << bits) | right
