"""What is said of an allocation; tests/workflow/test_allocation.py makes one of a measured study."""

from pathlib import Path

import pandas as pd
import pytest

from stratalaw.jobs.allocation import (
    BY_LOSS,
    BY_LOSS_TRADED,
    MOST_NEIGHBOURS,
    best_measured,
    few,
    placements_to_measure,
    simple_rules,
    unmeasured_uniform,
)
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.study import read_study
from stratalaw.study.variants import Quantization

TWO, THREE, FOUR = (Quantization(bits, 128, 32, 0) for bits in (2, 3, 4))
GROUPS = ["a", "b", "c"]
OPTIONS = pd.MultiIndex.from_tuples([(group, variant) for variant in ("w4", "w2") for group in GROUPS])
BYTES = pd.Series([5, 5, 5, -5, -5, -5], OPTIONS)
LOSSES = pd.Series([3.0, 2.0, 1.0, -9.0, -8.0, -0.5], OPTIONS)


def test_no_more_neighbours_are_measured_than_are_meant():
    for count in range(30):
        near = [{"a": str(place)} for place in range(count)]
        assert min(count, MOST_NEIGHBOURS // 2) <= len(few(near)) <= MOST_NEIGHBOURS
        assert few(near)[:1] == near[:1]


@pytest.mark.parametrize(
    ("measured", "memory", "found"),
    [
        ((TWO, FOUR), THREE, THREE.name),
        ((TWO, FOUR), TWO, None),
        ((TWO, THREE), THREE, None),
        ((THREE, TWO, FOUR), THREE, None),
    ],
)
def test_a_uniform_variant_that_was_not_measured_is_named_where_it_takes_no_more(
    small_model_folder, measured, memory, found
):
    study, shapes = read_study(Path("config/demo.yaml")), shapes_of_weights(small_model_folder)
    names = [one.name for one in measured]
    assert unmeasured_uniform(study, "q3", shapes, names, shapes.weight_bytes(memory)) == found


@pytest.mark.parametrize(
    ("spare", "rules"),
    [
        (0, {"w3": {}, BY_LOSS_TRADED: {"a": "w4", "c": "w2"}}),
        (5, {"w3": {}, BY_LOSS: {"a": "w4"}, BY_LOSS_TRADED: {"a": "w4", "b": "w4", "c": "w2"}}),
        (-5, {"w2": dict.fromkeys(GROUPS, "w2"), BY_LOSS: {"c": "w2"}}),
        (15, {"w4": dict.fromkeys(GROUPS, "w4")}),
    ],
)
def test_simple_rules_are_uniform_bits_and_those_by_gptqs_loss(spare, rules):
    assert simple_rules("w3", LOSSES, BYTES, spare) == rules


def test_what_is_measured_has_the_knapsacks_answers_with_and_without_trades():
    gains = LOSSES.to_frame("reasoning")
    found = placements_to_measure(gains, BYTES, 5, {"reasoning": 1.0}, {})
    assert found[:2] == [{"a": "w4", "b": "w4", "c": "w2"}, {"a": "w4"}] and len(found) <= 2 + MOST_NEIGHBOURS
    assert placements_to_measure(gains, BYTES, 0, {"reasoning": 1.0}, {})[1] == {}


class Answers:
    """A subject of which a placement's margins are known: a number for each of three items."""

    def __init__(self, margins):
        self.margins = margins

    def answered(self, placement):
        items = pd.MultiIndex.from_product([["t"], range(3)], names=["task", "document"])
        return {"reasoning": pd.DataFrame({"margin": self.margins["".join(placement)]}, items)}


@pytest.mark.parametrize(
    ("other", "rule", "chosen"),
    [
        ([3.0, 3.1, 2.9], "a", "b"),
        ([9.0, -9.0, 4.0], "a", "a"),  # better on average, by chance perhaps
        ([0.0, 0.0, 0.0], "a", "a"),
    ],
)
def test_what_is_not_better_than_the_better_rule_beyond_doubt_gives_way_to_it(other, rule, chosen):
    subject = Answers({"": [0.0, 0.0, 0.0], "a": [1.0, 0.9, 1.1], "b": other})
    found = best_measured(subject, [{}, {"a": "w4"}], [{"b": "w4"}], {"reasoning": 1.0})
    assert found == ({rule: "w4"}, {chosen: "w4"})


def test_of_rules_that_are_as_good_the_first_is_taken():
    subject = Answers({"": [1.0, 2.0, 3.0], "a": [1.0, 2.0, 3.0]})
    assert best_measured(subject, [{}, {"a": "w4"}], [], {"reasoning": 1.0}) == ({}, {})
