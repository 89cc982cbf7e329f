"""Candidates of a plan: variants of mixed bits as measured, or as the uniform variants of their bits let expect."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalaw.laws.table import GENERAL
from stratalaw.laws.whole import COLUMNS
from stratalaw.models.cache import CachedLayers
from stratalaw.models.shapes import Matrix, Shapes
from stratalaw.planning.candidates import candidates_of
from stratalaw.planning.mixed_bits import expected_of_mixed
from stratalaw.study import Study
from stratalaw.study.variants import Precision, Quantization
from tests.planning.conftest import STRATA

CONTEXT = 1024
ALLOCATION = {"bits": 3, "group_size": 128, "matrices": {"wide": {"bits": 4}}}
IN_TWO_DRAWS = {"allocation": ALLOCATION, "calibration_size": [32], "calibration_seed": [0, 1]}
MIXED = Quantization.from_allocation(
    {"bits": 3, "group_size": 128, "matrices": {"wide": {"bits": 4, "group_size": 128}}}, 32, 0
)
SHAPES = Shapes(
    matrices=(Matrix("narrow", 1024, 1024), Matrix("wide", 1024, 3072)),
    n_other=4_000_000_000 - 4 * 1024**2,
    n_embedding=0,
    n_layers=1,
    cache=(CachedLayers(128),),
    max_length=CONTEXT,
    hidden_size=1024,
)


def study_of(**model) -> Study:
    return Study(
        name="one",
        models=[{"name": "m", "source": "m", "family": "f"} | model],
        grids=[{"bits": [3, 4], "group_size": [128], "calibration_size": [32], "calibration_seed": [0, 1]}],
        calibration={"corpus": "corpus.jsonl", "tokens": 256},
        evaluation={"strata": {name: [{"task": f"task_{name}", "chance": 0.25}] for name in STRATA}},
    )


def measured(model: str, variant: str, accuracy: float) -> pd.DataFrame:
    """Rows of a laws file's table of variants."""
    about = {"model": model, "variant": variant, "bits": 3, "group_size": 128, "calibration_size": 32}
    known = {"kind": "measured", "accuracy": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02, "n_items": 100}
    return pd.DataFrame([about | {"stratum": stratum} | known for stratum in STRATA])[list(COLUMNS)]


@pytest.fixture(scope="module")
def with_original(analysis):
    """The laws of a study that measured the original of "m"."""
    about = {"model": "m", "family": "f", "n_params": float(SHAPES.n_params), "variant": "bf16", "bits": 16.0}
    known = {"accuracy_adjusted": 0.9, "stderr_adjusted": 0.01, "is_fitted": False}
    rows = pd.DataFrame([about | known | {"stratum": stratum} for stratum in (*STRATA, GENERAL)])
    return replace(analysis, measured=pd.concat([analysis.measured, rows], ignore_index=True))


def plan(study: Study, analysis, **about) -> dict[str, object]:
    return {one.name: one for one in candidates_of(study, {"m": SHAPES}, analysis, CONTEXT, **about)}


def test_what_was_not_measured_is_between_the_variants_whose_bits_it_has(with_original):
    found = plan(study_of(mixed=[IN_TWO_DRAWS]), with_original)
    assert list(found) == ["m w3-g128-c32-s0", "m w4-g128-c32-s0", "m bf16", f"m {MIXED.name}"], "one of each draw"
    low, high, original, mixed = found.values()
    assert "predicted, not measured" in mixed.note
    assert low.memory < mixed.memory < high.memory
    for stratum in STRATA:
        adjusted = [(one.accuracy[stratum] - 0.25) / 0.75 for one in (low, high, original, mixed)]
        damages = [np.log(adjusted[2] / one) for one in adjusted]
        assert damages[3] == pytest.approx(damages[0] / 4 + 3 * damages[1] / 4)


def test_what_was_measured_stands_as_it_was_measured_over_its_draws(analysis):
    mixtures = {"corpora": {"facts": "facts.jsonl"}, "mixtures": {"facts": {"facts": 1}}}
    content = study_of(mixed=[IN_TWO_DRAWS]).as_plain()
    content["grids"][0]["calibration_mixture"] = ["facts"]
    content["calibration"] |= mixtures
    content["grids"].append({"bits": [4], "group_size": [-1], "calibration_size": [32]})
    study = Study(**content)
    rows = [
        measured("m", MIXED.name, 0.5),
        measured("m", replace(MIXED, calibration_seed=1).name, 0.6),
        measured("m", "w3-g128-c32-s0-facts", 0.4),
        measured("m", "w4-g-1-c32-s0", 0.55),
        measured("another", "w4-g128-c32-s0-facts", 0.1),
    ]
    known = replace(analysis, variants=pd.concat(rows, ignore_index=True))
    found = plan(study, known)
    accuracies = {name: set(one.accuracy.values()) for name, one in found.items() if not one.note}
    assert {name: values for name, values in accuracies.items() if name != "m bf16"} == {
        f"m {MIXED.name}": {0.55},
        "m w3-g128-c32-s0-facts": {0.4},
        "m w4-g-1-c32-s0": {0.55},
    }
    cautious = plan(study, known, risk=0.025)
    assert list(cautious[f"m {MIXED.name}"].accuracy.values()) == pytest.approx([0.53] * len(STRATA))


def test_a_part_of_which_nothing_is_known_leaves_the_variant_out(with_original):
    rows = {"wide": {"bits": 4, "group_size": -1}}
    allocation = {"bits": 3, "group_size": 128, "matrices": rows}
    found = plan(study_of(mixed=[{"allocation": allocation, "calibration_size": [32]}]), with_original)
    assert not [name for name in found if "mixed" in name]


accuracy = st.floats(0.3, 0.9)


@given(accuracy, accuracy, accuracy, st.floats(0, 1), st.floats(0, 0.1))
def test_expected_lies_between_its_parts_and_within_its_interval(first, second, more, share, half):
    original = min(max(first, second) + more / 9, 1.0)
    uniform = pd.DataFrame(
        {
            "variant": ["bf16", "first", "second"],
            "stratum": "facts",
            "accuracy": [original, first, second],
            "low": [original, first - half, second - half],
            "high": [original, first + half, second + half],
            "outside": ["", "bits", ""],
        }
    )
    (found,) = expected_of_mixed(uniform, {"first": share, "second": 1 - share}, {"facts": 0.25}, 0.95).itertuples()
    assert min(first, second) - 1e-9 <= found.accuracy <= max(first, second) + 1e-9
    assert found.low <= found.accuracy <= found.high
    assert found.outside == "bits"
    (alone,) = expected_of_mixed(uniform, {"second": 1.0}, {"facts": 0.25}, 0.95).itertuples()
    assert alone.accuracy == pytest.approx(second)


def test_shares_are_those_of_the_weights():
    assert SHAPES.shares(MIXED) == {Precision(3, 128): 0.25, Precision(4, 128): 0.75}


def test_where_laws_speak_of_no_stratum_what_was_measured_is_weighed_all_the_same(analysis):
    rows = [measured("m", name, value) for name, value in (("bf16", 0.9), ("w3-g128-c32-s1", 0.6), (MIXED.name, 0.7))]
    of_all = [scatter for scatter in analysis.scatters if scatter.stratum == GENERAL]
    known = replace(analysis, scatters=of_all, variants=pd.concat(rows, ignore_index=True))
    found = plan(study_of(mixed=[IN_TWO_DRAWS]), known)
    means = {name: float(np.mean(list(one.accuracy.values()))) for name, one in found.items()}
    assert means == pytest.approx({"m w3-g128-c32-s0": 0.6, f"m {MIXED.name}": 0.7, "m bf16": 0.9})
    assert not any(one.note for one in found.values())


def test_another_model_of_the_same_name_is_not_taken_for_the_one_that_was_measured(with_original):
    known = replace(with_original, variants=measured("m", MIXED.name, 0.7))
    larger = replace(SHAPES, n_other=2 * SHAPES.n_other)
    study = study_of(mixed=[IN_TWO_DRAWS])
    of_same, of_other = (
        [
            one.accuracy["reasoning"]
            for one in candidates_of(study, {"m": shapes}, known, CONTEXT)
            if "mixed" in one.name
        ]
        for shapes in (SHAPES, larger)
    )
    assert of_same == [0.7] and 0.7 not in of_other
