"""What the law of published numbers is made of: the factors of a row, and the effects on ln D that it has of each.

D = -ln(kept share) is the damage: the original's adjusted accuracy is the anchor, so that a law of D starts from what
each model could do in 16 bits. ln D is a sum of effects. Those that are shared have normal priors, which say little;
those of a family, a model, a source, a method or a benchmark are random, with a variance that is estimated: each is
drawn to the mean of its kind as far as its own rows are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from stratalaw.published.library import PER_CHANNEL

REFERENCE_SIZE = 7e9
REFERENCE_BITS = 4
REFERENCE_GROUP = 128
WHOLE_ROW = 4096  # what a whole row counts as: the input features of most matrices of a model of the reference size
MOST_BITS = 8
LEAST, MOST = -9.0, 3.0  # of ln D: nothing is lost, nothing is kept
# Methods whose groups, if any, are part of the method itself.
WITHOUT_GROUPS = frozenset({"GGUF-k-quant", "AQLM", "QuIP", "QuIP#", "SpQR", "PB-LLM", "BiLLM", "DB-LLM"})


@dataclass(frozen=True)
class Term:
    """One kind of effect.

    Attributes:
        by: columns that tell its levels; none for one effect that all rows share.
        covariate: what it is multiplied by; 1 if not given.
        prior: standard deviation of its normal prior; estimated from its levels if not given.
    """

    by: tuple[str, ...] = ()
    covariate: str | None = None
    prior: float | None = None


TERMS: Mapping[str, Term] = {
    # Shared by all.
    "constant": Term(prior=3),
    "stratum": Term(("stratum",), prior=1),
    "size": Term(covariate="size", prior=0.5),
    "size, by stratum": Term(("stratum",), "size", 0.15),
    "size at 3 bits": Term(covariate="size_at_3", prior=0.3),
    "bits above 4": Term(covariate="bits_above_4", prior=1),
    "bits above 4, by stratum": Term(("stratum",), "bits_above_4", 0.2),
    "3 bits": Term(covariate="at_3", prior=2),
    "3 bits, by stratum": Term(("stratum",), "at_3", 0.5),
    "group": Term(covariate="group", prior=0.3),
    "groups below 128": Term(covariate="fine_group", prior=0.15),
    "whole rows": Term(covariate="whole_row", prior=0.5),
    "group not stated": Term(covariate="group_not_stated", prior=1),
    # Random.
    "method": Term(("method",)),
    "method at 3 bits": Term(("method",), "at_3"),
    "method, whole rows": Term(("method",), "whole_row"),
    "method, by size": Term(("method",), "size"),
    "family": Term(("family",)),
    "family, by stratum": Term(("family", "stratum")),
    "family at 3 bits": Term(("family",), "at_3"),
    "model": Term(("model",)),
    "model, by stratum": Term(("model", "stratum")),
    "source": Term(("source_id",)),
    "column of a source": Term(("source_id", "method", "bits", "group_size")),
    "benchmark": Term(("benchmark",)),
    "benchmark at 3 bits": Term(("benchmark",), "at_3"),
    "benchmark, by source": Term(("benchmark", "source_id")),
}
SHARED = tuple(name for name, term in TERMS.items() if term.prior is not None)
RANDOM = tuple(name for name, term in TERMS.items() if term.prior is None)
# Beside these: of all rows of one model and setting, and of a row.
SETTING, ROW = "setting", "row"


def covariates(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the factors as the terms use them, and the key of their ``setting``.

    size: ln of the parameters by 7e9; bits_above_4: bits more than 4; at_3: 1 at 3 bits; group: ln of the group size by
    128, a whole row counting as one of 4,096; whole_row, group_not_stated: 1 where a whole row is a
    group, and where it is not known.
    """
    size = np.log(rows.n_params.to_numpy(float) / REFERENCE_SIZE)
    at_3 = (rows.bits < REFERENCE_BITS).to_numpy(float)
    sizes, has_groups = rows.group_size.to_numpy(float), ~rows.method.isin(WITHOUT_GROUPS).to_numpy()
    effective = np.where(sizes == PER_CHANNEL, WHOLE_ROW, np.where((sizes > 0) & has_groups, sizes, REFERENCE_GROUP))
    group = np.where(has_groups, np.log(effective / REFERENCE_GROUP), 0.0)
    return rows.assign(
        size=size,
        size_at_3=size * at_3,
        bits_above_4=np.clip(rows.bits.to_numpy(float), REFERENCE_BITS, MOST_BITS) - REFERENCE_BITS,
        at_3=at_3,
        group=group,
        fine_group=np.minimum(group, 0.0),
        whole_row=((sizes == PER_CHANNEL) & has_groups).astype(float),
        group_not_stated=((sizes == 0) & has_groups).astype(float),
        setting=keys_of(rows, ("model", "source_id", "method", "bits", "group_size", "calibration")),
    )


def keys_of(rows: pd.DataFrame, by: tuple[str, ...]) -> NDArray[np.str_]:
    """The level of each row: the values of the columns, joined by bars."""
    if not by:
        return np.full(len(rows), "")
    parts = [rows[name].map("{:g}".format) if rows[name].dtype.kind == "f" else rows[name].astype(str) for name in by]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + "|" + part
    return joined.to_numpy(str)


def share_kept(log_damage: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the adjusted accuracy that is kept at a ln D."""
    kept: NDArray[np.float64] = np.exp(-np.exp(np.clip(log_damage, LEAST, MOST)))
    return kept


Levels = Mapping[str, list[str]]


def levels_of(rows: pd.DataFrame) -> Levels:
    """The levels of each term, sorted."""
    return {name: sorted(set(map(str, keys_of(rows, term.by)))) for name, term in TERMS.items()}


def design(rows: pd.DataFrame, levels: Levels) -> sparse.csr_matrix:
    """One column for each level of each term, in their order; a row of an unknown level has nothing there.

    Args:
        rows: with ``covariates``.
        levels: see ``levels_of``.
    """
    parts = []
    for name, term in TERMS.items():
        places = {level: place for place, level in enumerate(levels[name])}
        column = np.array([places.get(str(key), -1) for key in keys_of(rows, term.by)], dtype=int)
        value = rows[term.covariate].to_numpy(float) if term.covariate else np.ones(len(rows))
        there = (column >= 0) & (value != 0)
        entries = (value[there], (np.flatnonzero(there), column[there]))
        parts.append(sparse.csr_matrix(entries, shape=(len(rows), len(places))))
    return sparse.hstack(parts).tocsr()
