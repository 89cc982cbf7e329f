"""Predictions return what was measured, and cover what was not: sizes, bit-widths, models with their own original."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import fit_law, read_observations, stratum_accuracies
from stratalaw.laws.analysis import Analysis, analyse, measured_rows, predicting
from stratalaw.laws.comparison import Comparison
from stratalaw.laws.forms import PAPER_LAW, form_named
from stratalaw.laws.intervals import used_rows
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.rows import rows_of
from stratalaw.laws.scatter import scatter_of
from stratalaw.planning.prediction import MEASURED, PredictionError, Predictor, points_of, predict
from stratalaw.study.variants import Quantization
from tests.planning.conftest import SCALE, STRATA

VARIANTS = [Quantization(bits, group, samples, 0) for bits in (3, 4) for group in (32, 128) for samples in (8, 128)]
FITTED, BETWEEN, BEYOND = 4e9, 2.7e9, 32e9


def truth(stratum: str, n_params: float, reference_size: float) -> np.ndarray:
    """Accuracy by the law that was simulated; N counts in units of the study's reference size."""
    points, form = points_of(n_params, VARIANTS), PAPER_LAW
    fitted = form.to_fitted([{"A": SCALE, **EXPONENTS[stratum]}[p.name] for p in form.parameters])
    adjusted, _ = form.evaluate(fitted, rows_of(points, reference_size).factors)
    return 0.25 + 0.75 * adjusted


def test_a_law_that_saw_one_size_answers_for_another_only_from_its_original(observations):
    seen = observations[(observations.n_params == observations.n_params.min()) & observations.bits.isin([4, 16])]
    size, laws = float(seen.n_params.iloc[0]), analyse(seen, [PAPER_LAW], resamples=20)
    assert set(predict(laws, size, [Quantization(4, 64, 32, 0)]).outside) == {""}
    with pytest.raises(PredictionError, match="fitted to one size, 600M parameters, and say nothing of a model of 6B"):
        predict(laws, 10 * size, [Quantization(3, 64, 32, 0)])
    found = predict(laws, 10 * size, [Quantization(3, 64, 32, 0)], baselines={"reasoning": 0.8})
    assert list(found.stratum) == ["reasoning"]
    assert frozenset(found.outside[0].split(", ")) == {"n_params", "bits"}


def test_a_form_that_ignores_bits_predicts_nothing(observations):
    accuracies = stratum_accuracies(observations)
    size, paper = (fit_law(accuracies, form_named(name), "reasoning", "accuracy") for name in ("size", "paper"))
    ranking = [Comparison(fit.form.name, "", False, 2, 0.0, 0.9, 0.01, {}, "reasoning") for fit in (size, paper)]
    [scatter] = predicting(accuracies, "reasoning", [size, paper], ranking)
    assert scatter.form == "paper"


@pytest.mark.parametrize("n_params", [FITTED, BETWEEN, BEYOND])
def test_intervals_hold_the_true_accuracy(analysis, n_params):
    found = predict(analysis, n_params, VARIANTS)
    for law in analysis.laws[: len(STRATA)]:
        rows = found[found.stratum == law.stratum]
        expected = truth(law.stratum, n_params, law.reference_size)
        inside = (rows.low <= expected) & (expected <= rows.high)
        # What was measured has the interval of its items, which holds 95 %; what was predicted is surer.
        assert inside.mean() >= (0.75 if n_params == FITTED else 1)
        assert np.abs(rows.accuracy - expected).max() < 0.03


def test_a_new_size_has_wider_intervals_than_a_fitted_one(analysis):
    def width(n_params: float) -> float:
        found = predict(analysis, n_params, VARIANTS)
        return float((found.high - found.low).mean())

    assert width(BETWEEN) >= width(FITTED) and width(BEYOND) >= width(FITTED)


@pytest.mark.parametrize(
    ("n_params", "variant", "outside"),
    [
        (4e9, Quantization(4, 64, 128, 0), ""),
        (32e9, Quantization(4, 64, 128, 0), "n_params"),
        (4e9, Quantization(2, 64, 128, 0), "bits"),
        (32e9, Quantization(4, 16, 4096, 0), "n_params, group_size, calibration_size"),
    ],
)
def test_what_lies_beyond_the_fitted_range_is_named(analysis, n_params, variant, outside):
    rows = predict(analysis, n_params, [variant])
    named = {name for text in rows.outside for name in text.split(", ")}
    assert named - {"effective_bits", ""} == set(outside.split(", ")) - {""}


def test_laws_from_a_file_predict_the_same(analysis):
    restored = Analysis.from_dict(analysis.to_dict())
    np.testing.assert_allclose(
        predict(analysis, BETWEEN, VARIANTS)[["accuracy", "low", "high"]],
        predict(restored, BETWEEN, VARIANTS)[["accuracy", "low", "high"]],
    )


def test_whole_rows_as_groups_are_refused(analysis):
    with pytest.raises(PredictionError, match="do not cover whole rows"):
        predict(analysis, FITTED, [Quantization(4, -1, 128, 0)])


LADDER = Path("docs/studies/first-ladder/observations.csv")


@pytest.fixture(scope="module")
def ladder() -> pd.DataFrame:
    return stratum_accuracies(read_observations(LADDER))


def predictor(accuracies: pd.DataFrame, stratum: str) -> Predictor:
    """What predicts a stratum, without the rest of an analysis."""
    law = fit_law(accuracies, form_named("anchored"), stratum, "accuracy")
    table, _ = used_rows(accuracies, stratum, keep_collapsed=True)
    own, measured = accuracies[accuracies.stratum == stratum], measured_rows(accuracies)
    return Predictor(law, scatter_of(law, table, own), measured[measured.stratum == stratum])


def of_model(accuracies: pd.DataFrame, model: str, stratum: str) -> pd.DataFrame:
    return accuracies[(accuracies.model == model) & (accuracies.stratum == stratum)]


def test_what_was_measured_is_returned_as_measured(ladder):
    for stratum in ("memorization", "reasoning"):
        rows = of_model(ladder, "r5", stratum)
        rows = rows[rows.bits < 16]
        found = predictor(ladder, stratum).predict(rows, 0.95)
        assert set(found.form) == {MEASURED} and set(found.outside) == {""}
        np.testing.assert_allclose(found.accuracy, rows.chance + (1 - rows.chance) * rows.accuracy_adjusted)


def test_a_model_is_told_from_another_of_its_size_by_its_name(ladder):
    rows = of_model(ladder, "r5", "reasoning")
    twins = pd.concat([ladder, rows.assign(model="twin", accuracy_adjusted=rows.accuracy_adjusted - 0.1)])
    used, quantized = predictor(twins, "reasoning"), rows[rows.bits < 16]
    expected = rows.chance + (1 - rows.chance) * rows.accuracy_adjusted
    found = used.predict(quantized, 0.95, model="r5")
    assert set(found.form) == {MEASURED}
    np.testing.assert_allclose(found.accuracy, expected[rows.bits < 16])
    original = used.predict_original(float(rows.n_params.iloc[0]), 0.95, "r5")
    np.testing.assert_allclose(original.accuracy, expected[rows.bits == 16])


def test_a_variant_is_never_above_its_original_beyond_noise(ladder):
    used = predictor(ladder, "memorization")
    for baseline in (0.3, 0.6, 0.95):
        points = points_of(4e5, VARIANTS)
        found = used.predict(points, 0.95, baseline)
        assert (found.accuracy <= baseline).all()
        assert (found.high <= baseline + 1.96 * used.scatter.noise * (1 - used.law.chance) + 1e-9).all()


def test_a_given_original_anchors_the_prediction(ladder):
    used, points = predictor(ladder, "memorization"), points_of(6e5 * 1.3, VARIANTS)
    low, high = (used.predict(points, 0.95, baseline).accuracy for baseline in (0.5, 0.9))
    share_low, share_high = ((part - 0.25) / (baseline - 0.25) for part, baseline in ((low, 0.5), (high, 0.9)))
    np.testing.assert_allclose(share_low, share_high)
    unknown = used.predict(points, 0.95)
    known = used.predict(points, 0.95, 0.7)
    assert ((unknown.high - unknown.low) > (known.high - known.low)).all()


@pytest.mark.parametrize("stratum", ["memorization", "application", "general"])
def test_a_bit_width_that_was_left_out_is_flagged_and_covered(ladder, stratum):
    used = predictor(ladder.assign(held_out=False)[ladder.bits != 4], stratum)
    inside = []
    for model in ladder.model.unique():
        rows = of_model(ladder, model, stratum)
        rows = rows[rows.bits == 4]
        found = used.predict(rows, 0.95)
        truth = rows.chance + (1 - rows.chance) * rows.accuracy_adjusted
        assert set(found.outside) == {"bits"}
        inside += list((found.low <= truth) & (truth <= found.high))
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("stratum", ["memorization", "application", "general"])
def test_a_size_that_was_left_out_is_covered_from_its_original(ladder, stratum):
    inside = []
    for model in ladder.model.unique():
        used = predictor(ladder.assign(held_out=False)[ladder.model != model], stratum)
        rows = of_model(ladder, model, stratum)
        rows = rows[(rows.bits > 2) & (rows.bits < 16)]
        original = rows.chance.iloc[0] + (1 - rows.chance.iloc[0]) * rows.baseline_adjusted.iloc[0]
        found = used.predict(rows, 0.95, original)
        truth = rows.chance + (1 - rows.chance) * rows.accuracy_adjusted
        inside += list((found.low <= truth) & (truth <= found.high))
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize(
    ("baselines", "message"),
    [({"logic": 0.6}, "baseline logic: not one of memorization"), ({"reasoning": 0.1}, "0.1 is not between chance")],
)
def test_an_impossible_original_is_refused(analysis, baselines, message):
    with pytest.raises(PredictionError, match=message):
        predict(analysis, FITTED, VARIANTS, baselines=baselines)
