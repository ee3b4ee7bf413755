"""Owns the order in which samples are seen: a pure function of (seed, epoch), open at any position at once.

    position 0 1 2 3 ... n-1   --keyed bijection-->   row of the split

The bijection is a balanced Feistel network over the smallest even number of bits that holds n, with cycle walking: a
value that falls outside [0, n) is put through again until it falls inside (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", CT-RSA 2002). No permutation is stored, so any position costs the same time and memory.
"""

from collections.abc import Sequence

import numpy as np

ROUNDS = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = 2**64 - 1


def mix(*numbers: "int | np.ndarray") -> np.ndarray:
    """Hash whole numbers to uint64, element by element (SplitMix64's finaliser, chained); shapes broadcast.

    It keys every random decision: the order by (seed, epoch), a sample's augmentation by (seed, epoch, row), dropout by
    (seed, step, micro-batch).
    """
    first = next((place for place, number in enumerate(numbers) if not isinstance(number, int)), len(numbers))
    state = np.uint64(key(*numbers[:first]))  # pyright: ignore[reportArgumentType]
    # Arrays wrap around in silence; it is numpy's single numbers that would warn.
    with np.errstate(over="ignore"):
        for number in numbers[first:]:
            word = np.asarray(number).astype(np.uint64)
            state = _finalise(np.asarray((state ^ word) + _GOLDEN))
    return np.asarray(state)


def key(*numbers: int) -> int:
    """Return `mix` of single whole numbers: the same bits, a tenth of the time."""
    state = 0
    for number in numbers:
        z = ((state ^ (number & _WORD)) + 0x9E3779B97F4A7C15) & _WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
        state = z ^ (z >> 31)
    return state


def _finalise(z: np.ndarray) -> np.ndarray:
    z = z ^ (z >> np.uint64(30))
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


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
    keys = [np.uint64(key(key(seed, epoch, number))) for number in range(ROUNDS)]
    values = np.asarray(positions).astype(np.uint64)
    outside = np.arange(len(values))
    # The domain is below 4 * rows, so a value needs fewer than four turns on average.
    while len(outside):
        turned = _feistel(values[outside], half, keys)
        values[outside] = turned
        outside = outside[turned >= np.uint64(rows)]
    return values.astype(np.int64)


def _feistel(values: np.ndarray, half: int, keys: Sequence[np.uint64]) -> np.ndarray:
    """Return the values after all rounds, each of which takes its half from `mix(round's number, other half)`.

    The keys are that hash as far as it goes without the half.
    """
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for round_key in keys:
        left, right = right, left ^ (_finalise((round_key ^ right) + _GOLDEN) & mask)
    return (left << bits) | right
