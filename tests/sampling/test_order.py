import numpy as np
from scipy import stats

from stratalaw.sampling.order import places


def test_places_are_random_and_belong_to_the_item_alone():
    found = places(["facts"] * 20_000, range(20_000))
    assert stats.kstest(found, "uniform").statistic < 0.012
    assert abs(stats.spearmanr(found, np.arange(20_000)).statistic) < 0.02
    np.testing.assert_array_equal(places(["facts", "facts"], [7, 3]), found[[7, 3]])


def test_tasks_are_ordered_independently():
    first, second = (places([task] * 2000, range(2000)) for task in ("facts", "chains"))
    assert abs(stats.spearmanr(first, second).statistic) < 0.06


def test_places_never_change():
    """Answers that are on a disk would be taken for those of other items."""
    np.testing.assert_allclose(places(["facts"], [0]), [0.3915308005923066], atol=1e-12)
