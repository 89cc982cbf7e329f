"""The statistics of paired items, against statsmodels, scipy and brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import DescrStatsW

from stratalaw.damage.paired import (
    combined_interval,
    detectable_loss,
    detectable_mean_loss,
    paired_interval,
    sign_flip_p,
)

COUNTS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60)).filter(lambda counts: sum(counts) > 0)


def differences(lost: int, gained: int, same: int) -> np.ndarray:
    return np.repeat([-1.0, 1.0, 0.0], [lost, gained, same])


@given(COUNTS)
def test_with_right_and_wrong_answers_p_is_mcnemars(counts):
    lost, gained, same = counts
    expected = mcnemar([[same, lost], [gained, 0]], exact=True).pvalue
    assert sign_flip_p(differences(*counts)) == pytest.approx(min(expected, 1.0), rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9), st.sampled_from([1.0, 0.001, 1 / 3, 0.7]))
def test_with_other_scores_p_is_that_of_all_signs(values, unit):
    total = abs(sum(values))
    signs = np.array(list(product([-1, 1], repeat=len(values))))
    expected = (np.abs(signs @ np.array(values)) >= total).mean()
    assert sign_flip_p(unit * np.array(values, float)) == pytest.approx(expected)


def test_scores_without_a_common_part_have_the_p_of_scipys_permutations():
    values = np.random.default_rng(0).normal(0.2, 1, 12)
    expected = stats.permutation_test(
        (values, np.zeros(12)),
        lambda a, b, axis: np.sum(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
    ).pvalue
    assert sign_flip_p(values) == pytest.approx(expected, abs=0.001)


def test_many_items_of_unequal_weight_have_the_p_of_drawn_signs():
    generator = np.random.default_rng(1)
    values = np.concatenate([generator.choice([-1, 0, 1], 900) / 1000, generator.choice([-1, 0, 1], 700) / 817])
    drawn = generator.choice([-1, 1], (20_000, len(values))) @ values
    expected = (np.abs(drawn) >= abs(values.sum())).mean()
    assert sign_flip_p(values) == pytest.approx(expected, abs=0.015)


@given(COUNTS)
def test_exchanging_the_two_turns_everything_around(counts):
    values = differences(*counts)
    low, high = paired_interval(values)
    turned = paired_interval(-values)
    assert turned == pytest.approx((-high, -low))
    assert sign_flip_p(-values) == pytest.approx(sign_flip_p(values))
    assert -1 <= low <= high <= 1


@given(st.integers(1, 2000))
def test_no_difference_is_no_evidence_and_its_interval_shrinks_with_the_items(n):
    low, high = paired_interval(np.zeros(n))
    assert sign_flip_p(np.zeros(n)) == 1
    assert low == -high and high == pytest.approx(min(1.0, 1.96 * np.sqrt(2) / (n + 2)), rel=1e-3)


def test_the_interval_is_that_of_bonett_and_price():
    # Two items more, one lost and one gained: 5 lost and 2 gained of 30 are 6 and 3 of 32.
    low, high = paired_interval(differences(5, 2, 23))
    mean, spread = -3 / 32, np.sqrt((9 / 32 - (3 / 32) ** 2) / 32)
    assert (low, high) == pytest.approx((mean - 1.959964 * spread, mean + 1.959964 * spread), rel=1e-6)


def test_the_interval_of_other_scores_is_students():
    values = np.random.default_rng(0).uniform(-1, 1, 25)
    assert paired_interval(values) == pytest.approx(DescrStatsW(values).tconfint_mean())


@pytest.mark.parametrize("n", [10, 50, 200])
def test_the_interval_covers_what_it_says(n):
    """Exactly, over the counts of flips, for flips of 0.2 to 10 % of the items; more than 50 of a kind do not occur."""
    lost, gained = (counts.ravel() for counts in np.indices((min(n, 50) + 1, min(n, 50) + 1)))
    possible = lost + gained <= n
    lost, gained = lost[possible], gained[possible]
    bounds = np.array([paired_interval(differences(b, c, n - b - c)) for b, c in zip(lost, gained, strict=True)])
    for p, q in product([0.002, 0.01, 0.03, 0.1], repeat=2):
        chance = stats.binom.pmf(lost + gained, n, p + q) * stats.binom.pmf(lost, lost + gained, p / (p + q))
        covered = (bounds[:, 0] <= q - p) & (q - p <= bounds[:, 1])
        assert chance[covered].sum() > 0.949


def test_a_mean_over_one_benchmark_has_its_interval():
    assert combined_interval([0.1], [(-0.2, 0.3)], [1.0]) == pytest.approx((-0.2, 0.3))


def test_a_mean_over_several_has_the_interval_of_independent_errors():
    low, high = combined_interval([0.1, -0.3], [(0.0, 0.2), (-0.5, -0.1)], [0.5, 0.5])
    assert (low, high) == pytest.approx((-0.1 - np.hypot(0.05, 0.1), -0.1 + np.hypot(0.05, 0.1)))


@pytest.mark.parametrize(("n", "gained"), [(20, 0), (200, 3), (1000, 0), (1000, 20)])
def test_the_smallest_loss_is_found_four_times_in_five(n, gained):
    loss, by_chance = detectable_loss(n, gained), gained / n
    generator = np.random.default_rng(n + gained)
    shares = [by_chance + loss, by_chance, 1 - 2 * by_chance - loss]
    lost, others, _ = generator.multinomial(n, shares, 4000).T
    p = 2 * stats.binom.cdf(np.minimum(lost, others), lost + others, 0.5)
    assert ((p <= 0.05) & (lost > others)).mean() == pytest.approx(0.8, abs=0.025)


def test_more_items_show_smaller_losses_and_five_show_none():
    losses = [detectable_loss(n, 0) for n in (8, 20, 100, 1000)]
    assert losses == sorted(losses, reverse=True)
    assert np.isnan(detectable_loss(5, 0))  # even five of five lost has p = 0.06


def test_the_smallest_loss_of_other_scores_is_in_standard_errors():
    values = np.random.default_rng(0).normal(0, 0.2, 400)
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * stats.sem(values)
    assert detectable_mean_loss(values) == pytest.approx(expected)
