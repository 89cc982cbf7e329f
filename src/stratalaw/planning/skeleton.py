"""The variants that keep every claim of the paper testable: what a selection holds in any case.

Claims rest on contrasts within a model, all else the same, and on settings that all models share (``laws.claims``),
which a design for exponents alone need not hold. The contrasts of a model meet in one setting, the largest groups and
calibration set, which people use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.rows import PHASE_TRANSITION_BITS

COMMON, EXPONENTS = "settings that all models share", "exponents"
LEAST_MODELS = 2  # that tell, for a claim to be tested
PHASE_WIDTHS = (PHASE_TRANSITION_BITS, 3, 4)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Skeleton:
    """Masks of candidates: ``kept``, to be measured in any case; ``reached``, of the models that have the settings in
    common, to which the rest of the selection must keep. ``models``: how many models have each contrast."""

    kept: Mask
    reached: Mask
    models: Mapping[str, int]


def skeleton(candidates: pd.DataFrame, budget: float) -> Skeleton:
    """What keeps the claims testable in as many models as the budget buys.

    First the settings that all models share, at the lowest and the highest bits that vary the factors; then contrast
    by contrast, always the one that the fewest models have, in the model where it costs least. Nothing is kept where
    the budget does not buy two models, and no contrast of a single one: a claim on models needs two.

    Args:
        candidates: model, bits, group_size, calibration_size and seconds of each.
        budget: in seconds.
    """
    seconds = candidates.seconds.to_numpy(float)
    of_models = {
        model: _blocks(candidates, (candidates.model == model).to_numpy()) for model in candidates.model.unique()
    }
    blocks = {model: own for model, own in of_models.items() if own}
    chosen: Mask = np.zeros(len(candidates), dtype=bool)
    reached = []
    for model in sorted(blocks, key=lambda name: float(seconds[blocks[name][COMMON]].sum())):
        with_it = chosen | blocks[model][COMMON]
        if seconds[with_it].sum() <= budget:
            chosen = with_it
            reached.append(model)
    if len(reached) < LEAST_MODELS:
        return Skeleton(np.zeros_like(chosen), np.ones_like(chosen), {})
    own = [blocks[model] for model in reached]
    names = list(dict.fromkeys(name for part in own for name in part))
    chosen = _with_contrasts(chosen, own, names, seconds, budget)
    counts = {name: sum(_has(part, name, chosen) for part in own) for name in names}
    return Skeleton(chosen, candidates.model.isin(reached).to_numpy(), counts)


def _with_contrasts(
    chosen: Mask,
    blocks: Sequence[Mapping[str, Mask]],
    names: Sequence[str],
    seconds: NDArray[np.float64],
    budget: float,
) -> Mask:
    wanted = list(names)
    # Most claims rest on exponents, and a model may turn out to have none: that knows or loses nothing.
    spare = {EXPONENTS: 1}
    while wanted:
        have = {name: sum(_has(own, name, chosen) for own in blocks) for name in wanted}
        fewest = min(wanted, key=lambda name: have[name] - spare.get(name, 0))
        missing = [own[fewest] & ~chosen for own in blocks if fewest in own and not _has(own, fewest, chosen)]
        missing.sort(key=lambda mask: float(seconds[mask].sum()))
        bought = missing[: max(LEAST_MODELS - have[fewest], 1)]
        more = np.logical_or.reduce([chosen, *bought])
        if not bought or have[fewest] + len(bought) < LEAST_MODELS or seconds[more].sum() > budget:
            wanted.remove(fewest)
        else:
            chosen = more
    return chosen


def _has(own: Mapping[str, Mask], name: str, chosen: Mask) -> bool:
    return name in own and bool(chosen[own[name]].all())


def _blocks(candidates: pd.DataFrame, own: Mask) -> dict[str, Mask]:
    """The contrasts of one model by name, those that its grid has; none where it varies nothing."""
    bits, group, samples = (candidates[name].to_numpy(float) for name in ("bits", "group_size", "calibration_size"))
    low, high = _widths(bits, group, samples, own)
    settings = set(zip(group[own & (bits == low)], samples[own & (bits == low)], strict=True))
    settings &= set(zip(group[own & (bits == high)], samples[own & (bits == high)], strict=True))
    if not settings:
        return {}
    usual = _usual(settings)
    at_group, at_samples = own & (group == usual[0]), own & (samples == usual[1])
    centre = at_group & at_samples
    found = {COMMON: centre & np.isin(bits, (low, high))}
    groups, sizes = np.unique(group[at_samples & (bits == low)]), np.unique(samples[at_group & (bits == low)])
    ends_of_groups = at_samples & np.isin(group, groups[[0, -1]])
    ends_of_sizes = at_group & np.isin(samples, sizes[[0, -1]])
    at_low, at_both = bits == low, np.isin(bits, (low, high))
    found[EXPONENTS] = found[COMMON] | (at_low & (ends_of_groups | ends_of_sizes))
    if len(groups) > 1 and high > low:
        found["groups at low and high bits"] = ends_of_groups & at_both
    if len(sizes) > 1 and high > low:
        found["calibration at low and high bits"] = ends_of_sizes & at_both
    if len(sizes) > 2:
        found["first and last doubling"] = at_low & at_group & np.isin(samples, [*sizes[:2], *sizes[-2:]])
    phase = centre & np.isin(bits, PHASE_WIDTHS)
    if set(bits[phase]) == {*PHASE_WIDTHS}:
        found["2 bits beside 3 and 4"] = phase
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
