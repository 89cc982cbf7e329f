"""Figures of a study: what was observed, and what the laws make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stratalaw.damage.table import ALL, GENERAL
from stratalaw.files import appears_whole
from stratalaw.laws.analysis import Analysis
from stratalaw.layout import FIGURES, LAWS
from stratalaw.report.damage import MOST_SHOWN, SIGNIFICANT
from stratalaw.report.damage import strata_of as strata_of_damage
from stratalaw.report.findings import as_sentence, chances
from stratalaw.report.law_figures import (
    BITS_COLORS,
    LAW_CAPTIONS,
    WIDTH,
    exponents_beside_published,
    forms_compared,
    grid_of_panels,
    held_out_parity,
    intervals_by_method,
    likelihood_profiles,
    predicted_against_observed,
    residuals_against_factors,
    sentence,
)
from stratalaw.report.matching import matched, with_settings
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME
from stratalaw.units import readable_count

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

HIGH_BITS = 8  # at which nothing is lost
STYLE: dict[RcKeyType, object] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9.5,  # points: 12.7 pixels
    "axes.titlesize": 11,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "stratalaw",  # the same figure is the same file
}


def plot_observations(observations: pd.DataFrame, damage: pd.DataFrame) -> dict[str, Figure]:
    """What was observed: figures by their names; ``damage``: the damage table."""
    with plt.rc_context(STYLE):
        return {
            "damage": changes_against_original(damage, chances(observations)),
            "accuracy": accuracy_by_bits(observations),
            "effects": effects_at_low_bits(observations),
        }


def plot_laws(observations: pd.DataFrame, analysis: Analysis) -> dict[str, Figure]:
    """What the laws make of it: figures by their names."""
    with plt.rc_context(STYLE):
        if not analysis.laws:
            names = [name for name, (chapter, _) in FIGURES.items() if chapter == LAWS]
            return {name: sentence(as_sentence(analysis.why_no_laws)) for name in names}
        return {
            "predicted": predicted_against_observed(observations, analysis.laws),
            "residuals": residuals_against_factors(observations, analysis.laws),
            "exponents": exponents_beside_published(analysis),
            "intervals": intervals_by_method(analysis),
            "profiles": likelihood_profiles(analysis),
            "forms": forms_compared(analysis),
            "held_out": held_out_parity(analysis),
        }


def captions_of(about: Mapping[str, str]) -> dict[str, str]:
    """What the report says of each figure, as reStructuredText; ``about``: the study (see ``study.description``)."""
    return {
        "accuracy": (
            f"Accuracy by bits, stratum and model ({about['models']}). For each bit-width the variant with the largest "
            f"group and calibration set is shown ({about['largest']}). Bars are standard errors over items (mean over "
            f"the benchmarks of a stratum: {about['benchmarks']}). Dashed: the model in bf16. Dotted: chance."
        ),
        "effects": (
            f"Change of accuracy against bf16 on the same items, by group size ({about['group_sizes']}) and by "
            f"calibration samples ({about['calibration_sizes']}, of {about['calibration_tokens']} tokens each), below "
            f"{HIGH_BITS} bits; mean over the models and settings that have all of the values shown. Bars are "
            "standard errors of the paired differences over items; they do not contain the draw of the calibration set."
        ),
        **LAW_CAPTIONS,
    }


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG or PNG; the same figure is the same file."""
    with plt.rc_context(STYLE), appears_whole(path) as unfinished:
        if (layout := figure.get_layout_engine()) is not None:
            # Else it would be laid out anew for each file, which takes as long as to draw it.
            layout.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(unfinished, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def strata_of(observations: pd.DataFrame) -> list[str]:
    return list(observations.stratum.unique())


def stratum_means(observations: pd.DataFrame, by: Sequence[str], value: str, error: str) -> pd.DataFrame:
    """Mean of a value over the benchmarks of each group, with its standard error from those of the benchmarks."""
    grouped = observations.groupby(list(by), sort=False, dropna=False)
    errors = grouped[error].agg(lambda errors: np.sqrt((errors**2).sum()) / len(errors))
    return pd.DataFrame({"mean": grouped[value].mean(), "stderr": errors}).reset_index()


def changes_against_original(damage: pd.DataFrame, chance: pd.Series) -> Figure:
    """The change of accuracy of each variant against its original, with its interval, a panel for each stratum.

    A row is a variant; of studies with many, it is all variants of a model and a width. Filled: significant.
    Grey: where guessing would be.

    Args:
        damage: the damage table.
        chance: the accuracy of guessing, by stratum.
    """
    means = with_settings(damage[damage.benchmark == ALL])
    if means.empty:
        return sentence("No quantized variant was observed.")
    strata = strata_of_damage(means)
    chance = pd.concat([chance.drop(GENERAL, errors="ignore"), pd.Series({GENERAL: chance.mean()})])
    one_by_one = means.groupby(["model", "variant"]).ngroups <= MOST_SHOWN
    means = means.sort_values(["bits"], ascending=False, kind="stable")
    rows = means.model + " " + (means.variant if one_by_one else means.bits.astype(str) + " bits")
    names = [name for model in damage.model.unique() for name in dict.fromkeys(rows[means.model == model])]
    places = {name: -place for place, name in enumerate(names)}
    figure, panels = plt.subplots(
        1, len(strata), figsize=(WIDTH, 1.3 + 0.22 * len(names)), sharex=True, sharey=True, squeeze=False
    )
    for panel, stratum in zip(panels[0], strata, strict=True):
        chosen = means.stratum == stratum
        own, place = means[chosen], rows[chosen].map(places).to_numpy(float)
        # Variants of one row are spread upwards, in their order.
        order, together = own.groupby(rows[chosen]).cumcount(), own.groupby(rows[chosen]).variant.transform("size")
        place = place + (0.7 * ((order + 0.5) / together - 0.5)).to_numpy()
        for (bits, is_sure), part in own.assign(place=place).groupby(["bits", own.p_holm < SIGNIFICANT]):
            colour = BITS_COLORS.get(bits, "black")
            panel.errorbar(
                100 * part.difference,
                part.place,
                xerr=100 * np.abs([part.difference - part.low, part.high - part.difference]),
                fmt="o",
                ms=3.5,
                color=colour,
                mfc=colour if is_sure else "white",
                lw=1.3 if one_by_one else 0.5,
            )
        guessing = 100 * (chance.get(stratum, np.nan) - own.accuracy_original)
        panel.plot(guessing, place, "|", color="grey", ms=7)
        panel.axvline(0, color="grey", lw=0.8, ls="--")
        for model in damage.model.unique()[1:]:
            first = next(place for name, place in places.items() if name in set(rows[means.model == model]))
            panel.axhline(first + 0.5, color="lightgrey", lw=0.8)
        panel.set_title(stratum)
        panel.margins(y=0.5 / len(names))
    panels[0, 0].set_yticks(list(places.values()), names)
    figure.suptitle("Change of accuracy against the original, in points, with 95 % intervals", fontsize="medium")
    handles = [
        *(
            Line2D([], [], ls="", marker="o", color=BITS_COLORS.get(bits, "black"), label=f"{bits} bits")
            for bits in sorted(means.bits.unique(), reverse=True)
        ),
        Line2D([], [], ls="", marker="o", color="black", mfc="white", label="not significant"),
        Line2D([], [], ls="", marker="|", color="grey", ms=7, label="guessing"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def accuracy_by_bits(observations: pd.DataFrame) -> Figure:
    """Accuracy against bits for each model and stratum, at the largest group and calibration set of each bit-width.

    Bars are standard errors over items; the dashed line of a model is its bf16 baseline, the dotted one is chance.
    """
    strata = strata_of(observations)
    sizes = observations.groupby("model", sort=False).n_params.first().sort_values()
    colors = dict(zip(sizes.index, plt.get_cmap("viridis")(np.linspace(0, 0.85, len(sizes))), strict=True))
    shown = reference_variants(observations)
    means = stratum_means(shown, ["stratum", "model", "bits"], "accuracy", "stderr")
    places = {bits: place for place, bits in enumerate(sorted(means.bits.unique()))}
    figure, panels = grid_of_panels(strata, height=4)
    for panel, stratum in zip(panels, strata, strict=True):
        for model, size in sizes.items():
            curve = means[(means.stratum == stratum) & (means.model == model)].sort_values("bits")
            panel.errorbar(
                curve.bits.map(places),
                100 * curve["mean"],
                100 * curve.stderr,
                color=colors[model],
                marker="o",
                ms=4,
                lw=1.5,
                capsize=2,
                label=f"{model} ({readable_count(size)})",
            )
            baseline = curve[curve.bits == BASELINE_BITS]["mean"]
            if len(baseline):
                panel.axhline(100 * baseline.iloc[0], color=colors[model], ls="--", lw=0.7, alpha=0.6)
        plot_chance(panel, observations[observations.stratum == stratum])
        panel.set_xticks(list(places.values()), [bits_label(bits) for bits in places])
        panel.set_xlabel("bits of a weight")
    figure.supylabel("accuracy, %", fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, len(sizes)))
    return figure


def bits_label(bits: int) -> str:
    return "bf16" if bits == BASELINE_BITS else str(bits)


def plot_chance(panel: Axes, observations: pd.DataFrame) -> None:
    chance = 100 * observations.groupby("benchmark").chance.first().mean()
    panel.axhline(chance, color="grey", ls=":", lw=1)
    panel.annotate(
        "chance",
        (1, chance),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color="grey",
    )


def reference_variants(observations: pd.DataFrame) -> pd.DataFrame:
    """The baseline, and of each bit-width the variants with its largest group and calibration set."""
    quantized = observations[observations.variant != BASELINE_NAME]
    largest = quantized.groupby("bits")[["group_size", "calibration_size"]].transform("max")
    reference = (quantized[["group_size", "calibration_size"]] == largest).all(axis=1)
    return pd.concat([observations[observations.variant == BASELINE_NAME], quantized[reference]])


def effects_at_low_bits(observations: pd.DataFrame) -> Figure:
    """Mean change against bf16 by group size (above) and by calibration size (below), for each stratum and low bits.

    Means are over the models and settings that have all values of the factor; bars are standard errors of the paired
    differences over items.
    """
    strata = strata_of(observations)
    low = observations[(observations.variant != BASELINE_NAME) & (observations.bits < HIGH_BITS)]
    if low.empty:
        return sentence(f"No variant of fewer than {HIGH_BITS} bits was observed.")
    factors = {"group_size": "group size", "calibration_size": "calibration samples"}
    figure, panels = plt.subplots(len(factors), len(strata), figsize=(WIDTH, 5.8), sharey=True, squeeze=False)
    for row, (factor, label) in zip(panels, factors.items(), strict=True):
        for panel, stratum in zip(row, strata, strict=True):
            widths = [rows for _, rows in low[low.stratum == stratum].groupby("bits")]
            compared = pd.concat([matched(rows, factor, list(rows[factor].unique())) for rows in widths])
            means = stratum_means(compared, ["bits", factor], "paired_difference", "paired_stderr")
            levels = sorted(means[factor].unique())
            for bits, curve in means.sort_values(factor).groupby("bits"):
                panel.errorbar(
                    curve[factor].map(levels.index),
                    100 * curve["mean"],
                    100 * curve.stderr,
                    color=BITS_COLORS.get(bits, "black"),
                    marker="o",
                    ms=4,
                    lw=1.5,
                    capsize=2,
                    label=f"{bits} bits",
                )
            panel.axhline(0, color="grey", ls="--", lw=0.8)
            panel.set_xticks(range(len(levels)), ["row" if level == -1 else level for level in levels])
            panel.set_xlabel(label)
        row[0].set_ylabel("change against bf16, points")
    for panel, stratum in zip(panels[0], strata, strict=True):
        panel.set_title(stratum)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(BITS_COLORS))
    return figure
