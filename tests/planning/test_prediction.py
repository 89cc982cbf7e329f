"""Predictions cover what the law does, at sizes that were fitted, between them and beyond them."""

import numpy as np
import pytest

from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.rows import rows_of
from stratalaw.planning.prediction import PredictionError, points_of, predict
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


def test_a_law_that_saw_one_size_and_one_bit_width_says_so_of_others(observations):
    seen = observations[(observations.n_params == observations.n_params.min()) & observations.bits.isin([4, 16])]
    size = float(seen.n_params.iloc[0])
    found = predict(analyse(seen, [PAPER_LAW], resamples=20), size, [Quantization(4, 64, 32, 0)])
    assert set(found.outside) == {""}
    found = predict(analyse(seen, [PAPER_LAW], resamples=20), 10 * size, [Quantization(3, 64, 32, 0)])
    assert {frozenset(text.split(", ")) for text in found.outside} == {frozenset({"n_params", "bits"})}


@pytest.mark.parametrize("n_params", [FITTED, BETWEEN, BEYOND])
def test_intervals_hold_the_true_accuracy(analysis, n_params):
    found = predict(analysis, n_params, VARIANTS)
    for law in analysis.laws[: len(STRATA)]:
        rows = found[found.stratum == law.stratum]
        expected = truth(law.stratum, n_params, law.reference_size)
        assert ((rows.low <= expected) & (expected <= rows.high)).all()
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
    with pytest.raises(PredictionError, match="group size of -1"):
        predict(analysis, FITTED, [Quantization(4, -1, 128, 0)])
