"""The order in which items are asked: random, and the same for every variant of every model.

Each item has a place between 0 and 1, and is asked once the share that is asked is larger. The items of a larger share
contain those of a smaller one, so that asking more never repeats anything, and what two variants were asked can be
paired as far as the smaller share goes. A place depends on nothing but the item's own name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

BYTES = 6  # of a hash: exact as a floating-point number, and no two of a million items are likely to share a place


def places(tasks: Iterable[object], documents: Iterable[object]) -> NDArray[np.float64]:
    """The place of each item, from 0 up to and without 1, shape (items,).

    Args:
        tasks: its task.
        documents: its number within the task.
    """
    names = (f"{task}/{document}" for task, document in zip(tasks, documents, strict=True))
    hashes = (hashlib.sha256(name.encode()).digest()[:BYTES] for name in names)
    return np.array([int.from_bytes(found, "big") / 256**BYTES for found in hashes], dtype=float)
