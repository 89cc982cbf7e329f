"""How good are the choices of ``stratalaw plan``? ``python benchmarks/planning_regret.py docs/studies/ladder``

A published study is replayed: a part of its variants counts as measured, what was not is predicted from that part as
``--config allow_missing=true`` does, and the plan chooses among all variants for 60 memory budgets. Regret is by how
much the choice, as it was measured, lies below the best that fits, in points of the mean accuracy over the strata. The
same for 60 floors of that mean, by how much the choice misses them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.laws import read_observations
from stratalaw.laws.analysis import Analysis, analyse, with_utilization
from stratalaw.laws.fit import fit_law
from stratalaw.laws.forms import form_named
from stratalaw.laws.rows import PHASE_TRANSITION_BITS, reasons_to_leave_out
from stratalaw.laws.whole import whole_study
from stratalaw.models.known_shapes import shapes_of_folder
from stratalaw.models.shapes import Shapes
from stratalaw.planning.candidates import candidates_of
from stratalaw.planning.portfolio import Candidate
from stratalaw.planning.selection import designs_of, random_subset, select
from stratalaw.planning.skeleton import skeleton
from stratalaw.study import Study, read_study
from stratalaw.study.variants import BASELINE_BITS

ROOT = Path(__file__).parent.parent
BUDGETS = 60
CONTEXT = 256
SHARES = (0.1, 0.2, 0.3)
RANDOM_SUBSETS = 3
MUCH = 0.02
FORMS = ("anchored", "anchored-effective")  # of which the better one predicts


def replays(observations: pd.DataFrame, seconds: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """What counts as measured, and a name for it; originals are measured with the first variant of a model."""
    yield "all", observations
    is_original = observations.bits >= BASELINE_BITS
    variants = pd.MultiIndex.from_frame(observations[["model", "variant"]])
    candidates = candidates_to_select(observations, seconds)
    cost = candidates.seconds.to_numpy(float)
    laws = [fit_law(with_utilization(observations), stratum=stratum) for stratum in observations.stratum.unique()]
    for share in SHARES:
        kept = skeleton(candidates, share * cost.sum())
        chosen = candidates[select(designs_of(laws, candidates), cost, share * cost.sum(), kept)]
        named = pd.MultiIndex.from_frame(chosen[["model", "variant"]])
        yield f"select {share:.0%} of the cost", observations[is_original | variants.isin(named)]
    for share in SHARES:
        for seed in range(RANDOM_SUBSETS):
            chosen = candidates[random_subset(cost, share * cost.sum(), seed)]
            named = pd.MultiIndex.from_frame(chosen[["model", "variant"]])
            yield f"random {share:.0%} of the cost", observations[is_original | variants.isin(named)]
    for model in observations.model.unique():
        of_others = observations.model != model
        yield "all but one size, its original known", observations[of_others | is_original]
        yield "all but one size", observations[of_others]
    for _, family in observations.sort_values("n_params").groupby("family", sort=False):
        for pair in pairwise(family.model.unique()):
            yield "two neighbouring sizes, originals of all", observations[observations.model.isin(pair) | is_original]


def candidates_to_select(observations: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Variants that a selection may buy, and what each costs."""
    accuracies = with_utilization(observations)
    two_bits = (accuracies.bits == PHASE_TRANSITION_BITS) & ~accuracies.held_out
    usable = two_bits | (reasons_to_leave_out(accuracies) == "")
    own = accuracies[usable & (accuracies.stratum == accuracies.stratum.iloc[0])]
    originals = accuracies[(accuracies.bits >= BASELINE_BITS) & accuracies.stratum.isin(observations.stratum)]
    weakest = originals.groupby("model").accuracy_adjusted.min().rename("weakest")
    return own.merge(seconds[["model", "variant", "seconds"]], on=["model", "variant"]).join(weakest, on="model")


def measured_means(observations: pd.DataFrame) -> dict[str, float]:
    """Accuracy of each variant, by the name of its candidate, as the mean over strata."""
    strata = observations.groupby(["model", "variant", "stratum"]).accuracy.mean().unstack().mean(axis=1)
    return {f"{model} {variant}": float(value) for (model, variant), value in strata.items()}


def chosen_within(candidates: list[Candidate], budget: float, value: Mapping[str, float]) -> Candidate:
    """The candidate of the highest value that fits; of equals the smallest."""
    usable = [candidate for candidate in candidates if candidate.memory <= budget]
    return max(usable, key=lambda candidate: (value[candidate.name], -candidate.memory))


def regrets(candidates: list[Candidate], measured: Mapping[str, float]) -> np.ndarray:
    """Of each budget, from the smallest candidate's memory to the largest one's."""
    known = [candidate for candidate in candidates if candidate.name in measured]
    planned = {candidate.name: float(np.mean(list(candidate.accuracy.values()))) for candidate in known}
    sizes = [candidate.memory for candidate in known]
    return np.array(
        [
            measured[chosen_within(known, budget, measured).name] - measured[chosen_within(known, budget, planned).name]
            for budget in np.geomspace(min(sizes), max(sizes), BUDGETS) * (1 + 1e-9)
        ]
    )


def shortfalls(candidates: list[Candidate], measured: Mapping[str, float]) -> np.ndarray:
    """By how much the smallest candidate that is expected to reach a floor misses it, for each that one reaches."""
    known = [candidate for candidate in candidates if candidate.name in measured]
    planned = {candidate.name: float(np.mean(list(candidate.accuracy.values()))) for candidate in known}
    found = []
    for floor in np.linspace(min(measured.values()), max(measured.values()), BUDGETS):
        reaching = [candidate for candidate in known if planned[candidate.name] >= floor]
        if reaching:
            smallest = min(reaching, key=lambda candidate: (candidate.memory, -planned[candidate.name]))
            found.append(max(floor - measured[smallest.name], 0.0))
    return np.array(found)


def planned(study: Study, shapes: Mapping[str, Shapes], part: pd.DataFrame, whole: pd.DataFrame) -> list[Candidate]:
    analysis: Analysis = analyse(part, [form_named(name) for name in FORMS], resamples=2)
    not_run = names_of(whole) - names_of(part)
    return candidates_of(study, shapes, replace(analysis, variants=whole_study(part, study, not_run)), CONTEXT)


def names_of(observations: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(observations.model, observations.variant, strict=True))


def row(name: str, regret: np.ndarray, shortfall: np.ndarray) -> dict[str, object]:
    return {
        "measured": name,
        "mean regret": 100 * regret.mean(),
        "largest": 100 * regret.max(),
        "over 2 points": f"{np.mean(regret > MUCH):.0%}",
        "mean shortfall": 100 * shortfall.mean(),
        "floors missed by over 2": f"{np.mean(shortfall > MUCH):.0%}",
    }


def main(folder: Path) -> None:
    study = read_study(ROOT / "config" / f"{folder.resolve().name}.yaml")
    observations = read_observations(folder / "observations.csv")
    shapes = {model.name: shapes_of_folder(Path(model.source)) for model in study.models}
    measured = measured_means(observations)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, part in replays(observations, pd.read_csv(folder / "seconds.csv")):
        candidates = planned(study, shapes, part, observations)
        found.setdefault(name, []).append((regrets(candidates, measured), shortfalls(candidates, measured)))
    rows = [row(name, *(np.concatenate(part) for part in zip(*pairs, strict=True))) for name, pairs in found.items()]
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
