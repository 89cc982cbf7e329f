import numpy as np
import pandas as pd
import pytest

from stratalaw.planning.allocation import AllocationError, chosen_groups, meets, neighbours, share_of_gains, shrunk

GROUPS = ["a", "b", "c", "d"]
GAINS = pd.DataFrame({"reasoning": [4.0, 3.0, 2.0, 1.0], "memorization": [0.0, 1.0, 0.0, 9.0]}, index=GROUPS)
BYTES = pd.Series([10, 5, 5, 5], GROUPS)


def chosen(spare, weights, floors=None):
    return chosen_groups(GAINS, BYTES, spare, weights, floors or {})


def test_the_best_groups_within_the_memory_are_taken():
    assert chosen(10, {"reasoning": 1.0}) == ["b", "c"]  # 5 together, and a alone 4
    assert chosen(9, {"reasoning": 1.0}) == ["b"]
    assert chosen(10, {"memorization": 1.0})[-1] == "d"
    assert chosen(25, {"reasoning": 1.0}) == GROUPS


def test_strata_of_other_units_weigh_alike():
    gains = GAINS.assign(memorization=1000 * GAINS.memorization)
    both = {"reasoning": 1.0, "memorization": 1.0}
    assert chosen_groups(gains, BYTES, 10, both, {}) == chosen(10, both)


def test_a_floor_takes_what_a_stratum_needs():
    assert chosen(10, {"reasoning": 1.0}, {"memorization": 0.9}) == ["b", "d"]
    assert meets({"memorization": 0.9}, GAINS, ["d"]) and not meets({"memorization": 0.9}, GAINS, ["a", "b"])
    with pytest.raises(AllocationError, match=r"meets the floors \(memorization 0.95\)"):
        chosen(5, {"reasoning": 1.0}, {"memorization": 0.95})


def test_neighbours_exchange_or_add_one_group_within_the_memory():
    assert neighbours(["b"], BYTES, 10) == [["b", "c"], ["b", "d"], ["a"], ["c"], ["d"]]
    assert neighbours(["a"], BYTES, 10) == [["b"], ["c"], ["d"]]


def test_of_gains_that_cannot_be_told_from_nothing_there_are_no_shares():
    gains = GAINS.assign(memorization=[1.0, -1.0, 0.1, 0.0])
    errors = pd.DataFrame(0.5, GAINS.index, GAINS.columns)
    share = share_of_gains(gains, errors, ["a", "d"])
    assert share.reasoning == pytest.approx(0.5) and np.isnan(share.memorization)
    assert share_of_gains(GAINS, errors, []).tolist() == [0, 0]


def test_gains_that_are_noise_are_drawn_to_what_their_bytes_would_bring():
    noise = pd.DataFrame(5.0, GAINS.index, GAINS.columns)
    expected = [0.4 * 10, 0.2 * 10, 0.2 * 10, 0.2 * 10]
    assert shrunk(GAINS, noise, BYTES).reasoning.tolist() == pytest.approx(expected)
    assert shrunk(GAINS, 0 * noise, BYTES).equals(GAINS)
