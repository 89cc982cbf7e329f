import numpy as np
import pytest

from stratalaw.sampling.allocation import first_shares, items_needed, next_shares, stderr_of_mean
from stratalaw.sampling.difference import Difference


def known(items: int, asked: int, unexplained: float = 0.2) -> Difference:
    return Difference(0.0, asked, items, unexplained, unexplained / items)


def with_items(differences: list[Difference], counts: list[float]) -> float:
    """The standard error of the mean once so many items of each are asked."""
    later = [known(one.items, int(count), one.unexplained) for one, count in zip(differences, counts, strict=True)]
    return stderr_of_mean(later)


def test_the_items_that_are_needed_give_the_standard_error_that_was_asked_for():
    differences = [known(1000, 20), known(1000, 20, 0.05), known(600, 20)]
    needed = items_needed(differences, 0.02)
    assert with_items(differences, needed) == pytest.approx(0.02, rel=0.01)
    assert needed[0] == pytest.approx(2 * needed[1], rel=0.02)  # in proportion to standard deviations


def test_a_large_benchmark_is_asked_no_more_than_the_others():
    differences = [known(14_042, 100), *(known(1000, 100) for _ in range(4))]
    needed = items_needed(differences, 0.015)
    assert max(needed) == min(needed)
    same_share = sum(one.unexplained / one.items for one in differences) / (0.015 * 5) ** 2
    assert sum(needed) < 0.35 * same_share * sum(one.items for one in differences)


def test_no_more_is_needed_than_there_is_and_no_less_than_was_asked():
    needed = items_needed([known(120, 100), known(5000, 100), known(5000, 2500)], 0.018)
    assert needed[0] == 120
    assert 100 < needed[1] < needed[2] == 2500


@pytest.mark.parametrize("unknown", [known(500, 100, 1.0), Difference(np.nan, 1, 500, np.inf, np.inf)])
def test_what_all_items_do_not_give_or_nothing_is_known_of_asks_for_all(unknown):
    assert items_needed([unknown, known(500, 100)], 0.02) == [500, 500]
    shares = {"facts": 0.2, "chains": 0.2}
    enlarged = next_shares(shares, {"facts": unknown, "chains": known(500, 100)}, 0.02)
    assert enlarged == {"facts": 1, "chains": 1}


def test_shares_grow_until_the_goal_is_reached():
    shares = first_shares({"facts": 4000, "chains": 50})
    assert 0 < shares["facts"] < 0.05
    assert shares["chains"] == 1
    short = {"facts": known(4000, 90), "chains": known(50, 50)}
    enlarged = next_shares(shares, short, 0.038)
    assert enlarged["facts"] > shares["facts"]
    # Fewer were asked than the share says: so many more of the others.
    assert 90 + (4000 - 90) * (enlarged["facts"] - shares["facts"]) / (1 - shares["facts"]) == pytest.approx(
        items_needed(list(short.values()), 0.98 * 0.038)[0]
    )
    assert next_shares(enlarged, {"facts": known(4000, 3900), "chains": known(50, 50)}, 0.038) == enlarged
