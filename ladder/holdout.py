"""Which arguments training never sees: a fixed hash decides, so that every part of the ladder agrees."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

SLICES = 16


class Split(IntEnum):
    """The slice of the hash values that a split owns; training owns all others."""

    TEST = 0
    VALIDATION = 1


def hash_columns(*columns: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each row of integer columns (the splitmix64 finalizer after each column)."""
    state = np.zeros(np.broadcast(*columns).shape, dtype=np.uint64)
    for column in columns:
        state = state + np.asarray(column).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def in_split(hashes: np.ndarray, split: Split | None, slices: int = SLICES) -> np.ndarray:
    """True where the hash belongs to the split (one in ``slices`` does); ``None`` means training."""
    owner = hashes % np.uint64(slices)
    return owner >= len(Split) if split is None else owner == split
