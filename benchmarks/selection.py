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
from stratalaw.laws.claims import CLAIMS, NotTestable
from stratalaw.laws.exponents import Panel
from stratalaw.laws.fit import fit_law
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.rows import PHASE_TRANSITION_BITS, reasons_to_leave_out
from stratalaw.laws.verdicts import estimate_of
from stratalaw.planning.selection import designs_of, random_subset, select
from stratalaw.planning.skeleton import skeleton
from stratalaw.study.variants import BASELINE_BITS

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


def distances(accuracies: pd.DataFrame, variants: pd.DataFrame) -> list[float]:
    """How far the estimate of each margin of each claim lies from the whole study's, in standard errors that so many
    models have if they differ as those of the whole study do (few models do not tell by how much they differ)."""
    part = rows_of_variants(accuracies, variants)
    part = part[part.model.isin(part.model[part.bits < BASELINE_BITS])]
    few, every = Panel.observed(part), Panel.observed(accuracies)
    found = []
    for claim in CLAIMS:
        try:
            whole = {margin.name: estimate_of(margin, every.models) for margin in claim.margins(every)}
            chosen = {margin.name: estimate_of(margin, few.models) for margin in claim.margins(few)}
        except NotTestable:
            continue
        pairs = [(chosen[name], whole[name]) for name in chosen if name in whole]
        found += [
            abs(own.value - all_.value) / all_.stderr * np.sqrt((own.freedom + 1) / (all_.freedom + 1))
            for own, all_ in pairs
            if own.freedom > 0
        ]
    return found


def main(folder: Path) -> None:
    observations = read_observations(folder / "observations.csv")
    seconds = pd.read_csv(folder / "seconds.csv")[["model", "variant", "seconds"]]
    accuracies = with_utilization(observations)
    laws = [fit_law(accuracies, PAPER_LAW, stratum) for stratum in STRATA]
    two_bits = (accuracies.bits == PHASE_TRANSITION_BITS) & ~accuracies.held_out & (accuracies.group_size > 0)
    own = accuracies[(accuracies.stratum == STRATA[0]) & ((reasons_to_leave_out(accuracies) == "") | two_bits)]
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
        distance = distances(accuracies, candidates[chosen])
        rows.append(
            {
                "share of the cost": share,
                "variants": int(chosen.sum()),
                "models with every contrast": min(kept.models.values(), default=0),
                "margins compared": len(distance),
                "distance, standard errors, median": np.median(distance),
                "within one": f"{sum(part <= 1 for part in distance)} of {len(distance)}",
                "largest": max(distance),
                "width, of the whole study's": np.exp(width - everything),
                "width, of a random subset's": np.exp(width - np.mean(by_chance)),
                "random subsets that are wider": f"{sum(other > width for other in by_chance)} of {RANDOM_SUBSETS}",
            }
        )
        print(rows[-1], flush=True)
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
