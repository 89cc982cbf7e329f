"""What is believed of a study while it is measured: every variant's accuracy, how sure, and how all hang together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.surface import Surface, surface_rows
from stratalaw.laws.whole import cells_of_study
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_BITS

Array = NDArray[np.float64]
Wanted = Callable[[pd.DataFrame], NDArray[np.bool_]]  # of cells, which ones are asked about

MOST_VARIANTS = 1000  # that are weighed against each other; of more, so many drawn at random
UNKNOWN_ORIGINAL = 0.5  # adjusted accuracy of an original, where none was measured


@dataclass(frozen=True)
class Belief:
    """The quantized variants of a study, in each stratum: cells, ordered by variant and within it by stratum.

    ``cells``: model, variant, n_params, bits, group_size, calibration_size, stratum, chance, original (adjusted), and
    is_measured; ``mean``: accuracies, as measured or as expected; ``covariance``: of what measuring would give,
    zero where it was measured; ``noise``: the part of its diagonal that is the items' own; ``originals``: accuracy of
    each model's original, by model and stratum, the mean of the others where it was not measured; ``missing``: models
    of which it was not; ``quantile``: of 95 % intervals, in standard deviations; ``roughness``: see ``Surface``;
    ``possible``: how many variants there are, those that are not weighed included.
    """

    cells: pd.DataFrame
    mean: Array
    covariance: Array
    noise: Array
    originals: pd.DataFrame
    missing: list[str]
    quantile: float
    roughness: Mapping[str, float]
    possible: int

    @classmethod
    def of(
        cls,
        study: Study,
        observations: pd.DataFrame | None,
        sizes: Mapping[str, float],
        tried: Collection[tuple[str, str]] = (),
        wanted: Wanted = lambda cells: np.ones(len(cells), bool),
    ) -> Belief:
        """What the observations of a study say of all of it (nothing is measured yet: None).

        Args:
            study: its variants and strata.
            observations: as far as it was measured.
            sizes: parameters of each model.
            tried: variants of which nothing more will come; those that were not measured cannot be, and are left out.
            wanted: which variants come first where not all can be weighed.
        """
        measured = surface_rows(observations) if observations is not None else _nothing_measured()
        whole = cells_of_study(study, measured, sizes)
        originals = whole[whole.bits >= BASELINE_BITS]
        was_tried = pd.MultiIndex.from_frame(whole[["model", "variant"]]).isin(list(tried))
        possible = (whole.bits < BASELINE_BITS) & ~(was_tried & whole.accuracy_adjusted.isna())
        cells = thinned(whole[possible], wanted).reset_index(drop=True)
        missing = list(dict.fromkeys(originals[originals.accuracy_adjusted.isna()].model))
        others = originals.groupby("stratum").accuracy_adjusted.mean()
        expected = cells.stratum.map(others).fillna(UNKNOWN_ORIGINAL)
        cells = cells.assign(original=cells.original.fillna(expected), is_measured=cells.accuracy_adjusted.notna())
        surface = Surface.fit(measured, float(np.exp(np.log(list(sizes.values())).mean())))
        adjusted, covariance = surface.joint(cells)
        noise = surface.items_variance((cells.original - adjusted).to_numpy(float))
        covariance = covariance + np.diag(noise)
        known = cells.is_measured.to_numpy(bool)
        adjusted = np.where(known, cells.accuracy_adjusted.to_numpy(float), adjusted)
        covariance[known] = covariance[:, known] = 0.0
        scale = (1 - cells.chance).to_numpy(float)
        before = originals.accuracy_adjusted.fillna(originals.stratum.map(others).fillna(UNKNOWN_ORIGINAL))
        table = originals.assign(accuracy=originals.chance + (1 - originals.chance) * before)
        return cls(
            cells,
            cells.chance.to_numpy(float) + scale * adjusted,
            covariance * scale[:, None] * scale,
            np.where(known, 0.0, noise * scale**2),
            table.pivot(index="model", columns="stratum", values="accuracy"),
            missing,
            surface.quantile(0.95),
            surface.roughness,
            len(whole[possible][["model", "variant"]].drop_duplicates()),
        )

    @property
    def strata(self) -> list[str]:
        return list(dict.fromkeys(self.cells.stratum))

    @property
    def variants(self) -> pd.DataFrame:
        """The first cell of each variant."""
        return self.cells.iloc[:: len(self.strata)]

    @cached_property
    def axes(self) -> Array:
        """Independent directions of the belief, shape (cells, directions), one standard deviation each, the widest
        first; what is known for certain has none."""
        values, axes = np.linalg.eigh(self.covariance)
        kept = values > 1e-12
        found: Array = (axes[:, kept] * np.sqrt(values[kept]))[:, ::-1]
        return found

    def draws(self, count: int) -> tuple[Array, Array]:
        """Accuracies as measuring could give them, shape (count, cells), and how far along each of ``axes`` they lie,
        shape (count, directions): the same in every call."""
        along = np.random.default_rng(0).standard_normal((count, self.axes.shape[1]))
        return np.clip(self.mean + along @ self.axes.T, 0.0, 1.0), along


def thinned(cells: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    """The cells of all measured variants, and of others as many as can be weighed, drawn at random where there are
    more, those that are asked about first."""
    names = cells.model + "/" + cells.variant
    others = names[cells.accuracy_adjusted.isna()].unique()
    room = max(MOST_VARIANTS - (names.nunique() - len(others)), 0)
    if len(others) <= room:
        return cells
    drawn = np.random.default_rng(0).permutation(others)
    is_wanted = np.isin(drawn, names[wanted(cells)].to_numpy())
    left_out = np.concatenate([drawn[is_wanted], drawn[~is_wanted]])[room:]
    return cells[~names.isin(left_out)]


def _nothing_measured() -> pd.DataFrame:
    names = ("model", "family", "variant", "stratum")
    numbers = ("n_params", "bits", "group_size", "calibration_size", "accuracy_adjusted", "chance")
    columns = (*numbers, "variance", "stderr", "n_items", "original")
    return pd.DataFrame({name: pd.Series(dtype=str) for name in names} | {c: pd.Series(dtype=float) for c in columns})
