"""How many variants of a published study suffice? ``python benchmarks/selection.py docs/studies/ladder``

For several budgets the variants that ``stratalaw select`` chooses, against 20 random subsets of the same cost: widths
of the exponents' 95 % intervals (HC3) as then measured, claims that can be tested, and how far what the chosen variants
say of them lies from what the whole study says, in standard errors of the whole study and of the subset together.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.laws import read_observations
from stratalaw.laws.analysis import with_utilization
from stratalaw.laws.exponents import Panel
from stratalaw.laws.fit import fit_law
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.rows import reasons_to_leave_out
from stratalaw.laws.verdicts import judge
from stratalaw.planning.selection import designs_of, random_subset, select, skeleton

SHARES = (0.1, 0.2, 0.3, 0.5)
RANDOM_SUBSETS = 20
STRATA = ("memorization", "application", "reasoning")


def rows_of_variants(table: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """The rows of some variants, and all baselines."""
    wanted = pd.MultiIndex.from_frame(variants[["model", "variant"]])
    return table[pd.MultiIndex.from_frame(table[["model", "variant"]]).isin(wanted) | (table.bits >= 16)]


def log_width(accuracies: pd.DataFrame, variants: pd.DataFrame) -> float:
    """Mean logarithm of the widths of all exponents' intervals."""
    part = rows_of_variants(accuracies, variants)
    intervals = [fit_law(part, PAPER_LAW, stratum).conf_int().iloc[1:] for stratum in STRATA]
    return float(np.mean([np.log(interval.high - interval.low).mean() for interval in intervals]))


def agreement(accuracies: pd.DataFrame, variants: pd.DataFrame) -> tuple[int, float]:
    """How many claims hang on the same margin as in the whole study, and the largest distance of their estimates from
    the whole study's on the same models, in standard errors of their difference."""
    part = rows_of_variants(accuracies, variants)
    own = part[part.bits < 16].model.unique()
    whole = accuracies[accuracies.model.isin(own)]
    pairs = zip(judge(Panel.observed(whole)), judge(Panel.observed(part[part.model.isin(own)])), strict=True)
    distances = [
        abs(few.estimate - every.estimate) / np.hypot(*(v.spread / np.sqrt(v.models) for v in (few, every)))
        for every, few in pairs
        if few.margin and few.margin == every.margin
    ]
    return len(distances), max(distances, default=float("nan"))


def main(folder: Path) -> None:
    observations = read_observations(folder / "observations.csv")
    seconds = pd.read_csv(folder / "seconds.csv")[["model", "variant", "seconds"]]
    accuracies = with_utilization(observations)
    laws = [fit_law(accuracies, PAPER_LAW, stratum) for stratum in STRATA]
    own = accuracies[(accuracies.stratum == STRATA[0]) & (reasons_to_leave_out(accuracies) == "")]
    candidates = own.merge(seconds, on=["model", "variant"])
    cost, designs = candidates.seconds.to_numpy(), designs_of(laws, candidates)
    everything = log_width(accuracies, candidates)
    rows = []
    for share in SHARES:
        budget = share * cost.sum()
        kept = skeleton(candidates, budget)
        chosen = select(designs, cost, budget, kept)
        by_chance = [
            log_width(accuracies, candidates[random_subset(cost, budget, seed)]) for seed in range(RANDOM_SUBSETS)
        ]
        width = log_width(accuracies, candidates[chosen])
        claims, distance = agreement(accuracies, candidates[chosen])
        rows.append(
            {
                "share of the cost": share,
                "variants": int(chosen.sum()),
                "models with contrasts": candidates.model[kept].nunique(),
                "claims compared": claims,
                "largest distance, standard errors": distance,
                "width, of the whole study's": np.exp(width - everything),
                "width, of a random subset's": np.exp(width - np.mean(by_chance)),
                "random subsets that are wider": f"{sum(other > width for other in by_chance)} of {RANDOM_SUBSETS}",
            }
        )
        print(rows[-1], flush=True)
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
