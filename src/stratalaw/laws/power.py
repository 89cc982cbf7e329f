"""What would decide a claim that is not decided: more models, more items, or more draws of the calibration set.

The effect and its spread between models are taken as estimated, which is the best guess and no more: a claim whose
estimate lies near zero by chance seems to need more than it does. Power is that of the one-sided t test at the level
that Holm's correction leaves to the claims that are still open.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.power import TTestPower

from stratalaw.laws.claims import CLAIMS, STRATA_DIFFER, NotTestable
from stratalaw.laws.exponents import Panel
from stratalaw.laws.verdicts import LEVEL, MIN_MODELS, UNDECIDED, Verdict
from stratalaw.study.variants import BASELINE_BITS

POWER = 0.8
MAX_MODELS = 1000  # beyond it, a claim is as good as out of reach
HOW_NEEDED = (
    f"For each claim that is testable and not decided, what would decide it with {POWER:.0%} power, all else as it is: "
    "more models, items (how many times as many) or draws of the calibration set. Effects and their spread between "
    f"models are taken as estimated. More than {MAX_MODELS:,} models count as out of reach."
)


@dataclass(frozen=True)
class Need:
    """What would decide one claim with 80 % power, all else as it is.

    ``power``: that a repetition of this study would decide it; ``models``: needed in all; ``items``: times as many
    items, infinite where no number would do; ``draws``: of the calibration set in all, infinite where no number would
    do, and not a number where the table has only one, so that its part of the spread is not known. ``direction``: what
    the decision would be, if the estimate is right.
    """

    claim: str
    text: str
    direction: str
    power: float
    models_now: int
    models: float
    items: float
    draws: float


def needs(verdicts: Sequence[Verdict], panel: Panel) -> list[Need]:
    """What would decide each claim that the table can test and has not decided."""
    undecided = [v for v in verdicts if v.verdict == UNDECIDED and math.isfinite(v.spread) and v.spread > 0]
    level = LEVEL / max(len(undecided), 1)
    return [_need(verdict, panel, level) for verdict in undecided if verdict.claim != STRATA_DIFFER.name]


def _need(verdict: Verdict, panel: Panel, level: float) -> Need:
    effect = abs(verdict.estimate) / verdict.spread
    count = max(verdict.models, 2)
    largest = allowed_spread(abs(verdict.estimate), count, level)
    of_draws, draws = draw_error(verdict.claim, verdict.margin, panel)
    return Need(
        claim=verdict.claim,
        text=verdict.text,
        direction="supported" if verdict.estimate > 0 else "contradicted",
        power=power_of(effect, count, level),
        models_now=verdict.models,
        models=models_needed(effect, level),
        items=_times_more(verdict.spread, verdict.item_error, largest),
        draws=draws * _times_more(verdict.spread, of_draws, largest),
    )


def power_of(effect: float, models: int, level: float) -> float:
    """Power of the one-sided t test of a mean that is ``effect`` standard deviations from zero."""
    return float(TTestPower().power(effect, models, level, alternative="larger"))


def models_needed(effect: float, level: float) -> float:
    """The smallest number of models with enough power; infinite beyond ``MAX_MODELS``."""
    enough = [MIN_MODELS - 1, MAX_MODELS]
    if power_of(effect, MAX_MODELS, level) < POWER:
        return math.inf
    while enough[1] - enough[0] > 1:
        middle = sum(enough) // 2
        enough[power_of(effect, middle, level) >= POWER] = middle
    return float(enough[1])


def allowed_spread(estimate: float, models: int, level: float) -> float:
    """The spread between models at which so many of them would decide a claim."""
    effects = np.geomspace(1e-3, 1e3, 600)
    # Where the effect is too large for the distribution's own arithmetic, power is 1.
    place = bisect_left(effects, POWER, key=lambda effect: np.nan_to_num(power_of(effect, models, level), nan=1.0))
    return float(estimate / effects[place]) if place < len(effects) else 0.0


def _times_more(spread: float, part: float, largest: float) -> float:
    """By how much a part of the spread must be averaged down for the rest to be small enough."""
    if not math.isfinite(part):
        return math.nan
    excess = spread**2 - largest**2
    if excess <= 0:
        return 1.0
    return part**2 / (part**2 - excess) if excess < part**2 else math.inf


def draw_error(claim: str, margin: str, panel: Panel) -> tuple[float, int]:
    """Standard deviation that the draws of the calibration set give a margin of one model, and how many draws there
    are; not a number where there is one."""
    seeds = sorted({seed for table in panel.tables.values() for seed in _seeds(table)})
    if len(seeds) < 2:
        return math.nan, 1
    chosen = next(known for known in CLAIMS if known.name == claim)
    values = []
    for seed in seeds:
        try:
            margins = chosen.margins(_of_seed(panel, seed))
        except NotTestable:
            return math.nan, len(seeds)
        values.append(next(part.values[0] for part in margins if part.name == margin))
    if len({len(part) for part in values}) > 1:  # not every draw has every model
        return math.nan, len(seeds)
    variance = np.nanmean(np.nanvar(np.array(values), axis=0, ddof=1))
    return float(np.sqrt(variance / len(seeds))), len(seeds)


def _seeds(table: pd.DataFrame) -> list[float]:
    return list(table.calibration_seed[table.bits < BASELINE_BITS].dropna().unique())


def _of_seed(panel: Panel, seed: float) -> Panel:
    masks = {
        name: ((table.bits >= BASELINE_BITS) | (table.calibration_seed == seed)).to_numpy()
        for name, table in panel.tables.items()
    }
    return Panel(
        {name: table[masks[name]].reset_index(drop=True) for name, table in panel.tables.items()},
        {name: accuracy[:, masks[name]] for name, accuracy in panel.accuracy.items()},
    )
