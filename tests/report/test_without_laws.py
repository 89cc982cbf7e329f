"""A study that supports no law, or not in every stratum, is reported all the same."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from docutils.core import publish_string
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.laws import FitError
from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.table import read_observations
from stratalaw.laws.tables import exponents_table, write_tables
from stratalaw.layout import FIGURES, LAWS
from stratalaw.report.explorer import explorer_page
from stratalaw.report.figures import plot_laws, plot_observations
from stratalaw.report.summary import summarize
from stratalaw.study import read_study
from tests.report.test_damage import damage_of
from tests.report.test_explorer import data_of

WHY = "no law was fitted: memorization: too few usable rows (1) for the parameters of the law (1)"
VARIANT = "w8-g128-c128-s0"


@pytest.fixture(scope="module")
def ladder() -> pd.DataFrame:
    return read_observations(Path("docs/studies/first-ladder/observations.csv"))


@pytest.fixture(scope="module")
def observations(ladder) -> pd.DataFrame:
    """One model and one variant."""
    chosen = ladder[(ladder.model == "r2") & ladder.variant.isin(["bf16", VARIANT])]
    return chosen.reset_index(drop=True).assign(paired_difference=0.0, paired_stderr=0.01)


@pytest.fixture(scope="module")
def analysis(observations) -> Analysis:
    with pytest.raises(FitError) as refused:
        analyse(observations)
    return Analysis.without_laws(str(refused.value))


@pytest.fixture(autouse=True, scope="module")
def close_figures():
    yield
    plt.close("all")


def test_it_comes_back_from_its_file_and_is_shown_with_the_reason(analysis, tmp_path):
    assert analysis.why_no_laws == WHY
    analysis.write(tmp_path / "laws.json")
    assert Analysis.read(tmp_path / "laws.json").notes == [WHY]
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "laws.json")])
    assert shown.exit_code == 0 and WHY in " ".join(shown.output.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "--n-params", "1e6", "--bits", "4"],
        ["plan", "config/demo.yaml", "--memory", "1GB"],
        ["select", "config/demo.yaml", "--seconds", "docs/studies/ladder/seconds.csv", "--gpu-hours", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_laws_is_refused_in_one_line(analysis, tmp_path, arguments):
    analysis.write(tmp_path / "laws.json")
    refused = CliRunner().invoke(app, [*arguments, "--laws", str(tmp_path / "laws.json")])
    assert refused.exit_code == 1 and refused.output.splitlines() == [f"{tmp_path / 'laws.json'}: {WHY}"]


def test_tables_hold_the_reason(analysis, tmp_path):
    write_tables(analysis, {name: tmp_path / f"{name}.csv" for name in ("exponents", "forms", "verdicts")})
    assert all(pd.read_csv(path).note.tolist() == [WHY] for path in tmp_path.glob("*.csv"))


def test_figures_of_laws_say_why_and_those_of_observations_show_what_there_is(analysis, observations):
    figures = plot_laws(observations, analysis)
    assert list(figures) == [name for name, (chapter, _) in FIGURES.items() if chapter == LAWS]
    for figure in figures.values():
        assert figure.texts[0].get_text().replace("\n", " ") == f"N{WHY[1:]}."
    observed = plot_observations(observations, damage_of([]))
    assert len(observed["accuracy"].axes) == 3
    assert observed["damage"].texts[0].get_text() == "No quantized variant was observed."
    assert observed["effects"].texts[0].get_text() == "No variant of fewer than 8 bits was observed."


def test_the_explorer_shows_what_was_observed_and_says_why(analysis, observations):
    data = data_of(explorer_page("small", observations, damage_of(["w8-g128-c8-s0"]), analysis))
    assert data["laws"] == {} and data["whyNoLaws"] == f"N{WHY[1:]}."
    assert set(data["strata"]) == {"general", "memorization", "application", "reasoning"}
    assert len(data["points"]) == 2


def test_the_summary_has_the_damage_first_and_the_reason(analysis, observations):
    text = summarize(read_study(Path("config/demo.yaml")), observations, damage_of(["w8-g128-c8-s0"]), analysis)
    findings, damage, *_ = text.split("\n\n")
    assert findings.startswith("**Findings.** Variants that lose more than") and f"N{WHY[1:]}." in findings
    assert damage.startswith("**What was lost**") and "The paper's law" not in text
    page = publish_string(text, writer_name="html", settings_overrides={"report_level": 1, "halt_level": 5}).decode()
    assert "System Message" not in page and re.search(r"<td>r2\s+w8-g128-c8-s0</td>", page)


def test_a_stratum_without_a_law_can_be_looked_at_beside_the_others(ladder):
    chosen = ladder[ladder.model.isin(["r1", "r3"]) & ((ladder.bits == 16) | (ladder.group_size == 128))]
    at_chance = chosen.accuracy.mask(chosen.stratum == "reasoning", 0.2)
    analysis = analyse(chosen.assign(accuracy=at_chance).reset_index(drop=True), [], resamples=100)
    assert analysis.laws and not analysis.why_no_laws
    exponents = exponents_table(analysis)  # of two models, whose interval may be narrow by chance
    assert exponents.model_low.isna().all() and exponents.low.notna().all() and 2 in set(exponents.models)
    assert any(note.startswith("reasoning has no law: ") for note in analysis.notes)
    data = data_of(explorer_page("small", chosen, damage_of(["w8-g128-c8-s0"]), analysis))
    assert set(data["strata"]) - set(data["laws"]) == {"reasoning"}
    assert data["whyNoLaws"] == "No law was fitted to this stratum."


def test_a_stratum_of_fewer_models_does_not_stop_the_others(ladder):
    chosen = ladder[ladder.model.isin(["r1", "r2", "r3"]) & ((ladder.bits == 16) | (ladder.group_size == 128))]
    lacks = (chosen.stratum == "memorization") & (chosen.model != "r1")
    table = chosen[~lacks].reset_index(drop=True).assign(paired_difference=0.0, paired_stderr=0.01)
    analysis = analyse(table, [], resamples=100)
    assert {law.stratum: "alpha" in law.params for law in analysis.laws}["memorization"] is False
    assert set(analysis.held_out.stratum) == {"application", "reasoning"}
    plot_laws(table, analysis)
    text = summarize(read_study(Path("config/demo.yaml")), table, damage_of(["w4-g128-c8-s0"]), analysis)
    assert "- memorization: β = " in text
    best = re.search(r"\*\*Best on sizes.*", text)
    assert best is not None and "reasoning: " in best[0] and "memorization: " not in best[0]


def test_rows_between_which_no_factor_varies_have_a_law_without_exponents(ladder):
    one = ladder[(ladder.model == "r2") & (ladder.variant == "w4-g128-c128-s0")]
    again = one.assign(variant="w4-g128-c128-s1", calibration_seed=1, accuracy=one.accuracy - 0.01)
    table = pd.concat([one, again], ignore_index=True)
    analysis = analyse(table, [], resamples=100)
    text = plot_laws(table, analysis)["exponents"].texts[0].get_text()
    assert text == "No factor varies among the rows of the fit, so there is no exponent."
