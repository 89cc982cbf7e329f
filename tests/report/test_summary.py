"""The report's landing page says what was run and what came out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_string

from stratalaw.laws import form_named
from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.simulation import grid, simulate
from stratalaw.report.summary import summarize
from stratalaw.study import read_study
from stratalaw.study.description import describe_study
from tests.report.test_damage import damage_of

STUDY = read_study(Path("config/ladder.yaml"))


@pytest.fixture(scope="module")
def text() -> str:
    tables = [
        simulate(form_named("paper"), {"A": 0.6} | EXPONENTS[stratum], grid(bits=(2, 3, 4)), seed, stratum=stratum)
        for seed, stratum in enumerate(EXPONENTS)
        if stratum != "general"
    ]
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(held_out=table.n_params == table.n_params.max(), stderr=np.nan)
    damage = damage_of(["w4-g128-c8-s0", "w3-g128-c8-s0"])
    return summarize(STUDY, table, damage, analyse(table, [form_named("paper")], resamples=20))


def test_captions_know_the_study():
    about = describe_study(STUDY)
    q = "q1, q2, q3, q4, q5, q6, q7"
    assert about["variants"] == "782"
    assert about["models"] == f"{q}, q8 (held out), {q.replace('q', 'l')}, l8 (held out)"
    assert (about["bits"], about["group_sizes"]) == ("2, 3, 4, 8", "16, 32, 64, 128")
    assert "8 bits: G = 128, C = 128" in about["largest"]
    assert "reasoning: ladder_arithmetic, ladder_paths" in about["benchmarks"]


def test_every_question_has_its_line(text):
    for line in ("**What was run.** 240 of 782 GPTQ variants", "**Accuracy**", "**The paper's law**", "**Held out**"):
        assert line in text
    for stratum in ("memorization", "application", "reasoning", "general"):
        assert f"- {stratum}: α = -0." in text
    assert "left out: 64 × 2 bits (phase transition), 48 × model held out" in text


def test_a_study_of_mixtures_alone_says_what_was_run():
    study = read_study(Path("config/ladder-mixtures.yaml"))
    originals = (
        study.variants()
        .query("variant == 'bf16'")
        .assign(n_params=1000, bits=16, stratum="reasoning", benchmark="b", chance=0.2, n_items=10, accuracy=0.5)
    )
    said = summarize(study, originals, damage_of(["w4-g128-c8-s0-even"]), Analysis.without_laws("none"))
    mixtures = "variants calibrated on mixtures (memorization, application, reasoning, even)"
    assert f"**What was run.** {mixtures}, of 6 models (q3, " in said
    assert "1 of 1 calibrated on mixtures" in said and "r2 w4-g128-c8-s0-even" in said


def test_it_is_sound_restructured_text(text):
    page = publish_string(text, writer_name="html", settings_overrides={"report_level": 1, "halt_level": 5}).decode()
    assert "System Message" not in page
    assert "<table" in page and "<sup>α</sup>" in page
