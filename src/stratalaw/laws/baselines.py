"""What a law must beat: predictions that need no law.

The first two know nothing of a model but its size. A practitioner has the model's own original at hand and a table of
what quantization left of other models, and multiplies the two: that costs nothing, since every study measures
originals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stratalaw.laws.rows import Rows


@dataclass(frozen=True)
class Baseline:
    """A prediction without a law.

    ``kind``: ``mean`` of all known rows; ``cells``, the mean of the nearest size and bit-width; or the model's own
    original times the share that was kept with the same settings, ``share-mean`` by all other sizes, ``share-nearest``
    by the nearest other size, ``share-smaller`` by the nearest smaller one (the nearest, where there is none).
    """

    name: str
    title: str
    kind: Literal["mean", "cells", "share-mean", "share-nearest", "share-smaller"]

    def applies_to(self, rows: Rows) -> bool:
        """Whether the rows have what it takes: shares need every model's original."""
        return not self.kind.startswith("share") or bool(np.isfinite(rows.factors["F"]).all())

    def n_parameters(self, rows: Rows) -> int:
        if self.kind == "mean":
            return 1
        return len(np.unique(_sizes_and_bits(rows) if self.kind == "cells" else _settings(rows), axis=0))

    def predict(self, rows: Rows, known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Adjusted accuracy of every row, from the rows in the mask ``known``."""
        if self.kind == "mean":
            return np.full(len(rows), rows.accuracy[known].mean())
        if self.kind == "cells":
            return _nearest_cell(rows, known)
        return np.exp(-rows.factors["F"]) * _shares_kept(rows, known, self.kind)


BASELINES = (
    Baseline("mean", "the mean", "mean"),
    Baseline("size-bits-table", "a table of size and bits", "cells"),
    Baseline("share-mean", "own original x mean share kept", "share-mean"),
    Baseline("share-nearest", "own original x share kept by the nearest size", "share-nearest"),
    Baseline("share-smaller", "own original x share kept by the nearest smaller size", "share-smaller"),
)


def _sizes_and_bits(rows: Rows) -> NDArray[np.float64]:
    return np.stack([np.log(rows.factors["N"]), np.log(rows.factors["B"])], axis=1)


def _settings(rows: Rows) -> NDArray[np.float64]:
    """Bits, group size and calibration size, -1 where a table does not say; shape (rows, 3)."""
    return np.nan_to_num(np.stack([rows.factors[name] for name in "BGC"], axis=1), nan=-1)


def _nearest_cell(rows: Rows, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    cells = _sizes_and_bits(rows)
    seen, place = np.unique(cells[known], axis=0, return_inverse=True)
    means = np.bincount(place, weights=rows.accuracy[known]) / np.bincount(place)
    distance = np.abs(cells[:, None] - seen[None]).sum(-1)
    found: NDArray[np.float64] = means[distance.argmin(1)]
    return found


def _shares_kept(rows: Rows, known: NDArray[np.bool_], kind: str) -> NDArray[np.float64]:
    """The share that others kept with the settings of each row, or else at its bits, or else at the nearest bits.

    A ratio of sums, not a mean of ratios: an original that knows next to nothing would outweigh all others.
    """
    sizes, settings = np.log(rows.factors["N"]), _settings(rows)
    accuracy, original = rows.accuracy, np.exp(-rows.factors["F"])
    targets, place = np.unique(np.column_stack([sizes, settings]), axis=0, return_inverse=True)
    shares = np.empty(len(targets))
    for i, (size, *setting) in enumerate(targets):
        others = known & (sizes != size)
        others = others if others.any() else known
        alike = others & (settings == setting).all(1)
        if not alike.any():
            distance = np.abs(np.log(settings[:, 0] / setting[0]))
            alike = others & (distance == distance[others].min())
        if kind != "share-mean":
            there = np.unique(sizes[alike])
            smaller = there[there < size]
            there = smaller if kind == "share-smaller" and len(smaller) else there
            alike &= sizes == there[np.abs(there - size).argmin()]
        shares[i] = accuracy[alike].sum() / original[alike].sum()
    found: NDArray[np.float64] = shares[place.ravel()]
    return found
