"""How far the law is off for families, sources and strata that it has not seen, beside simple rules."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.published.law import LEVEL, Law
from stratalaw.published.library import STRATA, by_stratum
from stratalaw.published.mixed import fit_effects
from stratalaw.published.terms import share_kept

NEAREST = 5
DRAWS = 1000
STEPS = 10  # of a fit that starts from the variances of all rows

FAMILY, SOURCE, STRATUM = "family", "source", "stratum of a family"
SCHEMES = (FAMILY, SOURCE, STRATUM)


def folds(rows: pd.DataFrame, scheme: str) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Names and masks of what is held out: each family, each source, or one stratum of each family."""
    if scheme == STRATUM:
        for family in sorted(rows.family.unique()):
            for stratum in STRATA:
                yield f"{family} {stratum}", ((rows.family == family) & (rows.stratum == stratum)).to_numpy()
        return
    column = "family" if scheme == FAMILY else "source_id"
    for value in sorted(rows[column].unique()):
        yield str(value), (rows[column] == value).to_numpy()


def expected_shares(law: Law, rows: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """The kept share of each stratum, model and setting, as ``by_stratum`` gives it, with median, low and high.

    The interval is for what would be measured: the noise of the items is in it.
    """
    random = np.random.default_rng(seed + 1)
    shares = share_kept(law.log_damage(rows, draws, seed))
    shares += random.standard_normal(shares.shape) * rows.item_noise.to_numpy()[:, None]
    found = by_stratum(rows.assign(place=np.arange(len(rows))))
    places = rows.assign(place=np.arange(len(rows))).groupby("row").place.first()
    means = np.stack([shares[places[numbers].to_numpy()].mean(0) for numbers in found.rows])
    low, median, high = np.quantile(means, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=1)
    return found.assign(median=median, low=low, high=high)


def held_out(rows: pd.DataFrame, scheme: str, law: Law) -> pd.DataFrame:
    """Every row as a law without its fold expects it: see ``expected_shares``, and ``fold``.

    Args:
        rows: see ``law.law_rows``.
        scheme: one of SCHEMES.
        law: fitted to all rows, from whose variances each fit starts; they are estimated anew in each.
    """
    found = []
    for name, mask in folds(rows, scheme):
        if mask.any():
            known = rows[~mask].reset_index(drop=True)
            fitted = Law.of(fit_effects(known, law.variances, most_steps=STEPS), known)
            found.append(expected_shares(fitted, rows[mask].reset_index(drop=True)).assign(fold=name))
    return pd.concat(found, ignore_index=True)


def simple_rules(shares: pd.DataFrame, scheme: str = FAMILY) -> pd.DataFrame:
    """The rows with what two simple rules expect from rows of the same method, bits and stratum of other folds.

    Columns: width, the median of those rows; nearest, the median of the five whose models are nearest in size.
    """
    outside = "source_id" if scheme == SOURCE else "family"
    width, nearest = np.full(len(shares), np.nan), np.full(len(shares), np.nan)
    for _, group in shares.groupby(["method", "bits", "stratum"], sort=False):
        sizes, kept, fold = (
            np.log(group.n_params.to_numpy(float)),
            group.kept.to_numpy(float),
            group[outside].to_numpy(),
        )
        for place, index in enumerate(group.index):
            others = np.flatnonzero(fold != fold[place])
            if len(others):
                near = others[np.argsort(np.abs(sizes[others] - sizes[place]), kind="stable")[:NEAREST]]
                width[index], nearest[index] = np.median(kept[others]), np.median(kept[near])
    return shares.assign(width=width, nearest=nearest)


def errors(expected: pd.DataFrame) -> pd.DataFrame:
    """Mean error in points of the kept share, and coverage, by bits and stratum.

    Columns: bits, stratum, settings, models, law, width, nearest (mean absolute errors), gain (by which the law is
    ahead of the better rule), noise (the error that items alone make), coverage (%), interval (mean width, points).

    Args:
        expected: rows with median, low, high, width and nearest.
    """
    parts = []
    for (bits, stratum), group in expected.groupby(["bits", "stratum"]):
        error = {
            name: 100 * float((group[column] - group.kept).abs().mean())
            for name, column in (("law", "median"), ("width", "width"), ("nearest", "nearest"))
        }
        inside = group.kept.between(group.low, group.high)
        parts.append(
            {"bits": bits, "stratum": stratum, "settings": len(group), "models": group.model.nunique()}
            | error
            | {
                "gain": 1 - error["law"] / min(error["width"], error["nearest"]),
                "noise": 100 * float(np.sqrt(2 / np.pi) * group.noise.mean()),
                "coverage": 100 * float(inside.mean()),
                "interval": 100 * float((group.high - group.low).mean()),
            }
        )
    table = pd.DataFrame(parts)
    return table.assign(order=table.stratum.map(STRATA.index)).sort_values(["bits", "order"]).drop(columns="order")
