"""Which groups of matrices get the larger of two precisions within a memory: a knapsack over measured gains, solved
with PuLP.

It takes the gains of groups as if they added up. So what it chooses is measured as a whole before it is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pulp

from stratalaw.errors import StratalawError

BEYOND_DOUBT = 1.96  # standard errors: half of a 95 % interval


class AllocationError(StratalawError):
    """No allocation meets what was asked."""


def chosen_groups(
    gains: pd.DataFrame, bytes_more: pd.Series, spare: int, weights: Mapping[str, float], floors: Mapping[str, float]
) -> list[str]:
    """The groups that get more bits, in the order of the table.

    Gains of a stratum count as shares of what all groups add to it together, so that strata with other units or other
    items weigh alike.

    Args:
        gains: of each group (rows) in each stratum (columns).
        bytes_more: what each group takes more with the larger precision.
        spare: bytes that all of them may take more.
        weights: of strata; those that are not named do not count.
        floors: least share of the gain of a stratum.

    Raises:
        AllocationError: the floors cannot be met within the memory.
    """
    shares = gains / gains.abs().sum().replace(0, 1.0)
    problem = pulp.LpProblem("bits", pulp.LpMaximize)
    taken = {group: pulp.LpVariable(f"group_{place}", cat="Binary") for place, group in enumerate(gains.index)}
    value = shares[list(weights)] @ pd.Series(weights)
    problem += pulp.lpSum(float(value[group]) * taken[group] for group in gains.index)
    problem += pulp.lpSum(int(bytes_more[group]) * taken[group] for group in gains.index) <= spare
    for stratum, floor in floors.items():
        gained = pulp.lpSum(float(shares[stratum][group]) * taken[group] for group in gains.index)
        problem += gained >= floor * float(shares[stratum].sum())
    problem.solve(pulp.PULP_CBC_CMD(msg=False))
    if pulp.LpStatus[problem.status] != "Optimal":
        named = ", ".join(f"{stratum} {floor:g}" for stratum, floor in floors.items())
        raise AllocationError(f"no allocation within the memory meets the floors ({named}); lower them or take more")
    return [group for group in gains.index if taken[group].value() > 0.5]


def meets(floors: Mapping[str, float], gains: pd.DataFrame, chosen: Sequence[str]) -> bool:
    """Whether the groups that get more bits bring what the floors ask; see ``chosen_groups``."""
    return all(gains[name][list(chosen)].sum() >= floor * gains[name].sum() for name, floor in floors.items())


def neighbours(chosen: Sequence[str], bytes_more: pd.Series, spare: int) -> list[list[str]]:
    """The allocations within the memory that give the bits of one chosen group to another, or add one."""
    found = []
    rest = [group for group in bytes_more.index if group not in chosen]
    for out in (None, *chosen):
        kept = [group for group in chosen if group != out]
        left = spare - int(bytes_more[kept].sum())
        found += [[*kept, group] for group in rest if bytes_more[group] <= left]
    return found


def share_of_gains(gains: pd.DataFrame, errors: pd.DataFrame, chosen: Sequence[str]) -> pd.Series:
    """Of each stratum the share of all gains that some groups bring; missing where all of them together cannot be told
    from nothing, of which there are no shares."""
    total = gains.sum()
    is_told = total > BEYOND_DOUBT * (errors**2).sum() ** 0.5
    share: pd.Series = gains.loc[list(chosen)].sum() / total.where(is_told)
    return share


def shrunk(gains: pd.DataFrame, errors: pd.DataFrame, bytes_more: pd.Series) -> pd.DataFrame:
    """Gains drawn towards what their bytes would bring on average, as far as their noise alone would explain them
    (empirical Bayes, moments); of the shape of ``gains``."""
    found = {}
    for stratum in gains:
        expected = bytes_more * gains[stratum].sum() / bytes_more.sum()
        scatter = float(((gains[stratum] - expected) ** 2).mean() - (errors[stratum] ** 2).mean())
        kept = max(scatter, 0.0) / (max(scatter, 0.0) + errors[stratum] ** 2).replace(0, np.inf)
        found[stratum] = expected + kept * (gains[stratum] - expected)
    return pd.DataFrame(found)
