"""A study of which some variants were run, as one table."""

import pandas as pd
import pytest

from stratalaw.laws.whole import COLUMNS, predicted_note, whole_study
from stratalaw.study import Study

ABSENT = ("m1", "w3-g32-c8-s0")


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.model_validate(
        {
            "name": "two",
            "models": [{"name": name, "source": name, "family": "f"} for name in ("m1", "m2", "m3")],
            "grids": [
                {"bits": [3, 4], "group_size": [32, 128], "calibration_size": [8]},
                {"bits": [3], "group_size": [32], "calibration_size": [8], "calibration_mixture": ["even"]},
            ],
            "calibration": {
                "corpus": "c.jsonl",
                "tokens": 256,
                "corpora": {"a": "a.jsonl"},
                "mixtures": {"even": {"a": 1}},
            },
            "evaluation": {"strata": {"reasoning": [{"task": "chains", "chance": 0.25}]}},
        }
    )


@pytest.fixture(scope="module")
def observations(study) -> pd.DataFrame:
    """All variants but one; nothing of the third model, not even its original."""
    table = study.variants()
    table = table[table.calibration_mixture.isna()]
    bits = table.bits.astype(float).fillna(16.0)
    left = 0.8 - 0.3 * (bits == 3) - 0.05 * (bits == 4) - 0.05 * (table.group_size == 128).fillna(False)
    table = table.assign(
        bits=bits,
        n_params=table.model.map({"m1": 1e8, "m2": 5e8, "m3": 1e9}),
        stratum="reasoning",
        benchmark="chains",
        chance=0.25,
        accuracy=left.astype(float),
        n_items=1000,
    )
    floats = dict.fromkeys(("group_size", "calibration_size", "calibration_seed"), float)
    measured = (table.model != "m3") & ~((table.model == ABSENT[0]) & (table.variant == ABSENT[1]))
    return table[measured].astype(floats)


def test_what_was_not_run_is_predicted_and_says_so(study, observations):
    whole = whole_study(observations, study, [ABSENT])
    assert list(whole.columns) == list(COLUMNS)
    assert len(whole) == 10 and set(whole.model) == {"m1", "m2"}
    predicted = whole[whole.kind == "predicted"]
    assert [tuple(row) for row in predicted[["model", "variant"]].to_numpy()] == [ABSENT]
    row = predicted.iloc[0]
    assert pd.isna(row.n_items) and row.low < row.accuracy < row.high
    assert abs(row.accuracy - 0.5) < 0.1
    (note,) = predicted_note(whole)
    assert note.startswith("predicted from the variants that were measured, not measured: 1 variants, within ±")


def test_what_was_measured_stands_with_its_items(study, observations):
    whole = whole_study(observations, study, [ABSENT])
    measured = whole[whole.kind == "measured"].merge(observations, on=["model", "variant"], suffixes=("", "_given"))
    assert (measured.accuracy - measured.accuracy_given).abs().max() < 1e-12
    assert (measured.n_items == 1000).all()
    half = 1.96 * (measured.accuracy * (1 - measured.accuracy) / 1000) ** 0.5
    assert (measured.high - measured.low - 2 * half).abs().max() < 1e-4


def test_what_cannot_be_quantized_is_not_predicted(study, observations):
    assert set(whole_study(observations, study).kind) == {"measured"}


def test_without_a_study_nothing_is_predicted(observations):
    whole = whole_study(observations)
    assert set(whole.kind) == {"measured"} and len(whole) == len(observations)
    assert predicted_note(whole) == []
