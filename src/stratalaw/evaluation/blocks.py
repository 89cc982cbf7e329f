"""Answers to some of the items: which requests these are, and asking on, block by block, until a precision is reached.

A table of answers that holds a part of the items says which share in its ``attrs``; without, it holds all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.sampling.difference import Difference, share_needed
from stratalaw.sampling.order import places

SHARE = "share"  # in the attrs of a table of answers
FIRST = 64  # items of each benchmark, on average, that are asked first
STEPS = 16  # shares are multiples of 1/16: each block runs the beginnings that requests share once more
BLANK = {"log_likelihood": 0.0, "is_greedy": False, "text": "", "tokens": 0, "is_cut_off": False}


def share_of(answers: pd.DataFrame) -> float:
    """The share of the items that was asked."""
    return float(answers.attrs.get(SHARE, 1.0))


def is_asked(requests: pd.DataFrame, share: float) -> NDArray[np.bool_]:
    """Which requests are of the items that a share asks, shape (requests,)."""
    return np.asarray(places(requests.task, requests.document) < share)


def filled(answers: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """An answer to every request: blank ones where nothing was asked, so that lm-eval can go over all items."""
    if len(answers) == len(requests):
        return answers
    blank = pd.DataFrame(BLANK, index=requests.index.difference(answers.index))
    return pd.concat([answers, blank[answers.columns]]).loc[requests.index]


def answer_in_blocks(
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    requests: pd.DataFrame,
    benchmarks: int,
    earlier: pd.DataFrame | None,
    differences: Callable[[pd.DataFrame], Sequence[Difference]],
    goal: float,
    keep: Callable[[pd.DataFrame], None] = lambda answers: None,
) -> pd.DataFrame:
    """Answers to as many items as it takes to know the mean difference from the original as well as asked for.

    What comes out does not depend on what was asked earlier: earlier answers stand in for new ones, item by item.

    Args:
        answer: gives the answers to some requests, by their index.
        requests: of a stratum; see ``harness.record_requests``.
        benchmarks: of the stratum; each is one task or several.
        earlier: answers to some of them, from before; None if there are none.
        differences: from the answers so far, the difference of each benchmark from the original.
        goal: the standard error of the mean over the benchmarks at which no more is asked.
        keep: called with all answers that there are, after each block.
    """
    items = len(requests[["task", "document"]].drop_duplicates())
    share = min(1.0, _rounded_up(FIRST * benchmarks / items))
    parts = [] if earlier is None else [earlier]
    while True:
        asked = requests[is_asked(requests, share)]
        new = asked.loc[asked.index.difference(parts[0].index)] if parts else asked
        if len(new):
            parts = [pd.concat([*parts, answer(new)]).sort_index()]
            keep(parts[0])
        answers = parts[0].loc[asked.index]
        answers.attrs = {} if share == 1 else {SHARE: share}
        if share == 1:
            return answers
        found = differences(answers)
        if np.sqrt(sum(one.variance for one in found)) / len(found) <= goal:
            return answers
        share = min(1.0, max(share + 1 / STEPS, _rounded_up(share_needed(found, goal))))


def _rounded_up(share: float) -> float:
    return float(np.ceil(share * STEPS) / STEPS)
