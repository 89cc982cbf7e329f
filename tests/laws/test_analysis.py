"""The whole analysis, from a table to a folder, as ``stratalaw fit`` makes it."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.laws import form_named
from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.simulation import grid, simulate
from stratalaw.laws.table import check_observations
from stratalaw.report.folder import write_report

STRATA = ("memorization", "application", "reasoning")
FEW_FORMS = [form_named("paper"), form_named("exponential")]


@pytest.fixture(scope="module")
def observations() -> pd.DataFrame:
    """Three strata that follow the published laws, with a held-out model."""
    variants = grid(bits=(3, 4, 8), group_sizes=(32, 128), calibration_sizes=(8, 128))
    tables = [
        simulate(form_named("paper"), {"A": 0.6} | EXPONENTS[stratum], variants, seed, stratum=stratum)
        for seed, stratum in enumerate(STRATA)
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(held_out=table.n_params == table.n_params.max())


@pytest.fixture(scope="module")
def analysis(observations) -> Analysis:
    return analyse(observations, FEW_FORMS, resamples=100)


@pytest.fixture(scope="module")
def one_stratum(observations) -> pd.DataFrame:
    """One stratum of them, where more would say the same."""
    return observations[observations.stratum == "memorization"]


@pytest.fixture(scope="module")
def two_strata(observations) -> pd.DataFrame:
    """Two of them, where strata are compared."""
    return observations[observations.stratum != "application"]


@pytest.fixture(scope="module")
def of_the_paper(one_stratum) -> Analysis:
    """Its analysis by the paper's form alone, and of few resamples."""
    return analyse(one_stratum, [form_named("paper")], resamples=20)


def test_exponents_lie_in_their_intervals(analysis):
    for row in analysis.intervals[analysis.intervals.method == "regression (HC3)"].itertuples():
        assert row.low <= row.value <= row.high
    assert {record.stratum for record in analysis.forms} == {*STRATA, "general"}
    assert len(analysis.verdicts) == 10


def test_an_analysis_comes_back_from_its_file(analysis, tmp_path):
    analysis.write(tmp_path / "laws.json")
    again = Analysis.read(tmp_path / "laws.json")
    assert again.forms == analysis.forms
    assert repr(again.verdicts) == repr(analysis.verdicts)
    assert [law.summary() for law in again.laws] == [law.summary() for law in analysis.laws]
    assert again.notes == analysis.notes
    assert len(again.intervals) == len(analysis.intervals)


def test_the_same_table_gives_the_same_analysis(one_stratum, of_the_paper):
    again = analyse(one_stratum, [form_named("paper")], resamples=20)
    assert json.dumps(again.to_dict()) == json.dumps(of_the_paper.to_dict())


def test_the_needed_columns_suffice(tmp_path):
    table = simulate(form_named("size-bits"), {"A": 0.6, "alpha": -0.3, "beta": -1.2}, grid(bits=(3, 4, 8)), seed=0)
    table = table.drop_duplicates(["n_params", "bits"])[["n_params", "bits", "stratum", "accuracy", "chance"]]
    found = analyse(table, FEW_FORMS, resamples=20)
    (law,) = found.laws
    assert list(law.params.index) == ["A", "alpha", "beta"]
    assert np.isfinite(found.intervals[found.intervals.method == "models and items resampled"][["low", "high"]]).all(
        None
    )
    assert "rows without n_items or stderr: intervals do not contain their item noise" in found.notes
    write_report(check_observations(table), found, tmp_path)
    assert (tmp_path / "profiles.svg").exists() and (tmp_path / "residuals.svg").exists()


def test_a_stratum_at_chance_is_named_and_the_others_are_fitted(two_strata):
    at_chance = two_strata.accuracy.mask(two_strata.stratum == "reasoning", two_strata.chance)
    found = analyse(two_strata.assign(accuracy=at_chance), [form_named("paper")], resamples=20)
    assert {law.stratum for law in found.laws} == {"memorization", "general"}
    assert any(note.startswith("reasoning has no law: ") for note in found.notes)


def test_collapsed_rows_count_where_forms_predict_what_they_have_not_seen(one_stratum):
    one = (one_stratum.model == one_stratum.model.iloc[0]) & (one_stratum.bits == 3)
    collapsed = one_stratum.assign(accuracy=one_stratum.accuracy.mask(one, one_stratum.chance - 0.01))
    found = analyse(collapsed, [form_named("paper")], resamples=20).held_out
    assert (found[found.form == "paper"].observed <= 0).sum() == one.sum() > 0


def test_of_several_families_each_has_its_intercept_and_all_share_the_slopes(one_stratum, of_the_paper):
    few = one_stratum[one_stratum.n_params < 2e9].assign(family="other")
    few["model"] = few.model + "-other"
    found = analyse(pd.concat([few, one_stratum], ignore_index=True), [form_named("paper")], resamples=20)
    for law, expected in zip(found.laws, of_the_paper.laws, strict=True):
        assert law.form.families == ("other", "simulated")
        assert law.params["beta"] == pytest.approx(expected.params["beta"], abs=0.1)
    assert all("each family" in record.held_out for record in found.forms)
    assert found.notes[0].startswith("2 families (other, simulated): each has its own intercept")


def test_other_methods_are_kept_apart(one_stratum, of_the_paper):
    other = one_stratum[one_stratum.bits == 3].assign(method="AWQ", accuracy=0.3)
    table = pd.concat([one_stratum.assign(method="GPTQ"), other], ignore_index=True)
    found = analyse(table, [form_named("paper")], resamples=20)
    assert [law.params.to_dict() for law in found.laws] == [law.params.to_dict() for law in of_the_paper.laws]
    assert "laws are fitted to rows of GPTQ; those of AWQ are left out" in found.notes


def test_the_command_writes_tables_figures_and_the_checklist(two_strata, tmp_path):
    two_strata.to_csv(tmp_path / "observations.csv", index=False)
    arguments = ["fit", str(tmp_path / "observations.csv"), "--out", str(tmp_path / "out"), "--resamples", "100"]
    result = CliRunner().invoke(app, [*arguments, "--form", "paper", "--form", "exponential", "--holdout", "6e+08"])
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    for text in ("alpha", "memorization", "not decided", "left out: 24 x model held out"):
        assert text in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"exponents.csv", "models.csv", "forms.csv", "verdicts.csv", "families.csv", "needs.csv"}
    assert {"laws.json", "checklist.md"} | tables <= names
    figures = ("predicted", "residuals", "exponents", "intervals", "profiles", "forms", "held_out")
    assert {f"{name}.{suffix}" for name in figures for suffix in ("svg", "png")} <= names
    assert "| Starts |" in (tmp_path / "out" / "checklist.md").read_text()
    assert set(pd.read_csv(tmp_path / "out" / "forms.csv").form) == {"paper", "exponential", "mean", "size-bits-table"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--form", "cubic"], "there is no form cubic; there are paper,"),
        (["--holdout", "r9"], "there is no model r9 to hold out; there are"),
    ],
)
def test_the_command_names_what_it_does_not_know(observations, tmp_path, arguments, message):
    observations.to_csv(tmp_path / "observations.csv", index=False)
    result = CliRunner().invoke(app, ["fit", str(tmp_path / "observations.csv"), *arguments])
    assert result.exit_code == 1
    assert message in result.output and "Traceback" not in result.output


def test_a_table_of_many_draws_has_the_laws_of_their_means(observations):
    """The same draw many times over is the draw itself, and a note says that draws were averaged."""
    few = observations[observations.stratum == "reasoning"]
    repeated = pd.concat([few.assign(calibration_seed=s, variant=few.variant + f"-{s}") for s in range(20)])
    found = analyse(repeated, FEW_FORMS[:1], resamples=20)
    (note,) = (note for note in found.notes if note.startswith("1,200 variants of 60 settings"))
    assert "averaged" in note
    once = analyse(few, FEW_FORMS[:1], resamples=20)
    np.testing.assert_allclose(found.laws[0].params, once.laws[0].params, rtol=1e-12)
    np.testing.assert_allclose(found.laws[0].covariance, once.laws[0].covariance, rtol=1e-9)


def test_items_are_not_resampled_together_where_variants_were_asked_different_ones(one_stratum):
    random = np.random.default_rng(0)
    task = one_stratum.benchmark.iloc[0]
    names = one_stratum[["model", "variant", "stratum"]].assign(task=task)
    items = names.merge(pd.DataFrame({"document": range(50)}), how="cross")
    items["score"] = random.integers(0, 2, len(items)).astype(float)
    found = analyse(one_stratum, [form_named("paper")], items[:-20], resamples=20)
    note = "variants were asked different numbers of items: item noise is taken as independent between them"
    assert note in found.notes
    assert np.isfinite(found.intervals[found.intervals.method.str.contains("items")][["low", "high"]]).all(None)
