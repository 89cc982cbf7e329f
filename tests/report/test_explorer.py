"""The explorer predicts what the command predicts, and holds everything that it shows."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.forms import FORMS, PAPER_LAW
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.simulation import paper_grid, simulate
from stratalaw.report.explorer import explorer_page
from tests.report.test_damage import damage_of


@pytest.fixture(scope="module")
def observations() -> pd.DataFrame:
    table = simulate(PAPER_LAW, {"A": 0.5, **EXPONENTS["reasoning"]}, paper_grid(), seed=0)
    return table.assign(n_params_nonembedding=0.8 * table.n_params)


@pytest.fixture(scope="module")
def analysis(observations) -> Analysis:
    return analyse(observations, [PAPER_LAW], resamples=100)


def data_of(page: str) -> dict:
    return json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_javascript_says_what_the_form_says(form):
    fitted = form.starts(3)[-1]
    factors = {"N": 0.7, "B": 3.0, "E": 3.3, "G": 64.0, "C": 32.0, "F": 0.2}
    rows = {name: np.array([value]) for name, value in factors.items()}
    accuracy, _ = form.evaluate(fitted, rows)
    # Math.log and its like are named in Python as they are in JavaScript.
    loss = eval(form.javascript(fitted).replace("Math.", "math."), {"math": math, **factors})
    assert math.exp(-loss - (factors["F"] if form.is_anchored else 0)) == pytest.approx(accuracy[0])


def test_the_page_holds_every_variant_and_no_address(observations, analysis):
    page = explorer_page("a </script> study", observations, damage_of(["w4-g128-c8-s0"]), analysis)
    data = data_of(page)
    assert data["study"] == "a </script> study"
    assert len(data["points"]) == len(observations) and len(data["models"]) == 5
    assert set(data["laws"]) == {"reasoning"} == set(data["strata"])
    law = data["laws"]["reasoning"]
    assert law["levels"]["bits"] == [3, 4, 8] and law["between"] > 0
    assert len(law["measured"]) == len(observations)
    assert page.index("loses in every stratum") < page.index("Predict a variant")  # what was lost comes first
    assert data["chance"] == {"reasoning": 0.25}
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)", page)


def test_variants_that_were_not_run_are_drawn_apart_with_what_the_surface_expects(observations, analysis):
    first = analysis.variants.iloc[:1]
    row = {
        "variant": "w3-g32-c7-s0",
        "calibration_size": 7.0,
        "kind": "predicted",
        "accuracy": 0.5,
        "low": 0.4,
        "high": 0.6,
    }
    predicted = first.assign(**row)
    data = data_of(
        explorer_page(
            "a study",
            observations,
            damage_of(["w4-g128-c8-s0"]),
            replace(analysis, variants=pd.concat([analysis.variants, predicted], ignore_index=True)),
        )
    )
    (point,) = [point for point in data["points"] if point.get("isPredicted")]
    assert point["variant"] == "w3-g32-c7-s0" and point["accuracy"] == {"reasoning": 0.5}
    name = f"{first.model.iloc[0]}|{first.bits.iloc[0]:g}|{first.group_size.iloc[0]:g}|7"
    assert data["laws"]["reasoning"]["expected"] == {name: [0.5, 0.4, 0.6]}
    assert len(data["points"]) == len(observations) + 1
