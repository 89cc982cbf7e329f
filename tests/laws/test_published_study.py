"""The published ladder study: whoever fits its table gets its numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import form_named, read_observations, stratum_accuracies
from stratalaw.laws.analysis import comparison_rows
from stratalaw.laws.comparison import EACH_SIZE
from stratalaw.laws.draws import draw_spread
from stratalaw.laws.exponents import ACCURACY, DAMAGE, Panel, exponents_of_models
from stratalaw.laws.fit import fit_law
from stratalaw.laws.holdout import compare

STUDY = Path("docs/studies/ladder")
STRATA = ("memorization", "application", "reasoning", "general")


@pytest.fixture(scope="module")
def accuracies() -> pd.DataFrame:
    return stratum_accuracies(read_observations(STUDY / "observations.csv"))


@pytest.mark.parametrize("stratum", STRATA)
def test_refitting_gives_the_published_exponents(accuracies, stratum):
    published = pd.read_csv(STUDY / "exponents.csv")
    published = published[published.scale == ACCURACY].set_index(["stratum", "exponent"]).loc[stratum]
    law = fit_law(accuracies, stratum=stratum)
    found = law.conf_int().assign(value=law.params).loc[published.index, ["value", "low", "high"]]
    np.testing.assert_allclose(found, published[["value", "low", "high"]], rtol=2e-3)


def test_exponents_of_each_model_are_the_published_ones(accuracies):
    published = pd.read_csv(STUDY / "models.csv")
    panel = Panel.observed(accuracies)
    for scale in (ACCURACY, DAMAGE):
        for name, found in exponents_of_models(panel, "general", scale).items():
            rows = published[
                (published.stratum == "general") & (published.scale == scale) & (published.exponent == name)
            ]
            np.testing.assert_allclose(rows.set_index("model").value[panel.models.model], found[0], rtol=2e-3)


@pytest.mark.parametrize("stratum", STRATA)
def test_the_anchored_law_misses_a_model_by_much_less_than_the_papers_law(accuracies, stratum):
    forms = [form_named("paper"), form_named("anchored")]
    errors = {r.form: r.error(EACH_SIZE) for r in compare(comparison_rows(accuracies, stratum), forms)}
    assert errors["anchored"] < 0.7 * errors["paper"]
    assert min(errors["share-nearest"], errors["anchored"]) == min(errors.values())


def test_the_published_spread_of_draws_is_that_of_the_table():
    folder = Path("docs/studies/ladder-draws")
    found = draw_spread(read_observations(folder / "observations.csv"))
    published = pd.read_csv(folder / "draws.csv")
    pd.testing.assert_frame_equal(found, published, check_dtype=False, rtol=1e-3)


def test_nothing_that_was_planned_is_missing():
    coverage = pd.read_csv(STUDY / "coverage.csv")
    assert (coverage.named == coverage.observed).all()
    assert len(pd.read_csv(STUDY / "observations.csv")) == 10 * coverage[coverage.stratum == "reasoning"].named.sum()
