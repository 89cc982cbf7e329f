"""Which variants to deploy: mixed-integer programs over predicted accuracies and counted memory, solved with PuLP.

Workloads have weights of the strata and floors below which an accuracy must not fall; every workload is served by one
variant, and all served variants share the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulp

from stratalaw.errors import StratalawError
from stratalaw.units import readable_bytes

TOLERANCE = 1e-7


@dataclass(frozen=True)
class Candidate:
    """A variant that could be deployed; ``accuracy`` by stratum, ``memory``: bytes, ``note``: to tell the reader."""

    name: str
    memory: int
    accuracy: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True)
class Workload:
    """What is asked of the variants: ``share`` of the whole, ``weights`` and ``floors`` by stratum."""

    name: str
    share: float
    weights: Mapping[str, float]
    floors: Mapping[str, float] = field(default_factory=dict)

    def value(self, candidate: Candidate) -> float:
        """Weighted mean accuracy of a candidate."""
        return sum(w * candidate.accuracy[s] for s, w in self.weights.items()) / sum(self.weights.values())

    def shortfall(self, candidate: Candidate) -> float:
        """By how much a candidate misses the floors, summed over the strata."""
        return sum(max(0.0, floor - candidate.accuracy[s]) for s, floor in self.floors.items())


@dataclass(frozen=True)
class Plan:
    """``choices``: the candidate that serves each workload; ``memory``: bytes of all served; ``value``: mean accuracy,
    weighted by shares and strata; ``shortfall``: by how much floors are missed, 0 in a feasible plan."""

    choices: Mapping[str, Candidate]
    memory: int
    value: float
    shortfall: float


class Infeasible(StratalawError):
    """No plan meets every constraint; the message names those that bind, and ``nearest`` is the nearest plan."""

    def __init__(self, message: str, nearest: Plan | None) -> None:
        super().__init__(message)
        self.nearest = nearest


def plan(
    candidates: Sequence[Candidate],
    workloads: Sequence[Workload],
    memory: int | None = None,
    most_variants: int | None = None,
) -> Plan:
    """The best plan within ``memory`` bytes, or the smallest one that meets the floors where no memory is given.

    Ties are broken by the other of the two.

    Args:
        candidates: what can be deployed.
        workloads: what it is for.
        memory: bytes that all served variants share.
        most_variants: that may be served.

    Raises:
        Infeasible: no plan meets every floor within the memory.
    """
    nearest = _solve(candidates, workloads, memory, most_variants, ["shortfall", "value", "memory"])
    if nearest is None or nearest.shortfall > TOLERANCE:
        raise Infeasible(_why_infeasible(candidates, workloads, memory, most_variants), nearest)
    order = ["memory", "value"] if memory is None else ["value", "memory"]
    best = _solve(candidates, workloads, memory, most_variants, ["shortfall", *order])
    assert best is not None  # the nearest is one
    return best


def _solve(
    candidates: Sequence[Candidate],
    workloads: Sequence[Workload],
    memory: int | None,
    most_variants: int | None,
    objectives: Sequence[str],
) -> Plan | None:
    """The plan that is best by the first objective, among those by the second, and so on; None where none fits."""
    problem = pulp.LpProblem("plan", pulp.LpMinimize)
    places = range(len(candidates))
    served = [problem.add_variable(f"served_{v}", cat="Binary") for v in places]
    serves = [[problem.add_variable(f"serves_{w}_{v}", cat="Binary") for v in places] for w in range(len(workloads))]
    for row in serves:
        problem += pulp.lpSum(row) == 1
        for v in places:
            problem += row[v] <= served[v]
    if most_variants is not None:
        problem += pulp.lpSum(served) <= most_variants
    # In gigabytes, so that the solver's tolerances mean something.
    size = pulp.lpSum(candidate.memory / 1e9 * served[v] for v, candidate in enumerate(candidates))
    if memory is not None:
        problem += size <= memory / 1e9
    shares = sum(workload.share for workload in workloads)

    def total(measure: str) -> pulp.LpAffineExpression:
        return pulp.lpSum(
            workload.share / shares * getattr(workload, measure)(candidate) * serves[w][v]
            for w, workload in enumerate(workloads)
            for v, candidate in enumerate(candidates)
        )

    goals = {"shortfall": total("shortfall"), "value": -total("value"), "memory": size}
    for name in objectives:
        if goals[name].isNumericalConstant():  # no floors
            continue
        problem.setObjective(goals[name])
        if problem.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=0, gapAbs=0)) != pulp.LpStatusOptimal:
            return None
        problem += goals[name] <= pulp.value(goals[name]) + TOLERANCE
    choices = {workload.name: candidates[_largest(row)] for workload, row in zip(workloads, serves, strict=True)}
    return plan_of(choices, workloads)


def _largest(variables: Sequence[pulp.LpVariable]) -> int:
    """The place of the variable with the largest value."""
    return max(range(len(variables)), key=lambda place: float(variables[place].value()))


def plan_of(choices: Mapping[str, Candidate], workloads: Sequence[Workload]) -> Plan:
    """What choices amount to."""
    shares = sum(workload.share for workload in workloads)
    used = {candidate.name: candidate for candidate in choices.values()}
    return Plan(
        choices=choices,
        memory=sum(candidate.memory for candidate in used.values()),
        value=sum(workload.share * workload.value(choices[workload.name]) for workload in workloads) / shares,
        shortfall=sum(workload.share * workload.shortfall(choices[workload.name]) for workload in workloads) / shares,
    )


def _most_accurate(candidates: Sequence[Candidate], stratum: str) -> Candidate:
    return max(candidates, key=lambda candidate: candidate.accuracy[stratum])


def _why_infeasible(
    candidates: Sequence[Candidate], workloads: Sequence[Workload], memory: int | None, most_variants: int | None
) -> str:
    """Which constraints bind: those without which there would be a plan."""
    smallest = min(candidates, key=lambda candidate: candidate.memory)
    if memory is not None and smallest.memory > memory:
        needed = readable_bytes(smallest.memory)
        return f"no variant fits {readable_bytes(memory)}: the smallest, {smallest.name}, takes {needed}"
    for workload in workloads:
        for stratum, floor in workload.floors.items():
            best = _most_accurate(candidates, stratum)
            if best.accuracy[stratum] < floor - TOLERANCE:
                return (
                    f"{workload.name}: no variant reaches {stratum} {floor:g} at any size; the best, {best.name}, "
                    f"reaches {best.accuracy[stratum]:.3f}"
                )
    reasons = []
    if memory is not None:
        without = _solve(candidates, workloads, None, most_variants, ["shortfall", "memory"])
        if without is not None and without.shortfall <= TOLERANCE:
            reasons.append(
                f"the memory: {readable_bytes(memory)} of the {readable_bytes(without.memory)} that the floors take"
            )
    if most_variants is not None:
        without = _solve(candidates, workloads, memory, None, ["shortfall", "memory"])
        if without is not None and without.shortfall <= TOLERANCE:
            count = len({candidate.name for candidate in without.choices.values()})
            reasons.append(f"the number of variants: {most_variants} where {count} would do")
    return "what binds is " + " and ".join(reasons or ["several floors together, which no variant meets"])


def reason(workload: Workload, found: Plan, candidates: Sequence[Candidate], memory: int | None) -> str:
    """Why a workload is served by what serves it, beside what comes next."""
    chosen = found.choices[workload.name]
    usable = [
        candidate
        for candidate in candidates
        if workload.shortfall(candidate) <= TOLERANCE and (memory is None or candidate.memory <= memory)
    ]
    others = [candidate for candidate in usable if candidate.name != chosen.name]
    if not others:
        return "the only one that fits and meets the floors"
    if memory is None:
        following = min(others, key=lambda candidate: (candidate.memory, -workload.value(candidate)))
        what = f"{following.name} takes {readable_bytes(following.memory)} and has {workload.value(following):.3f}"
        if following.memory < chosen.memory:
            return f"has {workload.value(chosen):.3f}; {what}, but the whole plan would be larger"
        return f"the smallest of {len(usable)} that meet the floors; {what}"
    following = max(others, key=workload.value)
    what = f"{following.name} has {workload.value(following):.3f}"
    if workload.value(following) > workload.value(chosen) + TOLERANCE:
        return f"has {workload.value(chosen):.3f}; {what} alone, but would leave too little memory for the rest"
    return f"the most accurate of {len(usable)} that fit and meet the floors; {what}"
