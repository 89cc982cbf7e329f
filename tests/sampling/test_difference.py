import numpy as np
import pytest

from stratalaw.sampling.difference import estimated_difference

ITEMS = 600


def asked(differences: np.ndarray, share: float, seed: int) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(len(differences)) < share, differences, np.nan)


def benchmark(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences of items that are lost where the original's margin is small, and what is known of the items."""
    random = np.random.default_rng(seed)
    margin = random.normal(1, 1, ITEMS)
    right = (margin > 0).astype(float)
    moved = margin + random.normal(-0.2, 0.5, ITEMS)
    return (moved > 0) - right, np.column_stack([right, margin, right * margin])


def test_all_items_give_the_plain_mean_and_its_standard_error():
    differences, known = benchmark(0)
    found = estimated_difference(differences, known)
    assert (found.asked, found.items) == (ITEMS, ITEMS)
    assert found.mean == differences.mean()
    assert found.stderr == pytest.approx(differences.std(ddof=1) / np.sqrt(ITEMS))


def test_the_estimate_is_right_on_average_and_its_error_is_as_large_as_said():
    errors, said = [], []
    for seed in range(400):
        differences, known = benchmark(seed)
        found = estimated_difference(asked(differences, 0.25, seed), known)
        left_out = found.variance - found.lasting
        errors.append(found.mean - differences.mean())
        said.append(left_out)
    errors = np.array(errors)
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(errors))
    assert np.sqrt(np.mean(said)) == pytest.approx(errors.std(), rel=0.12)


def test_two_wrong_answers_of_an_original_do_not_say_what_becomes_of_all_others():
    random = np.random.default_rng(0)
    for seed in range(200):
        right = np.arange(ITEMS) >= 18
        margin = random.exponential(1, ITEMS)
        differences = np.where(random.random(ITEMS) < 0.1, np.where(right, -1.0, 1.0), 0.0)
        known = np.column_stack([right, margin, right * margin])
        found = estimated_difference(asked(differences, 0.17, seed), known)
        assert abs(found.mean - differences.mean()) < 5 * np.sqrt(found.left_out)


def test_what_is_known_of_the_items_makes_the_error_smaller():
    differences, known = benchmark(1)
    seen = asked(differences, 0.5, 1)
    assert estimated_difference(seen, known).stderr < 0.97 * estimated_difference(seen, known[:, :0]).stderr


def test_items_that_happen_to_be_all_the_same_leave_doubt():
    differences = np.full(ITEMS, np.nan)
    differences[:50] = 0.0
    found = estimated_difference(differences, np.zeros((ITEMS, 1)))
    assert found.mean == 0
    assert found.stderr > 0.02


@pytest.mark.parametrize("count", [0, 1])
def test_next_to_no_item_says_nothing(count):
    differences = np.full(ITEMS, np.nan)
    differences[:count] = 0.0
    found = estimated_difference(differences, np.zeros((ITEMS, 1)))
    assert found.stderr == np.inf
