"""Plans against brute force on random problems, and what is said where there is none."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratalaw.planning.portfolio import Candidate, Infeasible, Workload, plan, plan_of

STRATA = ("memorization", "application", "reasoning")
GB = 10**9


def random_problem(seed: int) -> tuple[list[Candidate], list[Workload], int | None, int | None]:
    rng = np.random.default_rng(seed)

    def accuracies():
        return dict(zip(STRATA, rng.uniform(0.3, 0.95, 3).round(3).tolist(), strict=True))

    candidates = [Candidate(f"v{i}", int(rng.integers(1, 12)) * GB, accuracies()) for i in range(rng.integers(2, 7))]
    workloads = [
        Workload(
            f"w{i}",
            share=float(rng.uniform(0.1, 1)),
            weights=dict(zip(STRATA, rng.uniform(0, 1, 3).tolist(), strict=True)),
            floors={STRATA[rng.integers(3)]: float(rng.uniform(0.2, 0.8))} if rng.random() < 0.6 else {},
        )
        for i in range(rng.integers(1, 4))
    ]
    memory = int(rng.integers(4, 25)) * GB if rng.random() < 0.7 else None
    return candidates, workloads, memory, int(rng.integers(1, 4)) if rng.random() < 0.5 else None


def every_plan(candidates, workloads, memory, most_variants):
    for served in product(candidates, repeat=len(workloads)):
        found = plan_of({w.name: c for w, c in zip(workloads, served, strict=True)}, workloads)
        count = len({candidate.name for candidate in served})
        if (memory is None or found.memory <= memory) and (most_variants is None or count <= most_variants):
            yield found


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1_000_000))
def test_plans_are_those_of_brute_force(seed):
    candidates, workloads, memory, most_variants = random_problem(seed)
    everything = list(every_plan(candidates, workloads, memory, most_variants))
    feasible = [found for found in everything if found.shortfall < 1e-9]
    if not feasible:
        with pytest.raises(Infeasible) as caught:
            plan(candidates, workloads, memory, most_variants)
        if everything:
            least = min(found.shortfall for found in everything)
            assert caught.value.nearest.shortfall == pytest.approx(least, abs=1e-5)
        else:
            assert caught.value.nearest is None
        return
    found = plan(candidates, workloads, memory, most_variants)
    assert found.shortfall == pytest.approx(0, abs=1e-6)
    assert memory is None or found.memory <= memory
    if memory is None:
        assert found.memory == min(other.memory for other in feasible)
    else:
        assert found.value == pytest.approx(max(other.value for other in feasible), abs=1e-5)


SMALL = Candidate("small", 2 * GB, {"memorization": 0.5, "application": 0.6, "reasoning": 0.4})
LARGE = Candidate("large", 9 * GB, {"memorization": 0.8, "application": 0.8, "reasoning": 0.7})
EQUAL = dict.fromkeys(STRATA, 1.0)


def one(**floors) -> list[Workload]:
    return [Workload("chat", 1.0, EQUAL, floors)]


@pytest.mark.parametrize(
    ("memory", "workloads", "most", "message"),
    [
        (GB, one(), None, "no variant fits 1 GB: the smallest, small, takes 2 GB"),
        (4 * GB, one(reasoning=0.6), None, "what binds is the memory: 4 GB of the 9 GB that the floors take"),
        (
            None,
            one(reasoning=0.9),
            None,
            "chat: no variant reaches reasoning 0.9 at any size; the best, large, reaches 0.700",
        ),
    ],
)
def test_the_constraint_that_binds_is_named(memory, workloads, most, message):
    with pytest.raises(Infeasible) as caught:
        plan([SMALL, LARGE], workloads, memory, most)
    assert str(caught.value) == message


def test_the_nearest_plan_misses_least():
    with pytest.raises(Infeasible) as caught:
        plan([SMALL, LARGE], one(reasoning=0.6), memory=4 * GB)
    nearest = caught.value.nearest
    assert nearest.choices["chat"] is SMALL and nearest.shortfall == pytest.approx(0.2)


def test_too_few_variants_for_workloads_with_opposite_floors():
    facts = Candidate("facts", GB, {"memorization": 0.9, "application": 0.3, "reasoning": 0.3})
    logic = Candidate("logic", GB, {"memorization": 0.3, "application": 0.3, "reasoning": 0.9})
    workloads = [Workload("a", 1, EQUAL, {"memorization": 0.8}), Workload("b", 1, EQUAL, {"reasoning": 0.8})]
    with pytest.raises(Infeasible, match="the number of variants: 1 where 2 would do"):
        plan([facts, logic], workloads, memory=5 * GB, most_variants=1)
    both = plan([facts, logic], workloads, memory=5 * GB, most_variants=2)
    assert [both.choices[name].name for name in ("a", "b")] == ["facts", "logic"] and both.memory == 2 * GB
