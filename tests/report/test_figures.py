"""Figures show every model and bit-width, with what they are measured against."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import form_named
from stratalaw.laws.analysis import analyse
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.simulation import grid, simulate
from stratalaw.report.figures import plot_laws, plot_observations, reference_variants, save

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
    return plot_observations(observations) | plot_laws(
        observations, analyse(observations, [form_named("paper"), form_named("anchored")], resamples=50)
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


def test_curves_show_the_largest_group_and_calibration_set(observations):
    quantized = reference_variants(observations).query("variant != 'bf16'")
    assert set(quantized.group_size) == {1024} and set(quantized.calibration_size) == {1024}


def test_effects_have_both_factors_at_low_bits(figures):
    panels = figures["effects"].axes
    assert len(panels) == 2 * len(STRATA)
    assert {panel.get_xlabel() for panel in panels} == {"group size", "calibration samples"}
    assert all(len(panel.containers) == 3 for panel in panels)  # 2, 3 and 4 bits


def test_every_factor_of_the_residuals_is_named(figures):
    labels = [panel.get_xlabel() for panel in figures["residuals"].axes]
    assert [label for label in labels if label] == ["parameters", "bits", "group size", "calibration samples"]


def test_published_exponents_stand_beside_ours(figures):
    for panel in figures["exponents"].axes:
        diamonds = [line for line in panel.lines if line.get_marker() == "D"]
        assert len(diamonds) == 4


def test_the_same_figure_is_the_same_file(observations, tmp_path):
    for name in ("one.svg", "two.svg"):
        save(plot_observations(observations)["accuracy"], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.svg").stat().st_size > 10_000
