"""P-values adjusted for the number of tests are those of statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from stratalaw.multiple_tests import holm


@pytest.mark.parametrize("p_values", [[0.04, 0.001, 0.02, 0.02, 0.9], [0.6, 0.7], [0.01], np.full(3, 0.02)])
def test_they_are_those_of_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_what_could_not_be_tested_counts_as_a_test_that_found_nothing():
    assert holm([float("nan"), 0.02]) == [1, 0.04]


def test_no_tests_have_no_p_values():
    assert holm([]) == []
