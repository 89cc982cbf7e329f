import json

import numpy as np
import pandas as pd
import pytest

from stratalaw.engine import LogLikelihoods
from stratalaw.sensitivities.margins import (
    CHOOSING,
    HELD_OUT,
    choices_of,
    half_of,
    items_of_half,
    margins,
    mean_change,
    written_of,
)


def requests_of(items, choices=3, task="t"):
    rows = [(task, document, choice, [1, 2], [3]) for document in range(items) for choice in range(choices)]
    return pd.DataFrame(rows, columns=["task", "document", "choice", "context", "continuation"])


def answered(likelihoods, is_greedy=False):
    return LogLikelihoods(np.log(likelihoods), np.broadcast_to(is_greedy, len(likelihoods)))


def test_the_margin_is_what_the_right_have_more_than_the_wrong():
    asked = requests_of(2).assign(is_right=[True, False, False, False, True, True])
    found = margins(asked, answered([0.5, 0.25, 0.25, 0.6, 0.1, 0.3]))
    assert found.margin.tolist() == pytest.approx([0.0, np.log(0.4 / 0.6)])
    assert found.is_answered.tolist() == [True, False]


def test_the_margin_of_an_only_continuation_is_its_log_likelihood_per_token():
    asked = requests_of(2, choices=1).assign(is_right=True, continuation=[[3], [3, 4]])
    found = margins(asked, answered([0.9, 0.2], is_greedy=[False, True]))
    assert found.margin.tolist() == pytest.approx([np.log(0.9), np.log(0.2) / 2])
    assert found.is_answered.tolist() == [False, True]  # whether it would be written, not whether it is likely


def test_written_items_are_those_that_the_original_answers_right_with_what_it_wrote():
    options = [json.dumps({"max_new_tokens": most}) for most in (2, 2, 5, 2)]
    requests = requests_of(4, choices=1).assign(generation=options, context=[[1, 2, 3, 4]] * 4)
    scores = pd.Series([1.0, 0.0, 1.0, 1.0], requests.index)
    ids = pd.Series([[7, 9], [8], [5, 6, 9], [4]], requests.index)
    asked = written_of(requests, scores, ids, max_length=6)
    assert asked.document.tolist() == [0, 2, 3] and asked.is_right.all()
    assert list(map(list, asked.continuation)) == [[7, 9], [5, 6, 9], [4]]
    assert list(map(list, asked.context)) == [[1, 2, 3, 4], [4], [1, 2, 3, 4]]  # with room for all that may be written
    nothing = written_of(requests[:0], scores[:0], ids[:0], max_length=6)
    assert nothing.empty and set(nothing) == set(asked)


def test_halves_share_no_item_and_leave_none_out():
    requests = requests_of(200)
    scores = pd.Series((requests.choice == 1).astype(float), requests.index)
    halves = [items_of_half(choices_of(requests, scores), half, None) for half in (CHOOSING, HELD_OUT)]
    documents = [set(half.document) for half in halves]
    assert documents[0] | documents[1] == set(range(200)) and not documents[0] & documents[1]
    assert all(70 < len(half) < 130 for half in documents)
    assert {half_of("t", document) for document in documents[1]} == {HELD_OUT}
    assert halves[0].is_right.tolist() == (requests.choice.loc[halves[0].index] == 1).tolist()


def test_items_are_shared_by_tasks_and_those_without_a_right_answer_left_out():
    requests = pd.concat([requests_of(50), requests_of(50, task="u")], ignore_index=True)
    scores = pd.Series((requests.choice == 0) & (requests.document % 2 == 0), requests.index).astype(float)
    asked = items_of_half(choices_of(requests, scores), CHOOSING, 10)
    assert asked.groupby("task").document.nunique().tolist() == [5, 5]
    assert (asked.document % 2 == 0).all()


def test_tasks_count_alike_in_a_mean():
    index = pd.MultiIndex.from_tuples([("t", 0), ("t", 1), *(("u", i) for i in range(4))], names=["task", "document"])
    mean, stderr = mean_change(pd.Series([1.0, 3.0, 0.0, 0.0, 0.0, 0.0], index))
    assert mean == 1.0
    assert stderr == pytest.approx(0.5)  # of the first task 1, of the second none


def test_of_a_single_item_nothing_is_sure():
    index = pd.MultiIndex.from_tuples([("t", 0), ("u", 0), ("u", 1)], names=["task", "document"])
    changes = pd.Series([1.0, 3.0, 0.0], index)
    spread = changes.std() ** 2 + changes["u"].std() ** 2 / 2
    assert mean_change(changes) == (1.25, pytest.approx(float(np.sqrt(spread)) / 2))
    assert mean_change(changes[:1]) == (1.0, np.inf)
