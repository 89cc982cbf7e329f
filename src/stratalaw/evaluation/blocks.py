"""Answers to some of the items: which requests these are, and asking on, block by block, until a precision is reached.

A table of answers that holds a part of the items says in its ``attrs`` which share of each task; without, it holds all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.sampling.allocation import first_shares, next_shares
from stratalaw.sampling.difference import Difference
from stratalaw.sampling.order import places

SHARES = "shares"  # in the attrs of a table of answers
ITEM = ["task", "document"]
BLANK = {"log_likelihood": 0.0, "is_greedy": False, "text": "", "tokens": 0, "is_cut_off": False, "token_ids": None}


def shares_of(answers: pd.DataFrame) -> dict[str, float]:
    """The share of the items that was asked, by task; none where all were."""
    return dict(answers.attrs.get(SHARES, {}))


def is_asked(requests: pd.DataFrame, shares: Mapping[str, float]) -> NDArray[np.bool_]:
    """Which requests are of the items that shares of their tasks ask, shape (requests,)."""
    return np.asarray(places(requests.task, requests.document) < requests.task.map(shares).to_numpy(float))


def filled(answers: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """An answer to every request: blank ones where nothing was asked, so that lm-eval can go over all items."""
    if len(answers) == len(requests):
        return answers
    blank = pd.DataFrame(BLANK, index=requests.index.difference(answers.index))
    return pd.concat([answers, blank[answers.columns]]).loc[requests.index]


def answer_in_blocks(
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    requests: pd.DataFrame,
    benchmark_of: Mapping[str, str],
    earlier: pd.DataFrame | None,
    differences: Callable[[pd.DataFrame], Mapping[str, Difference]],
    goal: float,
    keep: Callable[[pd.DataFrame], None] = lambda answers: None,
) -> pd.DataFrame:
    """Answers to as many items as it takes to know the mean difference from the original as well as asked for.

    What comes out does not depend on what was asked earlier: earlier answers stand in for new ones, item by item.

    Args:
        answer: gives the answers to some requests, by their index.
        requests: of a stratum; see ``harness.record_requests``.
        benchmark_of: the benchmark of each task: that of the same name, or a group of tasks.
        earlier: answers to some of them, from before; None if there are none.
        differences: from the answers so far, the difference of each benchmark from the original.
        goal: the standard error of the mean over the benchmarks at which no more is asked.
        keep: called with all answers that there are, after each block.
    """
    shares = first_shares(Counter(requests[ITEM].drop_duplicates().task.map(benchmark_of)))
    answered = earlier
    while True:
        of_tasks = {task: shares[benchmark] for task, benchmark in benchmark_of.items()}
        asked = requests[is_asked(requests, of_tasks)]
        if answered is None:
            answered = answer(asked)
            keep(answered)
        elif len(new := asked.index.difference(answered.index)):
            answered = pd.concat([answered, answer(asked.loc[new])]).sort_index()
            keep(answered)
        answers = answered.loc[asked.index]
        answers.attrs = {} if len(asked) == len(requests) else {SHARES: of_tasks}
        enlarged = next_shares(shares, differences(answers), goal)
        if enlarged == shares:
            return answers
        shares = enlarged
