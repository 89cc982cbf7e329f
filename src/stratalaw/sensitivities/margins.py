"""By how much items are answered right: the margin of an item, in nats, which changes long before its answer does.

The margin is the log of what the right continuations of an item have of the likelihood, less that of the wrong ones. An
item that is answered by writing has one continuation, what the original wrote, if that was right; the margin of one
without wrong continuations is its log-likelihood per token, so that long answers do not outweigh all others.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd

from stratalaw.engine import LogLikelihoods
from stratalaw.evaluation.blocks import ITEM

IS_RIGHT = 0.5  # the least score of an item for a continuation that counts as right
CHOOSING, HELD_OUT = 0, 1  # halves of the items: bits are chosen by one, and judged by the other


def half_of(task: str, document: int) -> int:
    """To which half an item belongs, by a digest of its name: the same in every study."""
    return hashlib.sha256(f"{task}/{document}".encode()).digest()[0] % 2


def choices_of(requests: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """The requests of those items that are answered by choosing and have a right continuation, with a column
    ``is_right``.

    Args:
        requests: of a stratum; see ``harness.record_requests``.
        scores: of each request for a log-likelihood; see ``Scorer.scores_of_choices``.
    """
    asked = requests.loc[scores.index].assign(is_right=scores >= IS_RIGHT)
    return asked[asked.groupby(ITEM).is_right.transform("any")]


def written_of(requests: pd.DataFrame, scores: pd.Series, token_ids: pd.Series, max_length: int) -> pd.DataFrame:
    """The requests of those items that are answered by writing and that the original answers right, with what it wrote
    as the continuation, up to the token that ended it, and a column ``is_right``.

    Args:
        requests: of a stratum; see ``harness.record_requests``.
        scores: of each request for a text, by the original; see ``Scorer.scores_of_written``.
        token_ids: what the original wrote, by request.
        max_length: tokens that the model can take; contexts are cut as for writing.
    """
    right = scores.index[(scores >= IS_RIGHT).to_numpy(bool)]
    asked = requests.loc[right]
    written = [np.asarray(ids, dtype=np.int32) for ids in token_ids[right]]
    rooms = [max_length - json.loads(options)["max_new_tokens"] for options in asked.generation]
    contexts = [context[-room:] for context, room in zip(asked.context, rooms, strict=True)]
    columns = {"context": contexts, "continuation": written}
    return asked.assign(is_right=True, **{name: pd.Series(own, right, dtype=object) for name, own in columns.items()})


def items_of_half(asked: pd.DataFrame, half: int, items: int | None) -> pd.DataFrame:
    """The requests of the items of a half.

    Args:
        asked: requests with ``is_right``.
        half: ``CHOOSING`` or ``HELD_OUT``.
        items: at most so many, the first of each task and as many of each, but two; all if None.
    """
    names = asked[ITEM].drop_duplicates()
    names = names[np.array([half_of(*name) == half for name in names.itertuples(index=False)], bool)]
    if items is not None:
        names = names.groupby("task", sort=False).head(max(2, items // max(names.task.nunique(), 1)))
    kept: pd.DataFrame = asked.reset_index().merge(names, on=ITEM).set_index("index")
    return kept


def tokens_that_count(asked: pd.DataFrame) -> pd.Series:
    """By how many tokens a request's log-likelihood is divided: those of its continuation, where its item has no wrong
    one, and 1 otherwise."""
    has_wrong = (~asked.is_right).groupby([asked[name] for name in ITEM]).transform("any")
    return asked.continuation.map(len).mask(has_wrong, 1)


def margins(asked: pd.DataFrame, answered: LogLikelihoods) -> pd.DataFrame:
    """Of each item, by task and document: its ``margin``, and whether it ``is_answered``, which is that the likeliest
    continuation is right, or that the only one is what would be written.

    Args:
        asked: requests with ``is_right``; see ``choices_of`` and ``written_of``.
        answered: what a model says of them, in their order.
    """
    by_item = asked.groupby(ITEM, sort=False)
    items, is_right = by_item.ngroup().to_numpy(), asked.is_right.to_numpy(int)
    sums = np.full((by_item.ngroups, 2), -np.inf)
    best = sums.copy()
    np.logaddexp.at(sums, (items, is_right), answered.total / tokens_that_count(asked).to_numpy(float))
    np.maximum.at(best, (items, is_right), answered.total)
    is_written = np.zeros(by_item.ngroups, bool)
    np.logical_or.at(is_written, items, answered.is_greedy)
    has_wrong = np.isfinite(sums[:, 0])
    margin = sums[:, 1] - np.where(has_wrong, sums[:, 0], 0.0)
    is_answered = np.where(has_wrong, best[:, 1] > best[:, 0], is_written)
    return pd.DataFrame({"margin": margin, "is_answered": is_answered}, by_item.size().index)


def mean_change(changes: pd.Series) -> tuple[float, float]:
    """The mean over items of paired changes, in which tasks count alike, and its standard error.

    A task of a single item is taken to spread as all items do; of a single item in all, nothing is known (infinity).
    """
    by_task = changes.groupby("task", sort=False)
    spread = by_task.std().fillna(float(changes.std())).fillna(np.inf)
    errors = spread / np.sqrt(by_task.size())
    n_tasks = len(errors)
    return float(by_task.mean().mean()), float(np.sqrt((errors**2).sum()) / n_tasks)
