"""The variants that keep the claims of the paper testable: what a selection holds in any case.

Claims rest on contrasts within a model, all else the same, and on settings that all models share (``laws.claims``),
which a design for exponents alone need not hold. The contrasts of a model meet in one setting, the largest groups and
calibration set, which people use.

A part of a study agrees with the whole of it where it averages over the same things. Models differ most, and fewer than
three decide no claim, so that each contrast is bought for three models (for two, where the others would not be testable
otherwise), and then for as many as the budget buys, before any is bought twice in one model. A margin that depends on
where in the grid it is measured is measured in another place in each next model: the dependence averages out, and what
is left of it is in the spread between models, which the standard error is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.rows import PHASE_TRANSITION_BITS
from stratalaw.laws.verdicts import MIN_MODELS

COMMON, EXPONENTS = "setting that all models share", "exponents"
GROUPS, CALIBRATION = "groups at low and high bits", "calibration at low and high bits"
PHASE, DOUBLINGS = "2 bits beside 3 and 4", "first and last doubling"
LEAST_MODELS = 2  # that tell, for a claim to be tested
PHASE_WIDTHS = (PHASE_TRANSITION_BITS, 3, 4)

Mask = NDArray[np.bool_]
Places = Mapping[str, Sequence[Mask]]


@dataclass(frozen=True)
class Skeleton:
    """Masks of candidates: ``kept``, to be measured in any case; ``reached``, of the models that have the setting in
    common, to which the rest of the selection must keep. ``models``: how many models have each contrast."""

    kept: Mask
    reached: Mask
    models: Mapping[str, int]


def skeleton(candidates: pd.DataFrame, budget: float) -> Skeleton:
    """What keeps the claims testable in as many models as the budget buys.

    First the setting that all models share, at the lowest bits that vary the factors; then contrast by contrast, in the
    models that tell most for their cost. Nothing is kept where the budget does not buy two models, and no contrast of a
    single one: a claim on models needs two.

    Args:
        candidates: model, bits, group_size, calibration_size and seconds of each, and ``weakest``, the adjusted
            accuracy of the model's original in the stratum in which it has the least.
        budget: in seconds.
    """
    seconds = candidates.seconds.to_numpy(float)
    of_models = {
        str(model): _places(candidates, (candidates.model == model).to_numpy()) for model in candidates.model.unique()
    }
    places = {model: own for model, own in of_models.items() if own}
    chosen: Mask = np.zeros(len(candidates), dtype=bool)
    reached = []
    for model in sorted(places, key=lambda name: float(seconds[places[name][COMMON][0]].sum())):
        with_it = chosen | places[model][COMMON][0]
        if seconds[with_it].sum() <= budget:
            chosen = with_it
            reached.append(model)
    if len(reached) < LEAST_MODELS:
        return Skeleton(np.zeros_like(chosen), np.ones_like(chosen), {})
    # An effect on what an original knows is the less sure the less that is: its variance falls with the square of it.
    weakest = candidates.groupby("model").weakest.first()
    reached.sort(key=lambda name: float(seconds[places[name][EXPONENTS][0]].sum() / weakest[name] ** 2))
    own = [places[model] for model in reached]
    chosen = _with_contrasts(chosen, own, seconds, budget)
    names = list(dict.fromkeys(name for part in own for name in part))
    counts = {name: sum(any(chosen[place].all() for place in part.get(name, ())) for part in own) for name in names}
    return Skeleton(chosen, candidates.model.isin(reached).to_numpy(), counts)


def _with_contrasts(chosen: Mask, models: Sequence[Places], seconds: NDArray[np.float64], budget: float) -> Mask:
    """``chosen``, and the contrasts that the rest of the budget buys, in the order of the models."""
    with_it = {
        name: [own[name] for own in models if name in own]
        for name in (EXPONENTS, GROUPS, CALIBRATION, PHASE, DOUBLINGS)
    }
    bought = dict.fromkeys(with_it, 0)

    def with_more(wanted: Mapping[str, int]) -> Mask | None:
        """``chosen`` with more models for some contrasts, each next model in the next place; None where that is not
        to be had."""
        masks = []
        for name, count in wanted.items():
            numbers = range(bought[name], bought[name] + count)
            if numbers.stop > len(with_it[name]):
                return None
            masks += [with_it[name][number][number % len(with_it[name][number])] for number in numbers]
        more: Mask = np.logical_or.reduce([chosen, *masks])
        return more if seconds[more].sum() <= budget else None

    def buy(name: str, count: int) -> bool:
        nonlocal chosen
        more = with_more({name: count})
        if more is None:
            return False
        chosen, bought[name] = more, bought[name] + count
        return True

    for name in with_it:
        # What is left must buy the other contrasts for the least number of models.
        others = (other for other, models in with_it.items() if other != name and len(models) >= LEAST_MODELS)
        rest = {other: LEAST_MODELS for other in others if not bought[other]}
        if with_more(rest | {name: MIN_MODELS}) is None or not buy(name, MIN_MODELS):
            buy(name, LEAST_MODELS)
    for name in with_it:
        if bought[name] == LEAST_MODELS:
            buy(name, MIN_MODELS - LEAST_MODELS)
    wanted = [name for name in with_it if bought[name]]
    while wanted:
        fewest = min(wanted, key=lambda name: bought[name])
        if not buy(fewest, 1):
            wanted.remove(fewest)
    for name, models_with_it in with_it.items():
        for places in models_with_it[: bought[name]]:
            more = np.logical_or.reduce([chosen, *places])
            if seconds[more].sum() <= budget:
                chosen = more
    return chosen


def _places(candidates: pd.DataFrame, own: Mask) -> dict[str, list[Mask]]:
    """The contrasts of one model by name, those that its grid has: where each can be measured, one place or several
    that stand for each other. None where the grid varies nothing."""
    bits, group, samples = (candidates[name].to_numpy(float) for name in ("bits", "group_size", "calibration_size"))
    low, high = _widths(bits, group, samples, own)
    settings = set(zip(group[own & (bits == low)], samples[own & (bits == low)], strict=True))
    settings &= set(zip(group[own & (bits == high)], samples[own & (bits == high)], strict=True))
    if not settings:
        return {}
    usual = _usual(settings)
    at_group, at_samples = own & (group == usual[0]), own & (samples == usual[1])
    centre = at_group & at_samples
    at_low, at_both = bits == low, np.isin(bits, (low, high))
    groups, sizes = np.unique(group[at_samples & at_low]), np.unique(samples[at_group & at_low])
    ends_of_groups = at_samples & np.isin(group, groups[[0, -1]])
    ends_of_sizes = at_group & np.isin(samples, sizes[[0, -1]])
    # One row more than there are exponents and a level: with as many, nothing is left to estimate them by.
    sizes_at = at_low if len(groups) > 1 else at_both
    found = {
        COMMON: [centre & at_low],
        EXPONENTS: [(ends_of_groups & at_both) | (ends_of_sizes & sizes_at)],
    }
    if len(groups) > 1 and high > low:
        found[GROUPS] = [ends_of_groups & at_both]
    if len(sizes) > 1 and high > low:
        found[CALIBRATION] = [ends_of_sizes & at_both]
    if len(sizes) > 2:
        outermost = at_group & np.isin(samples, [*sizes[:2], *sizes[-2:]])
        of_widths = [outermost & (bits == width) for width in dict.fromkeys((low, high))]
        found[DOUBLINGS] = [place for place in of_widths if set(samples[place]) == set(samples[of_widths[0]])]
    # The other ends of the two factors: together they stand for the middle of the grid.
    ends = [ends_of_groups & (group != usual[0]), ends_of_sizes & (samples != usual[1])]
    phases = [place & np.isin(bits, PHASE_WIDTHS) for place in (*ends, centre)]
    phases = [place for place in phases if set(bits[place]) == {*PHASE_WIDTHS}]
    if phases:
        found[PHASE] = phases[:2]
    return found


def _widths(
    bits: NDArray[np.float64], group: NDArray[np.float64], samples: NDArray[np.float64], own: Mask
) -> tuple[float, float]:
    """The lowest and the highest bits that vary the factors (the lowest and the highest of all, where none does)."""
    fitted = [float(width) for width in np.unique(bits[own]) if width > PHASE_TRANSITION_BITS]
    varied = [
        width
        for width in fitted
        if max(np.ptp(group[own & (bits == width)]), np.ptp(samples[own & (bits == width)])) > 0
    ] or fitted
    return (varied[0], varied[-1]) if varied else (np.nan, np.nan)


def _usual(settings: set[tuple[float, float]]) -> tuple[float, float]:
    """The group and calibration size that share most settings in one of the two; of several the largest, as people
    choose them."""

    def rank(setting: tuple[float, float]) -> tuple[int, tuple[float, float]]:
        return sum(other[0] == setting[0] or other[1] == setting[1] for other in settings), setting

    return max(settings, key=rank)
