"""Subsets that tell most: against the exact optimum, against chance, and against what intervals then measure."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratalaw.laws.fit import fit_law
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.rows import stratum_accuracies
from stratalaw.laws.simulation import paper_grid, simulate
from stratalaw.planning.selection import Designs, designs_of, random_subset, select, select_exactly
from stratalaw.planning.skeleton import Skeleton


def random_designs(seed: int, candidates: int, parameters: int, strata: int = 2) -> tuple[Designs, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = [f"p{i}" for i in range(parameters)]
    return Designs(names, rng.normal(size=(strata, candidates, parameters))), rng.uniform(1, 3, candidates)


def best_by_enumeration(designs: Designs, cost: np.ndarray, budget: float) -> float:
    masks = (
        np.isin(np.arange(len(cost)), chosen)
        for size in range(1, len(cost) + 1)
        for chosen in combinations(range(len(cost)), size)
        if cost[list(chosen)].sum() <= budget
    )
    return max(designs.value(mask) for mask in masks)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_exact_design_is_the_best_of_all_subsets(seed):
    designs, cost = random_designs(seed, candidates=9, parameters=2)
    exact = select_exactly(designs, cost, budget=8)
    assert cost[exact].sum() <= 8
    assert designs.value(exact) == pytest.approx(best_by_enumeration(designs, cost, 8), abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), budget=st.floats(8, 16))
def test_exchange_stays_within_the_budget_and_near_the_optimum(seed, budget):
    designs, cost = random_designs(seed, candidates=10, parameters=3)
    found = select(designs, cost, budget)
    assert cost[found].sum() <= budget
    # A factor on every interval: the determinant's logarithm is shared by the parameters of the strata.
    lost = best_by_enumeration(designs, cost, budget) - designs.value(found)
    # Nothing guarantees it: of 2,000 problems with the smallest budget one lost .21, and three more than .12.
    assert lost / (2 * 3) < 0.3


def test_a_candidate_is_given_up_for_several_cheaper_ones():
    designs, cost = random_designs(1, candidates=10, parameters=3)
    found = select(designs, cost, budget=8)
    assert designs.value(found) == pytest.approx(best_by_enumeration(designs, cost, 8))


def test_a_budget_for_all_takes_all():
    designs, cost = random_designs(0, candidates=12, parameters=3)
    assert select(designs, cost, cost.sum() + 1).all()


def test_a_budget_for_too_few_is_refused():
    designs, cost = random_designs(0, candidates=12, parameters=3)
    with pytest.raises(ValueError, match="does not buy 3 variants, as many as the law has parameters"):
        select(designs, cost, budget=1.5)


def three_strata(seed: int) -> pd.DataFrame:
    variants = paper_grid()
    tables = [
        simulate(PAPER_LAW, {"A": 0.5, **EXPONENTS[name]}, variants, seed + i, n_items=5000, stratum=name)
        for i, name in enumerate(("memorization", "application", "reasoning"))
    ]
    return stratum_accuracies(pd.concat(tables))


def test_chosen_variants_give_narrower_intervals_than_random_ones_of_the_same_cost():
    accuracies = three_strata(seed=3)
    laws = [fit_law(accuracies, stratum=stratum) for stratum in ("memorization", "application", "reasoning")]
    candidates = accuracies[accuracies.stratum == "memorization"].reset_index(drop=True)
    designs, cost = designs_of(laws, candidates), candidates.n_params.to_numpy() ** 0.5
    budget = cost.sum() / 4

    def widths(chosen: np.ndarray) -> np.ndarray:
        keys = pd.MultiIndex.from_frame(candidates.loc[chosen, ["model", "variant"]])
        part = accuracies[pd.MultiIndex.from_frame(accuracies[["model", "variant"]]).isin(keys)]
        intervals = [fit_law(part, stratum=law.stratum).conf_int() for law in laws]
        return np.array([interval.high - interval.low for interval in intervals])[:, 1:]  # the exponents

    by_chance = np.mean([widths(random_subset(cost, budget, seed)) for seed in range(10)], axis=0)
    assert np.median(widths(select(designs, cost, budget)) / by_chance) < 0.9


def test_what_a_skeleton_keeps_is_chosen_and_what_it_does_not_reach_is_not():
    designs, cost = random_designs(0, candidates=12, parameters=3)
    kept, reached = np.arange(12) < 2, np.arange(12) < 9
    chosen = select(designs, cost, 14.0, Skeleton(kept, reached, {}))
    assert chosen[kept].all() and not chosen[~reached].any()
    assert cost[chosen].sum() <= 14.0


def test_variants_that_laws_are_not_fitted_to_are_bought_for_claims_alone():
    accuracies = three_strata(seed=3)
    laws = [fit_law(accuracies, stratum=stratum) for stratum in ("memorization", "application", "reasoning")]
    candidates = accuracies[accuracies.stratum == "memorization"].reset_index(drop=True)
    two_bits = candidates[candidates.bits == 3].assign(bits=2, effective_bits=2.2)
    candidates = pd.concat([candidates, two_bits], ignore_index=True)
    designs = designs_of(laws, candidates)
    chosen = select(designs, np.ones(len(candidates)), 1e6)
    assert chosen.sum() == (candidates.bits > 2).sum()
    assert not chosen[candidates.bits == 2].any()
    assert designs.widths(chosen) == pytest.approx(designs.widths(np.ones(len(candidates), dtype=bool)))
