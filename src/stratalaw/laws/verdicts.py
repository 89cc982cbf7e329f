"""The paper's claims judged, with two answers for each.

*For these models*: is the claim true of the models that were measured, whatever items they had been asked? Only items
are random; k of K models agree. *For models like these*: is it true of the models that these are a sample of? Models
are random, and what differs between them holds the noise of items and of draws of the calibration set as well. Claims
have a direction, so tests are one-sided; a claim of several margins holds where all are positive, so its p-value is
the largest (intersection-union, Berger 1982). Holm's correction goes over the claims that the table can test, in either
direction. A claim that is not decided may still be known to be of no size that matters (two one-sided tests).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from stratalaw.laws.claims import CLAIMS, STRATA_DIFFER, Claim, Margin, NotTestable
from stratalaw.laws.exponents import Estimate, Panel, mean_over_models, slope_over_sizes
from stratalaw.multiple_tests import holm

LEVEL = 0.05
MIN_MODELS = 3
LEAST_DRAWS = 0.5  # of items, in which every model can tell; with fewer, nothing is said of these models
SUPPORTED, CONTRADICTED, NEGLIGIBLE = "supported", "contradicted", "no difference that matters"
UNDECIDED, UNTESTABLE = "not decided", "not testable"
HOLDS, FAILS = "holds", "fails"
ALL_CLAIMS = (*CLAIMS, STRATA_DIFFER)
HOW_JUDGED = (
    "The paper's claims as hypotheses on margins that are positive where a claim holds. ``estimate``, ``low`` and "
    "``high``: mean over models (or slope over their sizes) of the margin that is least sure, with Student's t "
    "interval (95 %); ``p_value``: one-sided, by t over one estimate for each model (Ibragimov and Müller, 2010), "
    "the largest over the margins of a claim; ``p_adjusted``: Holm's over the claims that this table can test. "
    f"``verdict``, for models like these: ``{SUPPORTED}`` or ``{CONTRADICTED}`` where the adjusted p-value of that "
    f"direction is at most {LEVEL:g}; ``{NEGLIGIBLE}`` where two one-sided tests show every margin to be smaller than "
    f"``negligible``, which is ours; else ``{UNDECIDED}``; ``{UNTESTABLE}`` for the ``reason``. ``these_models``: "
    "whether the claim holds on average of the models measured, with items alone as noise (``p_items``, Holm's too); "
    f"``agree`` of ``models`` models have every margin positive. Fewer than {MIN_MODELS} models decide nothing for "
    "models like these. ``p_families``: the same test with one value for each family."
)


@dataclass(frozen=True)
class Verdict:
    """What is known of one claim; see ``HOW_JUDGED`` for the numbers, which are missing where there are none.

    ``spread``: standard deviation of the least sure margin between models; ``item_error``: the part of it that items
    make.
    """

    claim: str
    text: str
    unit: str
    verdict: str
    reason: str = ""
    margin: str = ""
    estimate: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p_value: float = float("nan")
    p_adjusted: float = float("nan")
    p_against: float = float("nan")
    models: int = 0
    agree: float = float("nan")
    these_models: str = UNTESTABLE
    p_items: float = float("nan")
    negligible: float = float("nan")
    p_negligible: float = float("nan")
    spread: float = float("nan")
    item_error: float = float("nan")
    families: int = 0
    p_families: float = float("nan")


@dataclass(frozen=True)
class Tested:
    """One claim tested, before any correction; one-sided p-values for and against it, and of its being negligible."""

    claim: Claim
    margins: list[Margin]
    estimates: list[Estimate]
    p_for: float
    p_against: float
    p_negligible: float

    @property
    def least_sure(self) -> int:
        """The margin on which the claim hangs."""
        if self.claim is STRATA_DIFFER:
            return int(np.argmin([min(e.p_above(), e.p_below()) for e in self.estimates]))
        return int(np.argmax([estimate.p_above() for estimate in self.estimates]))


def estimate_of(margin: Margin, models: pd.DataFrame, draw: int = 0) -> Estimate:
    values = margin.values[draw]
    if margin.over_size:
        return slope_over_sizes(values, np.log(models.n_params.to_numpy(float)), models.family)
    return mean_over_models(values)


def margins_of(panel: Panel, claims: Sequence[Claim] = ALL_CLAIMS) -> tuple[dict[str, list[Margin]], dict[str, str]]:
    """The margins of each claim that the table has, and of the others why it has none."""
    margins, reasons = {}, {}
    for claim in claims:
        try:
            margins[claim.name] = claim.margins(panel)
        except NotTestable as error:
            reasons[claim.name] = str(error)
    return margins, reasons


def tested(claim: Claim, margins: list[Margin], models: pd.DataFrame, draw: int = 0) -> Tested:
    """Test one claim on one draw of its margins.

    Raises:
        NotTestable: too few models have them.
    """
    estimates = [estimate_of(margin, models, draw) for margin in margins]
    if any(estimate.freedom < 1 or not np.isfinite(estimate.stderr) for estimate in estimates):
        raise NotTestable("fewer than two models can tell")
    count = len(estimates)
    below = min(1.0, count * min(estimate.p_below() for estimate in estimates))
    small = claim.negligible
    negligible = max(max(e.p_above(-small), e.p_below(small)) for e in estimates)
    if claim is STRATA_DIFFER:
        # Some difference, in either direction, by Bonferroni: unlike Hotelling's test it needs no more models than
        # there are differences. It has no opposite.
        either = min(1.0, 2 * count * min(min(e.p_above(), e.p_below()) for e in estimates))
        return Tested(claim, margins, estimates, either, 1.0, negligible)
    return Tested(claim, margins, estimates, max(e.p_above() for e in estimates), below, negligible)


def judge(panel: Panel, noise: Panel | None = None, claims: Sequence[Claim] = ALL_CLAIMS) -> list[Verdict]:
    """The verdict on each claim, in their order.

    Args:
        panel: the fitted models, as observed.
        noise: the same with resampled items; without it nothing is said of these models alone.
        claims: those to judge.
    """
    margins, reasons = margins_of(panel, claims)
    noisy = {} if noise is None else margins_of(noise, [claim for claim in claims if claim.name in margins])[0]
    return judge_margins(margins, reasons, panel.models, noisy, claims)


def judge_margins(
    margins: Mapping[str, list[Margin]],
    reasons: Mapping[str, str],
    models: pd.DataFrame,
    noisy: Mapping[str, list[Margin]],
    claims: Sequence[Claim] = ALL_CLAIMS,
    draw: int = 0,
) -> list[Verdict]:
    """The verdict on each claim from one draw of its margins; ``noisy``: the margins with resampled items, or none."""
    tests: dict[str, Tested] = {}
    reasons = dict(reasons)
    for claim in (claim for claim in claims if claim.name in margins):
        try:
            tests[claim.name] = tested(claim, margins[claim.name], models, draw)
        except NotTestable as error:
            reasons[claim.name] = str(error)
    enough = len(models) >= MIN_MODELS
    p_for = holm([test.p_for for test in tests.values()])
    p_against = holm([test.p_against for test in tests.values()])
    p_negligible = holm([test.p_negligible for test in tests.values()])
    # Where resampled items leave too little of a model to tell, nothing is said of these models.
    comparable = {name for name, test in tests.items() if _names(test.margins) <= _names(noisy.get(name, ()))}
    items = {name: _items(test, noisy[name], models, draw) for name, test in tests.items() if name in comparable}
    p_items = dict(zip(items, holm([p for p, _, _ in items.values()]), strict=True))
    p_fails = dict(zip(items, holm([p for _, p, _ in items.values()]), strict=True))
    found: dict[str, Verdict] = {}
    for place, (name, test) in enumerate(tests.items()):
        verdict = UNDECIDED
        if enough and p_for[place] <= LEVEL:
            verdict = SUPPORTED
        elif enough and p_against[place] <= LEVEL:
            verdict = CONTRADICTED
        elif enough and p_negligible[place] <= LEVEL:
            verdict = NEGLIGIBLE
        these = UNTESTABLE
        if name in items:
            these = HOLDS if p_items[name] <= LEVEL else FAILS if p_fails[name] <= LEVEL else UNDECIDED
        estimate = test.estimates[test.least_sure]
        low, high = estimate.interval()
        count, agree = _agreement(test, draw)
        families, p_families = _over_families(test, models, draw)
        found[name] = Verdict(
            claim=name,
            text=test.claim.text,
            unit=test.claim.unit,
            verdict=verdict,
            reason="" if enough else f"fewer than {MIN_MODELS} models",
            margin=test.margins[test.least_sure].name,
            estimate=estimate.value,
            low=low,
            high=high,
            p_value=test.p_for,
            p_adjusted=p_for[place],
            p_against=p_against[place],
            models=count,
            agree=agree,
            these_models=these,
            p_items=p_items.get(name, float("nan")),
            negligible=test.claim.negligible,
            p_negligible=p_negligible[place],
            spread=estimate.spread,
            item_error=items[name][2] if name in items else float("nan"),
            families=families,
            p_families=p_families,
        )
    for claim in claims:
        if claim.name in reasons:
            found[claim.name] = Verdict(claim.name, claim.text, claim.unit, UNTESTABLE, reasons[claim.name])
    return [found[claim.name] for claim in claims]


def _names(margins: Iterable[Margin]) -> set[str]:
    return {margin.name for margin in margins}


def _agreement(test: Tested, draw: int) -> tuple[int, float]:
    """How many models can tell, and how many of them have every margin positive (slopes over sizes have none)."""
    each = np.array([margin.values[draw] for margin in test.margins if not margin.over_size])
    if not len(each):
        return int(np.isfinite(test.margins[test.least_sure].values[draw]).sum()), float("nan")
    known = np.isfinite(each).all(0)
    return int(known.sum()), float((each[:, known] > 0).all(0).sum())


def _items(test: Tested, noisy: Sequence[Margin], models: pd.DataFrame, draw: int) -> tuple[float, float, float]:
    """One-sided p-values for and against the claim of these models, with items as the only noise, and the standard
    deviation that items give the least sure margin of one model (of a slope: its standard error's equivalent)."""
    by_name = {margin.name: margin for margin in noisy}
    scores, errors = [], []
    for margin, estimate in zip(test.margins, test.estimates, strict=True):
        drawn = by_name[margin.name].values
        if margin.over_size:
            values = np.array([estimate_of(by_name[margin.name], models, one).value for one in range(len(drawn))])
            own = np.full(1, np.nanstd(values) * np.sqrt(np.isfinite(margin.values[draw]).sum()))
        else:
            usable = np.isfinite(margin.values[draw])
            told = drawn[np.isfinite(drawn[:, usable]).all(1)][:, usable]
            own = told.std(axis=0) if len(told) else np.full(1, np.nan)
            values = told.mean(axis=1)
        values = values[np.isfinite(values)]
        if len(values) < LEAST_DRAWS * len(drawn):
            return np.nan, np.nan, np.nan
        error = float(values.std())
        scores.append(estimate.value / error if error > 0 else np.sign(estimate.value) * np.inf)
        errors.append(float(np.sqrt(np.nanmean(own**2))))
    item_error = errors[test.least_sure]
    if test.claim is STRATA_DIFFER:
        return min(1.0, 2 * len(scores) * float(stats.norm.sf(np.abs(scores).max()))), 1.0, item_error
    against = min(1.0, len(scores) * float(stats.norm.cdf(min(scores))))
    return float(stats.norm.sf(min(scores))), against, item_error


def _over_families(test: Tested, models: pd.DataFrame, draw: int) -> tuple[int, float]:
    """How many families can tell, and the p-value with one value for each; margins of sizes are left to the models."""
    if test.claim is STRATA_DIFFER or any(margin.over_size for margin in test.margins):
        return 0, float("nan")
    means = [pd.Series(margin.values[draw]).groupby(models.family.to_numpy()).mean() for margin in test.margins]
    count = min(int(part.notna().sum()) for part in means)
    if count < 2:
        return count, float("nan")
    return count, max(mean_over_models(part.to_numpy()).p_above() for part in means)


def at_least(verdicts: Sequence[Verdict], level: float = LEVEL) -> int:
    """How many of the paper's claims hold at least, for models like these, with confidence 1 - level.

    By closed testing with Simes' local tests (Goeman and Solari, 2011, Statistical Science 26:584): the claims less the
    largest number of them that could all be false together. It may exceed the number of claims that are supported one
    by one: some of several hold, without it being known which.
    """
    p = np.sort([v.p_value for v in verdicts if np.isfinite(v.p_value) and v.claim != STRATA_DIFFER.name])
    if any(v.reason.startswith("fewer than") and v.models for v in verdicts):
        return 0
    for size in range(len(p), 0, -1):
        largest = p[len(p) - size :]
        if (size * largest / np.arange(1, size + 1)).min() > level:
            return len(p) - size
    return len(p)


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row for each claim."""
    return pd.DataFrame([asdict(verdict) for verdict in verdicts])
