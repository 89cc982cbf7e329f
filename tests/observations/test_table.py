import numpy as np
import pandas as pd
import pytest

from stratalaw.models.folder import ModelSize
from stratalaw.observations.table import COLUMNS, left_out_note, observe, of_grids
from stratalaw.study import Study

STUDY = Study.model_validate(
    {
        "name": "example",
        "models": [{"name": "m", "source": "models/m", "family": "f"}],
        "grids": [{"bits": [3], "group_size": [64], "calibration_size": [8]}],
        "calibration": {"corpus": "text.jsonl", "tokens": 16},
        "evaluation": {"strata": {"reasoning": [{"task": "chains", "chance": 0.25}]}},
    }
)
SIZES = {"m": ModelSize(n_params=1000, n_params_nonembedding=600)}
AUDITS = {("m", "w3-g64-c8-s0"): {"effective_bits": 3.3, "calibration_tokens": 128}}


def items(baseline: list[float], quantized: list[float]) -> pd.DataFrame:
    return pd.concat(
        pd.DataFrame({"model": "m", "variant": variant, "stratum": "reasoning", "task": "chains", "score": scores})
        .rename_axis("document")
        .reset_index()
        for variant, scores in (("bf16", baseline), ("w3-g64-c8-s0", quantized))
    )


def test_accuracies_and_paired_differences():
    baseline, quantized = [1, 1, 1, 0, 1, 0, 1, 1], [1, 0, 1, 0, 0, 1, 1, 1]
    table = observe(STUDY, SIZES, AUDITS, items(baseline, quantized))
    assert list(table.columns) == list(COLUMNS)
    table = table.set_index("variant")
    row = table.loc["w3-g64-c8-s0"]
    assert row.accuracy == pytest.approx(5 / 8)
    assert row.stderr == pytest.approx(np.sqrt(5 / 8 * 3 / 8 / 7))
    assert row.accuracy_adjusted == pytest.approx((5 / 8 - 1 / 4) / (3 / 4))
    assert row.paired_difference == pytest.approx(-1 / 8)
    assert row.paired_stderr == pytest.approx(np.std(np.subtract(quantized, baseline), ddof=1) / np.sqrt(8))
    assert (row.bits, row.group_size, row.calibration_size, row.effective_bits) == (3, 64, 8, 3.3)
    assert (row.n_items, row.n_params, row.calibration_tokens) == (8, 1000, 128)


def test_the_baseline_has_sixteen_bits_and_no_calibration():
    row = observe(STUDY, SIZES, AUDITS, items([1, 0], [1, 0])).set_index("variant").loc["bf16"]
    assert (row.bits, row.effective_bits, row.paired_difference) == (16, 16, 0)
    assert pd.isna(row.group_size) and pd.isna(row.calibration_size) and pd.isna(row.calibration_tokens)


def test_a_variant_of_a_mixture_is_of_a_method_of_its_own_and_left_out_of_the_laws():
    values = STUDY.as_plain()
    values["calibration"] |= {"corpora": {"a": "a.jsonl"}, "mixtures": {"even": {"a": 1}}}
    values["grids"] += [values["grids"][0] | {"calibration_mixture": ["even"]}]
    scores, name = items([1, 0], [1, 0]), "w3-g64-c8-s0-even"
    of_mixture = scores[scores.variant != "bf16"].assign(variant=name)
    audits = AUDITS | {("m", name): AUDITS["m", "w3-g64-c8-s0"]}
    table = observe(Study(**values), SIZES, audits, pd.concat([scores, of_mixture]))
    row = table.set_index("variant").loc[name]
    assert (row.method, row.calibration_mixture) == ("GPTQ, calibrated on even", "even")
    assert of_grids(table).variant.tolist() == ["bf16", "w3-g64-c8-s0"]
    assert of_grids(table).calibration_mixture.isna().all()
    note = "compared with their originals, and left out of the laws: m/w3-g64-c8-s0-even (GPTQ, calibrated on even)"
    assert left_out_note(table) == [note]


def test_other_items_than_the_baselines_are_refused():
    with pytest.raises(ValueError, match="m/w3-g64-c8-s0: chains: not the same items as the baseline's"):
        observe(STUDY, SIZES, AUDITS, items([1, 0, 1], [1, 0]))


def asked_in_part() -> tuple[Study, pd.DataFrame, np.ndarray]:
    """A study that asks for a precision, the items of an original and of a variant that was asked a third, and the
    variant's scores on all of them."""
    values = STUDY.model_dump()
    values["evaluation"]["paired_stderr"] = 0.05
    random = np.random.default_rng(0)
    gap = random.exponential(1, 900)
    baseline = (random.random(900) < 0.8).astype(float)
    quantized = np.where((gap < 0.3) & (baseline == 1), 0.0, baseline)
    table = items(list(baseline), list(quantized)).assign(gap=np.tile(gap, 2))
    is_left_out = (table.variant != "bf16") & (table.document % 3 > 0)
    return Study.model_validate(values), table[~is_left_out], quantized


def test_the_difference_is_estimated_where_some_items_were_not_asked():
    study, some, quantized = asked_in_part()
    table = observe(study, SIZES, AUDITS, some).set_index("variant")
    row, baseline = table.loc["w3-g64-c8-s0"], table.loc["bf16"]
    assert (row.n_items, baseline.n_items) == (300, 900)
    assert row.accuracy == pytest.approx(baseline.accuracy + row.paired_difference)
    assert row.accuracy == pytest.approx(quantized.mean(), abs=3 * row.paired_stderr)
    asked = some.pivot(index="document", columns="variant", values="score").dropna()
    plain = (asked["w3-g64-c8-s0"] - asked["bf16"]).std() / np.sqrt(300)
    assert 0.4 * plain < row.paired_stderr < plain
    assert row.stderr > baseline.stderr


def test_items_that_a_study_does_not_leave_out_may_not_be_missing():
    _, some, _ = asked_in_part()
    with pytest.raises(ValueError, match="not the same items as the baseline's"):
        observe(STUDY, SIZES, AUDITS, some)
