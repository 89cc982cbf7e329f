"""How many variants of a published study suffice? ``python benchmarks/selection.py docs/studies/ladder``

For several budgets the variants that ``stratalaw select`` chooses, against 20 random subsets of the same cost: widths
of the exponents' 95 % intervals (HC3) as then measured, claims that can be tested, and how far what the chosen variants
say of them lies from what the whole study says, in the standard errors that the chosen variants give.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from stratalaw.laws import read_observations
from stratalaw.laws.analysis import with_utilization
from stratalaw.laws.claims import CLAIMS
from stratalaw.laws.exponents import Panel
from stratalaw.laws.fit import fit_law
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.rows import PHASE_TRANSITION_BITS, reasons_to_leave_out
from stratalaw.laws.verdicts import CONTRADICTED, SUPPORTED, estimate_of, judge, margins_of
from stratalaw.planning.selection import Designs, designs_of, random_subset, select
from stratalaw.planning.skeleton import Skeleton, skeleton
from stratalaw.study.variants import BASELINE_BITS

SHARES = (0.1, 0.15, 0.2, 0.3, 0.5)
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


def of_models_measured(accuracies: pd.DataFrame, variants: pd.DataFrame) -> Panel:
    part = rows_of_variants(accuracies, variants)
    return Panel.observed(part[part.model.isin(part.model[part.bits < BASELINE_BITS])])


def distances(few: Panel, every: Panel) -> pd.DataFrame:
    """How far the estimate of each margin of each claim lies from the whole study's, in the standard error that the few
    variants give, its degrees of freedom, and the same on the scale of a normal distribution: with two or three models
    a standard error is itself so unsure that large multiples of it mean little."""
    chosen, whole = margins_of(few, CLAIMS)[0], margins_of(every, CLAIMS)[0]
    rows = []
    for claim, margins in chosen.items():
        for margin, same in zip(margins, whole[claim], strict=True):
            own, expected = estimate_of(margin, few.models), estimate_of(same, every.models)
            if own.freedom > 0:
                score = abs(own.value - expected.value) / own.stderr
                normal = stats.norm.isf(stats.t.sf(score, own.freedom))
                rows.append({"claim": claim, "score": score, "freedom": own.freedom, "normal": normal})
    return pd.DataFrame(rows)


def decided(panel: Panel) -> dict[str, str]:
    return {v.claim: v.verdict for v in judge(panel) if v.verdict in (SUPPORTED, CONTRADICTED)}


@dataclass(frozen=True)
class Choice:
    """What may be measured of a study, and what a selection from it says."""

    accuracies: pd.DataFrame
    candidates: pd.DataFrame
    designs: Designs

    @classmethod
    def of(cls, observations: pd.DataFrame, seconds: pd.DataFrame) -> Choice:
        accuracies = with_utilization(observations)
        laws = [fit_law(accuracies, PAPER_LAW, stratum) for stratum in STRATA]
        two_bits = (accuracies.bits == PHASE_TRANSITION_BITS) & ~accuracies.held_out & (accuracies.group_size > 0)
        own = accuracies[(accuracies.stratum == STRATA[0]) & ((reasons_to_leave_out(accuracies) == "") | two_bits)]
        originals = accuracies[(accuracies.bits >= BASELINE_BITS) & accuracies.stratum.isin(STRATA)]
        weakest = originals.groupby("model").accuracy_adjusted.min().rename("weakest")
        candidates = own.merge(seconds, on=["model", "variant"]).join(weakest, on="model")
        return cls(accuracies, candidates, designs_of(laws, candidates))

    @property
    def cost(self) -> NDArray[np.float64]:
        return self.candidates.seconds.to_numpy(float)

    def select(self, share: float) -> tuple[pd.DataFrame, Skeleton]:
        budget = share * self.cost.sum()
        kept = skeleton(self.candidates, budget)
        return self.candidates[select(self.designs, self.cost, budget, kept)], kept

    def agreement(self, chosen: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, object]]:
        few, every = of_models_measured(self.accuracies, chosen), Panel.observed(self.accuracies)
        said, true = decided(few), decided(every)
        return distances(few, every), {
            "decided as by the whole": f"{len(said.items() & true.items())} of {len(true)}",
            "decided otherwise": len(said.items() - true.items()),
        }


def described(distance: pd.DataFrame) -> dict[str, object]:
    """``expected``: of a part that were no part of the whole; what it shares with the whole brings it nearer."""
    expected = (2 * stats.t.cdf(1, distance.freedom) - 1).sum()
    within = (distance.score <= 1).sum()
    return {
        "within a standard error": f"{within} of {len(distance)} (expected {expected:.0f} or more)",
        "root mean square": np.sqrt((distance.score**2).mean()),
        "normal scale": np.sqrt((distance.normal**2).mean()),
        "beyond the 95 % interval": int((distance.normal > stats.norm.isf(0.025)).sum()),
    }


def main(folder: Path) -> None:
    observations = read_observations(folder / "observations.csv")
    seconds = pd.read_csv(folder / "seconds.csv")[["model", "variant", "seconds"]]
    published = Choice.of(observations, seconds)
    everything = log_width(published.accuracies, published.candidates)
    rows = []
    for share in SHARES:
        chosen, kept = published.select(share)
        distance, verdicts = published.agreement(chosen)
        by_chance = [
            log_width(
                published.accuracies,
                published.candidates[random_subset(published.cost, share * published.cost.sum(), seed)],
            )
            for seed in range(RANDOM_SUBSETS)
        ]
        width = log_width(published.accuracies, chosen)
        rows.append(
            {
                "share of the cost": share,
                "variants": len(chosen),
                "models with every contrast": min(kept.models.values(), default=0),
                **described(distance),
                **verdicts,
                "width, of the whole study's": np.exp(width - everything),
                "width, of a random subset's": np.exp(width - np.mean(by_chance)),
                "random subsets that are wider": f"{sum(other > width for other in by_chance)} of {RANDOM_SUBSETS}",
            }
        )
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))
    print("\nEach model held out in turn, all others fitted:\n")
    others = [
        Choice.of(observations.assign(held_out=observations.model == model), seconds)
        for model in observations.model.unique()
    ]
    rows = []
    for share in SHARES:
        found = [choice.agreement(choice.select(share)[0]) for choice in others]
        otherwise = sum(int(str(verdicts["decided otherwise"])) for _, verdicts in found)
        together = pd.concat([distance for distance, _ in found])
        rows.append({"share of the cost": share, **described(together), "decided otherwise": otherwise})
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
