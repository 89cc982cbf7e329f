"""By how much items are answered right: the margin of an item, in nats, which changes long before its answer does.

The margin is the log of what the right continuations of an item have of the likelihood, less that of the wrong ones; of
an item with one continuation, its log-likelihood.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.evaluation.blocks import ITEM

IS_RIGHT = 0.5  # the least score of an item for a continuation that counts as right
CHOOSING, HELD_OUT = 0, 1  # halves of the items: bits are chosen by one, and judged by the other


def half_of(task: str, document: int) -> int:
    """To which half an item belongs, by a digest of its name: the same in every study."""
    return hashlib.sha256(f"{task}/{document}".encode()).digest()[0] % 2


def requests_of_half(requests: pd.DataFrame, scores: pd.Series, half: int, items: int | None) -> pd.DataFrame:
    """The requests of those items of a half that have a right continuation, with a column ``is_right``.

    Args:
        requests: of a stratum; see ``harness.record_requests``.
        scores: of each request for a log-likelihood; see ``Scorer.scores_of_choices``.
        half: ``CHOOSING`` or ``HELD_OUT``.
        items: at most so many, the first of each task and as many of each; all if None.
    """
    asked = requests.loc[scores.index].assign(is_right=scores >= IS_RIGHT)
    asked = asked[asked.groupby(ITEM).is_right.transform("any")]
    names = asked[ITEM].drop_duplicates()
    names = names[np.array([half_of(*name) == half for name in names.itertuples(index=False)], bool)]
    if items is not None:
        names = names.groupby("task", sort=False).head(-(-items // max(names.task.nunique(), 1)))
    kept: pd.DataFrame = asked.reset_index().merge(names, on=ITEM).set_index("index")
    return kept


def margins(asked: pd.DataFrame, log_likelihoods: NDArray[np.float64]) -> pd.DataFrame:
    """Of each item, by task and document: its ``margin``, and whether it ``is_answered``, which is that the likeliest
    continuation is right, or that the only one is likelier than not.

    Args:
        asked: requests with ``is_right``; see ``requests_of_half``.
        log_likelihoods: nats, one for each of them.
    """
    by_item = asked.groupby(ITEM, sort=False)
    places = by_item.ngroup().to_numpy(), asked.is_right.to_numpy(int)
    sums = np.full((by_item.ngroups, 2), -np.inf)
    best = sums.copy()
    np.logaddexp.at(sums, places, log_likelihoods)
    np.maximum.at(best, places, log_likelihoods)
    has_one = np.isneginf(sums[:, 0])
    margin = sums[:, 1] - np.where(has_one, 0.0, sums[:, 0])
    is_answered = best[:, 1] > np.where(has_one, np.log(0.5), best[:, 0])
    return pd.DataFrame({"margin": margin, "is_answered": is_answered}, by_item.size().index)


def mean_change(changes: pd.Series) -> tuple[float, float]:
    """The mean over items of paired changes, in which tasks count alike, and its standard error."""
    by_task = changes.groupby("task", sort=False)
    errors = by_task.std() / np.sqrt(by_task.size())
    n_tasks = len(errors)
    return float(by_task.mean().mean()), float(np.sqrt((errors**2).sum()) / n_tasks)
