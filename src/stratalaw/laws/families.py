"""Do the exponents of damage agree between families?

A test of difference that finds none shows no agreement; two one-sided tests (TOST; Schuirmann, 1987, Journal of
Pharmacokinetics and Biopharmaceutics 15:657) show a difference to be smaller than one that would matter. Models are
random, within each family: the mean of an exponent over a family's models, or its slope over their sizes, has Student's
t, and the difference of two families has Welch's degrees of freedom. Holm's correction goes over all rows, for
agreement and for difference each.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.claims import CLAIMS, STRATA, overall
from stratalaw.laws.exponents import (
    DAMAGE,
    Estimate,
    Panel,
    exponents_of_models,
    levels_of_models,
    mean_over_models,
    slope_over_sizes,
)
from stratalaw.laws.verdicts import LEVEL, MIN_MODELS, UNDECIDED
from stratalaw.multiple_tests import holm

AGREE, DIFFER = "agree", "differ"
CLAIM_OF = {"alpha": "size", "c": "bits", "gamma": "calibration", "delta": "group"}
# The differences that would not matter are those of the claims.
NEGLIGIBLE = {name: next(c.negligible for c in CLAIMS if c.name == claim) for name, claim in CLAIM_OF.items()}
HOW_AGREEMENT_IS_TESTED = (
    "Exponents of the damage D = -ln(a / a16) of each two families: ``difference``, first less second, with Welch's "
    "95 % interval over models (``alpha``: of slopes over ln N). ``p_agree``: of two one-sided tests that the "
    "difference is smaller than ``negligible``, which is ours; ``p_differ``: two-sided; both after Holm's correction "
    f"over all rows. ``verdict``: ``{AGREE}`` where ``p_agree`` is at most {LEVEL:g}, even if a difference is sure; "
    f"``{DIFFER}`` where ``p_differ`` is; else ``{UNDECIDED}``. A family of fewer than {MIN_MODELS} models that tell "
    "an exponent is not compared."
)


@dataclass(frozen=True)
class Agreement:
    """One exponent of one stratum in two families; see ``HOW_AGREEMENT_IS_TESTED``."""

    stratum: str
    exponent: str
    first: str
    second: str
    first_models: int
    second_models: int
    first_value: float
    second_value: float
    difference: float
    low: float
    high: float
    negligible: float
    p_agree: float
    p_differ: float
    verdict: str


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two independent estimates, with Welch's (Satterthwaite's) degrees of freedom."""
    parts = np.array([first.stderr**2, second.stderr**2])
    freedom = parts.sum() ** 2 / (parts**2 / np.array([first.freedom, second.freedom])).sum() if parts.sum() else 1.0
    return Estimate(first.value - second.value, float(np.sqrt(parts.sum())), float(freedom), float("nan"))


def agreements(panel: Panel) -> list[Agreement]:
    """Each exponent of each of the paper's strata (or of what there is) compared between each two families."""
    strata = [name for name in STRATA if name in panel.tables] or [overall(panel)]
    compared = []
    for stratum in strata:
        for exponent in NEGLIGIBLE:
            estimates = _by_family(panel, stratum, exponent)
            compared += [(stratum, exponent, *pair) for pair in combinations(estimates.items(), 2)]
    differences = [difference_of(first, second) for *_, (_, (first, _)), (_, (second, _)) in compared]
    small = [NEGLIGIBLE[exponent] for _, exponent, *_ in compared]
    tests = list(zip(differences, small, strict=True))
    p_agree = holm([max(found.p_above(-limit), found.p_below(limit)) for found, limit in tests])
    p_differ = holm([2 * min(found.p_above(), found.p_below()) for found in differences])
    rows = []
    for place, (stratum, exponent, (one, (first, count)), (other, (second, other_count))) in enumerate(compared):
        low, high = differences[place].interval()
        agree, differ = p_agree[place] <= LEVEL, p_differ[place] <= LEVEL
        rows.append(
            Agreement(
                stratum=stratum,
                exponent=exponent,
                first=one,
                second=other,
                first_models=count,
                second_models=other_count,
                first_value=first.value,
                second_value=second.value,
                difference=differences[place].value,
                low=low,
                high=high,
                negligible=small[place],
                p_agree=p_agree[place],
                p_differ=p_differ[place],
                verdict=AGREE if agree else DIFFER if differ else UNDECIDED,
            )
        )
    return rows


def _by_family(panel: Panel, stratum: str, exponent: str) -> dict[str, tuple[Estimate, int]]:
    """The exponent in each family that has enough models which tell it, and how many tell it."""
    models = panel.models
    size = np.log(models.n_params.to_numpy(float))
    if exponent == "alpha":
        values: NDArray[np.float64] = levels_of_models(panel, stratum, DAMAGE)[0]
    else:
        values = exponents_of_models(panel, stratum, DAMAGE)[exponent][0]
    found = {}
    for family in models.family.unique():
        own = (models.family == family).to_numpy() & np.isfinite(values)
        if exponent == "alpha":
            estimate = slope_over_sizes(values[own], size[own], models.family[own])
        else:
            estimate = mean_over_models(values[own])
        if own.sum() >= MIN_MODELS and estimate.freedom >= 1 and np.isfinite(estimate.stderr):
            found[str(family)] = estimate, int(own.sum())
    return found


def agreement_table(rows: list[Agreement]) -> pd.DataFrame:
    """One row for each exponent, stratum and pair of families; none where fewer than two families can be compared."""
    return pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Agreement)])
