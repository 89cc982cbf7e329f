import numpy as np
import pandas as pd
import pytest

from stratalaw.planning.allocation import (
    AllocationError,
    meets,
    neighbours,
    one_way,
    place_bits,
    share_of_range,
    shrunk,
)

GROUPS = ["a", "b", "c", "d"]


def options(variants):
    return pd.MultiIndex.from_tuples([(group, variant) for variant in variants for group in GROUPS])


UP, BOTH = options(["more"]), options(["more", "less"])
GAINS = pd.DataFrame({"reasoning": [4.0, 3.0, 2.0, 1.0], "memorization": [0.0, 1.0, 0.0, 9.0]}, index=UP)
BYTES = pd.Series([10, 5, 5, 5], UP)
# With fewer bits the first group loses least, and the last one most.
TRADED = pd.DataFrame({"reasoning": [4.0, 3.0, 2.0, 1.0, -0.5, -4.0, -5.0, -6.0]}, index=BOTH)
TRADED_BYTES = pd.Series([10, 5, 5, 5, -10, -5, -5, -5], BOTH)


def placed(spare, weights, floors=None):
    return "".join(place_bits(GAINS, BYTES, spare, weights, floors or {}))


def traded(spare, floors=None):
    return place_bits(TRADED, TRADED_BYTES, spare, {"reasoning": 1.0}, floors or {})


def more(groups):
    return dict.fromkeys(groups, "more")


def test_the_best_groups_within_the_memory_are_taken():
    assert placed(10, {"reasoning": 1.0}) == "bc"  # 5 together, and a alone 4
    assert placed(9, {"reasoning": 1.0}) == "b"
    assert placed(10, {"memorization": 1.0})[-1] == "d"
    assert placed(25, {"reasoning": 1.0}) == "abcd"


def test_groups_that_lose_little_pay_for_those_that_gain_much():
    assert traded(0) == {"b": "more", "c": "more", "a": "less"}
    assert traded(5) == {"b": "more", "c": "more", "d": "more", "a": "less"}  # 5.5, and b and c alone 5
    assert traded(-10) == {"a": "less"}
    assert traded(25) == more("abcd")


def test_where_nothing_is_worth_its_price_all_keep_their_bits():
    losses = TRADED.assign(reasoning=[0.1, 0.1, 0.1, 0.1, -9.0, -9.0, -9.0, -9.0])
    assert place_bits(losses, TRADED_BYTES, 0, {"reasoning": 1.0}, {}) == {}


def test_strata_of_other_units_weigh_alike():
    gains = GAINS.assign(memorization=1000 * GAINS.memorization)
    both = {"reasoning": 1.0, "memorization": 1.0}
    assert "".join(place_bits(gains, BYTES, 10, both, {})) == placed(10, both)


def test_a_floor_takes_what_a_stratum_needs():
    assert placed(10, {"reasoning": 1.0}, {"memorization": 0.9}) == "bd"
    assert meets({"memorization": 0.9}, GAINS, BYTES, more("d"))
    assert not meets({"memorization": 0.9}, GAINS, BYTES, more("ab"))
    with pytest.raises(AllocationError, match=r"meets the floors \(memorization 0.95\)"):
        placed(5, {"reasoning": 1.0}, {"memorization": 0.95})


def test_a_floor_is_a_share_of_what_lies_between_the_smallest_variant_and_the_largest():
    assert meets({"reasoning": 0.6}, TRADED, TRADED_BYTES, {})  # 0 lies at 15.5 of 25.5
    assert not meets({"reasoning": 0.62}, TRADED, TRADED_BYTES, {})
    assert meets({"reasoning": 0.62}, TRADED, TRADED_BYTES, traded(0))
    with pytest.raises(AllocationError):
        traded(-25, {"reasoning": 0.1})


def test_only_options_that_go_the_way_of_the_memory():
    assert [list(one_way(TRADED_BYTES, spare).index.unique(1)) for spare in (3, 0, -3)] == [["more"], [], ["less"]]


def test_neighbours_exchange_bits_or_add_some_within_the_memory():
    assert sorted("".join(sorted(one)) for one in neighbours(more("b"), BYTES, 10)) == ["a", "bc", "bd", "c", "d"]
    assert sorted("".join(one) for one in neighbours(more("a"), BYTES, 10)) == ["b", "c", "d"]
    of_three = neighbours({"a": "less"}, TRADED_BYTES, 0)
    assert {"a": "less", "b": "more"} in of_three
    assert {"b": "less"} in of_three  # that is smaller, so it takes more, and there is as much
    assert all(sum(TRADED_BYTES[option] for option in one.items()) <= 0 for one in of_three)


def test_of_gains_that_cannot_be_told_from_nothing_there_are_no_shares():
    gains = GAINS.assign(memorization=[1.0, -1.0, 0.1, 0.0])
    errors = pd.DataFrame(0.5, GAINS.index, GAINS.columns)
    share = share_of_range(gains, errors, BYTES, more("ad"))
    assert share.reasoning == pytest.approx(0.5) and np.isnan(share.memorization)
    assert share_of_range(GAINS, errors, BYTES, {}).tolist() == [0, 0]
    assert share_of_range(TRADED, 0 * TRADED, TRADED_BYTES, {}).reasoning == pytest.approx(15.5 / 25.5)


def test_gains_that_are_noise_are_drawn_to_what_their_bytes_would_bring():
    noise = pd.DataFrame(5.0, GAINS.index, GAINS.columns)
    expected = [0.4 * 10, 0.2 * 10, 0.2 * 10, 0.2 * 10]
    assert shrunk(GAINS, noise, BYTES).reasoning.tolist() == pytest.approx(expected)
    assert shrunk(GAINS, 0 * noise, BYTES).equals(GAINS)
    losses = shrunk(TRADED, pd.DataFrame(5.0, BOTH, TRADED.columns), TRADED_BYTES).reasoning.tolist()
    assert losses == pytest.approx([*expected, -0.4 * 15.5, *3 * [-0.2 * 15.5]])
