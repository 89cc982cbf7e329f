"""Figures show every model and bit-width, with what they are measured against."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from stratalaw.laws import form_named
from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.simulation import grid, simulate
from stratalaw.laws.tables import HEADLINE, captions
from stratalaw.report.figures import (
    changes_against_original,
    effects_at_low_bits,
    plot_laws,
    plot_observations,
    reference_variants,
    save,
)
from stratalaw.report.law_figures import WIDTH
from stratalaw.study import read_study
from stratalaw.study.description import describe_study
from tests.report.test_damage import damage_of

STRATA = ("memorization", "application", "reasoning")


@pytest.fixture(scope="module")
def observations() -> pd.DataFrame:
    parts = []
    for seed, stratum in enumerate(STRATA):
        values = {"A": 0.6} | EXPONENTS[stratum]
        part = simulate(form_named("paper"), values, grid(bits=(2, 3, 4, 8)), seed, stratum=stratum)
        baseline = part.groupby("model").head(1).assign(variant="bf16", bits=16, accuracy=0.95)
        parts += [part, baseline.assign(group_size=np.nan, calibration_size=np.nan, calibration_seed=np.nan)]
    table = pd.concat(parts, ignore_index=True).assign(stderr=0.01, paired_stderr=0.005)
    table = table.assign(paired_difference=table.accuracy - 0.95, held_out=table.n_params == table.n_params.max())
    return table


@pytest.fixture(scope="module")
def figures(observations) -> dict:
    return plot_observations(observations, damage_of(["w4-g128-c8-s0", "w3-g128-c8-s0"])) | plot_laws(
        observations, analyse(observations, [form_named("paper"), form_named("anchored")], resamples=20)
    )


@pytest.fixture(autouse=True, scope="module")
def close_figures():
    yield
    plt.close("all")


def test_accuracy_has_a_panel_for_each_stratum_and_a_curve_for_each_model(figures, observations):
    panels = figures["accuracy"].axes
    assert [panel.get_title() for panel in panels] == list(STRATA)
    for panel in panels:
        assert len(panel.containers) == observations.model.nunique()
        assert [label.get_text() for label in panel.get_xticklabels()] == ["2", "3", "4", "8", "bf16"]
        horizontal = [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() in (":", "--")]
        assert 25 in np.round(horizontal, 6)  # chance
        assert 95 in np.round(horizontal, 6)  # a baseline


def test_changes_have_a_row_for_each_variant_with_its_interval_and_where_guessing_would_be(figures):
    panels = figures["damage"].axes
    assert [panel.get_title() for panel in panels] == ["general", "memorization", "reasoning"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["r2 w4-g128-c8-s0", "r2 w3-g128-c8-s0"]
    assert all(len(panel.containers) == 2 for panel in panels)
    assert {"4 bits", "3 bits", "guessing"} <= {text.get_text() for text in figures["damage"].legends[0].get_texts()}


def test_of_many_variants_the_changes_have_a_row_for_each_width():
    damage = damage_of(["w4-g128-c8-s0", "w3-g128-c8-s0"])
    many = pd.concat([damage.assign(variant=damage.variant.str.replace("c8", f"c{size}")) for size in range(8, 40)])
    panel = changes_against_original(many, pd.Series({"memorization": 0.25, "reasoning": 0.25})).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["r2 4 bits", "r2 3 bits"]


def test_the_report_need_not_shrink_a_figure_nor_its_text(figures):
    for name, figure in figures.items():
        assert figure.get_figwidth() <= WIDTH, name
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(text.get_fontsize() for text in texts) * 96 / 72 >= 12, name  # pixels


def test_the_legend_of_the_exponents_names_the_method_that_the_caption_names(figures, observations):
    legend = figures["exponents"].legends[0].get_texts()[0].get_text()
    analysis = Analysis.without_laws("no law")
    caption = captions(analysis, describe_study(read_study(Path("config/demo.yaml"))))["exponents"]
    assert HEADLINE in legend and f"of {HEADLINE}:" in caption


def test_curves_show_the_largest_group_and_calibration_set(observations):
    quantized = reference_variants(observations).query("variant != 'bf16'")
    assert set(quantized.group_size) == {1024} and set(quantized.calibration_size) == {1024}


def test_effects_have_both_factors_at_low_bits(figures):
    panels = figures["effects"].axes
    assert len(panels) == 2 * len(STRATA)
    assert {panel.get_xlabel() for panel in panels} == {"group size", "calibration samples"}
    assert all(len(panel.containers) == 3 for panel in panels)  # 2, 3 and 4 bits


def test_effects_compare_the_models_that_have_all_values_of_the_factor(observations):
    """A model that is better than the others has large groups only: it would make them look better."""
    good = (observations.model == observations.model.iloc[0]) & (observations.variant != "bf16")
    table = observations.assign(paired_difference=observations.paired_difference.mask(good, 0.5))
    drawn, without = (
        [
            line.get_ydata()
            for panel in effects_at_low_bits(part).axes
            if panel.get_xlabel() == "group size"
            for line in panel.lines
        ]
        for part in (table[~good | (table.group_size == 1024)], table[~good])
    )
    assert all(np.array_equal(one, other) for one, other in zip(drawn, without, strict=True))


def test_every_factor_of_the_residuals_is_named(figures):
    labels = [panel.get_xlabel() for panel in figures["residuals"].axes]
    assert [label for label in labels if label] == ["parameters", "bits", "group size", "calibration samples"]


def test_published_exponents_stand_beside_ours(figures):
    for panel in figures["exponents"].axes:
        diamonds = [line for line in panel.lines if line.get_marker() == "D"]
        assert len(diamonds) == 4


def test_the_same_figure_is_the_same_file(observations, tmp_path):
    for name in ("one.svg", "two.svg"):
        save(plot_observations(observations, damage_of([]))["accuracy"], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.svg").stat().st_size > 10_000
