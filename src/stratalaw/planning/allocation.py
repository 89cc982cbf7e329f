"""Which of several precisions each group of matrices gets within a memory: a knapsack over measured gains, solved with
PuLP.

An *option* is a group and a variant whose bits it may have instead of those of a base. The knapsack takes the gains of
groups as if they added up. So what it chooses is measured as a whole before it is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import pulp

from stratalaw.errors import StratalawError
from stratalaw.models.allocation import Placement

BEYOND_DOUBT = 1.96  # standard errors: half of a 95 % interval


class AllocationError(StratalawError):
    """No allocation meets what was asked."""


def place_bits(
    gains: pd.DataFrame, bytes_more: pd.Series, spare: int, weights: Mapping[str, float], floors: Mapping[str, float]
) -> dict[str, str]:
    """The placement that gains most, in the order of the table.

    Gains of a stratum count as shares of what all options change in it, so that strata with other units or other items
    weigh alike.

    Args:
        gains: of each option (rows, by group and variant) in each stratum (columns); less than 0 for a loss.
        bytes_more: what each option takes more than the base; less than 0 for less.
        spare: bytes that all groups may take more than the base; less than 0 where they must take less.
        weights: of strata; those that are not named do not count.
        floors: least share of the range of a stratum; see ``share_of_range``.

    Raises:
        AllocationError: the floors cannot be met within the memory.
    """
    shares = gains / gains.abs().sum().replace(0, 1.0)
    problem = pulp.LpProblem("bits", pulp.LpMaximize)
    taken = {option: pulp.LpVariable(f"option_{place}", cat="Binary") for place, option in enumerate(gains.index)}
    value = shares[list(weights)] @ pd.Series(weights)
    problem += pulp.lpSum(float(value[option]) * one for option, one in taken.items())
    problem += pulp.lpSum(int(bytes_more[option]) * one for option, one in taken.items()) <= spare
    for group in gains.index.unique(0):
        problem += pulp.lpSum(one for option, one in taken.items() if option[0] == group) <= 1
    for stratum, floor in floors.items():
        gained = pulp.lpSum(float(shares[stratum][option]) * one for option, one in taken.items())
        problem += gained >= _floor(shares[stratum], bytes_more, floor)
    problem.solve(pulp.PULP_CBC_CMD(msg=False))
    if pulp.LpStatus[problem.status] != "Optimal":
        named = ", ".join(f"{stratum} {floor:g}" for stratum, floor in floors.items())
        raise AllocationError(f"no allocation within the memory meets the floors ({named}); lower them or take more")
    return dict(option for option, one in taken.items() if one.value() > 0.5)


def _floor(gains: pd.Series, bytes_more: pd.Series, floor: float) -> float:
    worst, best = _range(gains, bytes_more)
    return worst + floor * (best - worst)


def _range(gains: pd.Series, bytes_more: pd.Series) -> tuple[float, float]:
    """What a stratum gains with the smallest variant everywhere, and with the largest."""
    ends = [(0, 0.0), *((int(rows.sum()), float(gains[rows.index].sum())) for _, rows in bytes_more.groupby(level=1))]
    return min(ends)[1], max(ends)[1]


def share_of_range(gains: pd.DataFrame, errors: pd.DataFrame, bytes_more: pd.Series, placement: Placement) -> pd.Series:
    """Of each stratum the share that a placement has of what lies between the smallest variant everywhere (0) and the
    largest (1); missing where these two cannot be told apart, between which there are no shares."""
    gained, noise = gains.loc[list(placement.items())].sum(), (errors**2).sum() ** 0.5
    found = {}
    for stratum in map(str, gains):
        worst, best = _range(gains[stratum], bytes_more)
        is_told = best - worst > BEYOND_DOUBT * noise[stratum]
        found[stratum] = (gained[stratum] - worst) / (best - worst) if is_told else np.nan
    return pd.Series(found)


def meets(floors: Mapping[str, float], gains: pd.DataFrame, bytes_more: pd.Series, placement: Placement) -> bool:
    """Whether a placement brings what the floors ask; see ``place_bits``."""
    gained = gains.loc[list(placement.items())].sum()
    return all(gained[name] >= _floor(gains[name], bytes_more, floor) for name, floor in floors.items())


def one_way(bytes_more: pd.Series, spare: int) -> pd.Series:
    """The options that go the way of the memory: to more bits where there is more than the base takes, to fewer where
    there is less, and none where there is as much."""
    return bytes_more[np.sign(bytes_more) == np.sign(spare)] if spare else bytes_more[:0]


def neighbours(placement: Placement, bytes_more: pd.Series, spare: int) -> list[dict[str, str]]:
    """The placements within the memory in which two groups have exchanged their bits, or one has more."""
    groups, variants = list(bytes_more.index.unique(0)), [None, *bytes_more.index.unique(1)]

    def bytes_of(group: str, variant: str | None) -> int:
        return int(bytes_more[group, variant]) if variant else 0

    own = {group: placement.get(group) for group in groups}
    left = spare - sum(bytes_of(*option) for option in own.items())
    changes = [
        {group: variant}
        for group in groups
        for variant in variants
        if bytes_of(group, variant) > bytes_of(group, own[group])
    ]
    changes += [{one: own[two], two: own[one]} for one, two in combinations(groups, 2) if own[one] != own[two]]
    found = []
    for change in changes:
        if sum(bytes_of(group, variant) - bytes_of(group, own[group]) for group, variant in change.items()) <= left:
            found.append({group: variant for group, variant in (own | change).items() if variant})
    return found


def shrunk(gains: pd.DataFrame, errors: pd.DataFrame, bytes_more: pd.Series) -> pd.DataFrame:
    """Gains drawn towards what their bytes would bring on average with the same variant, as far as their noise alone
    would explain them (empirical Bayes, moments); of the shape of ``gains``."""
    found = gains.copy()
    for _, rows in bytes_more.groupby(level=1):
        share = rows / rows.sum() if rows.any() else 1 / len(rows)
        for stratum in map(str, gains):
            gain, noise = gains.loc[rows.index, stratum], errors.loc[rows.index, stratum] ** 2
            expected = share * gain.sum()
            scatter = float(((gain - expected) ** 2).mean() - noise.mean())
            kept = max(scatter, 0.0) / (max(scatter, 0.0) + noise).replace(0, np.inf)
            found.loc[rows.index, stratum] = expected + kept * (gain - expected)
    return found
