import contextlib

import numpy as np
import pandas as pd

from stratalaw.evaluation.blocks import answer_in_blocks, filled, is_asked, shares_of
from stratalaw.sampling.difference import estimated_difference

ITEMS, CHOICES = 1200, 2
REQUESTS = pd.DataFrame(
    {
        "task": "facts",
        "document": np.repeat(np.arange(ITEMS), CHOICES),
        "choice": np.tile(np.arange(CHOICES), ITEMS),
    }
)


class Variant:
    """Answers an item in ``one_in`` wrong, and counts what it is asked."""

    def __init__(self, one_in: int) -> None:
        self.one_in, self.asked, self.blocks = one_in, 0, 0

    def answer(self, requests: pd.DataFrame) -> pd.DataFrame:
        self.asked += len(requests)
        self.blocks += 1
        return pd.DataFrame(
            {
                "log_likelihood": -1.0 * (requests.document % self.one_in == 0),
                "is_greedy": False,
                "text": None,
                "tokens": 0,
                "is_cut_off": False,
            },
            index=requests.index,
        )


def differences(answers: pd.DataFrame) -> dict:
    """From an original that answers everything right."""
    lost = answers.groupby(REQUESTS.document).log_likelihood.min()
    return {"facts": estimated_difference(lost.reindex(range(ITEMS)).to_numpy(), np.zeros((ITEMS, 1)))}


def answered(variant: Variant, goal: float, earlier: pd.DataFrame | None = None, keep=lambda answers: None):
    return answer_in_blocks(variant.answer, REQUESTS, {"facts": "facts"}, earlier, differences, goal, keep)


def test_asking_ends_where_the_standard_error_is_small_enough():
    variant = Variant(one_in=5)
    found = answered(variant, goal=0.02)
    assert 0 < shares_of(found)["facts"] < 1
    assert differences(found)["facts"].stderr <= 0.02
    assert variant.asked == len(found) == is_asked(REQUESTS, shares_of(found)).sum()
    assert variant.blocks <= 4


def test_a_variant_that_loses_more_is_asked_more():
    assert len(answered(Variant(one_in=5), 0.015)) > len(answered(Variant(one_in=50), 0.015))


def test_all_items_are_asked_where_fewer_do_not_tell():
    found = answered(Variant(one_in=5), goal=1e-4)
    assert not shares_of(found)
    assert found.index.equals(REQUESTS.index)


def test_a_wish_for_more_goes_on_from_what_was_asked():
    kept: list[pd.DataFrame] = []
    few = answered(Variant(one_in=5), 0.03, keep=kept.append)
    again, afresh = Variant(one_in=5), Variant(one_in=5)
    more = answered(again, 0.015, kept[-1])
    assert again.asked == len(more) - len(few) > 0
    pd.testing.assert_frame_equal(more, answered(afresh, 0.015))


def test_what_comes_out_does_not_depend_on_what_was_asked_before():
    kept: list[pd.DataFrame] = []
    answered(Variant(one_in=5), 0.01, keep=kept.append)
    nobody, afresh = Variant(one_in=5), Variant(one_in=5)
    fewer = answered(nobody, 0.03, kept[-1])
    assert nobody.asked == 0
    pd.testing.assert_frame_equal(fewer, answered(afresh, 0.03))
    assert shares_of(fewer)["facts"] < 1


def test_answers_that_were_interrupted_are_kept():
    class Interrupted(Variant):
        def answer(self, requests: pd.DataFrame) -> pd.DataFrame:
            if self.blocks:
                raise KeyboardInterrupt
            return super().answer(requests)

    kept: list[pd.DataFrame] = []
    with contextlib.suppress(KeyboardInterrupt):
        answered(Interrupted(one_in=5), 0.01, keep=kept.append)
    assert 0 < len(kept[-1]) < len(REQUESTS)


def test_an_item_is_asked_whole_or_not_at_all():
    asked = pd.Series(is_asked(REQUESTS, {"facts": 0.3})).groupby(REQUESTS.document)
    assert (asked.sum() % CHOICES == 0).all()
    assert 0.25 < asked.any().mean() < 0.35


def test_tasks_of_a_group_are_asked_alike_and_each_benchmark_by_itself():
    tasks = np.array(["law", "music", "chains"])
    requests = pd.DataFrame({"task": np.repeat(tasks, [3000, 1000, 500]), "document": np.arange(4500)})
    groups = {"law": "subjects", "music": "subjects", "chains": "chains"}
    lost = requests.document % 5 == 0

    def of_benchmarks(answers: pd.DataFrame) -> dict:
        asked = -lost.loc[answers.index].astype(float).reindex(requests.index)
        return {
            name: estimated_difference(part.to_numpy(), np.zeros((len(part), 1)))
            for name, part in asked.groupby(requests.task.map(groups))
        }

    found = answer_in_blocks(lambda rows: rows[[]].assign(x=0), requests, groups, None, of_benchmarks, 0.02)
    shares = shares_of(found)
    assert shares["law"] == shares["music"] < 0.2 < shares["chains"] < 1
    asked = requests.loc[found.index].task.value_counts()
    assert abs((asked["law"] + asked["music"]) / asked["chains"] - 1) < 0.3


def test_blank_answers_stand_where_nothing_was_asked():
    found = answered(Variant(one_in=5), 0.03)
    whole = filled(found, REQUESTS)
    assert whole.index.equals(REQUESTS.index)
    assert whole.log_likelihood.notna().all()
    pd.testing.assert_frame_equal(whole.loc[found.index], found)
