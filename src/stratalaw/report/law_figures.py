"""Figures of the laws: what they predict, what they miss, and how sure they are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.stats import chi2

from stratalaw.laws.analysis import Analysis
from stratalaw.laws.comparison import EACH_BITS, EACH_SIZE, LARGEST, of_stratum, strata_of
from stratalaw.laws.exponents import ACCURACY
from stratalaw.laws.fit import LawFit
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.intervals import used_rows
from stratalaw.laws.rows import stratum_accuracies
from stratalaw.laws.table import GENERAL
from stratalaw.laws.tables import HEADLINE, headline_exponents
from stratalaw.study.variants import BASELINE_BITS
from stratalaw.units import readable_count

STRATUM_COLORS = {
    "memorization": "#3b6fb6",
    "application": "#d1862c",
    "reasoning": "#4f9a57",
    GENERAL: "#555555",
}
BITS_COLORS: Mapping[Hashable, str] = {2: "#b2182b", 3: "#e0862f", 4: "#4393c3", 8: "#2d3e6e"}
ERROR_TICKS = (1, 2, 5, 10, 20, 50)  # points
LEVEL = 0.95
PROFILE_LIMIT = float(chi2.ppf(LEVEL, 1))
WIDTH = 8.2  # inches: 787 pixels, what the report's menu leaves of a window of 1,280
LAW_CAPTIONS = {
    "predicted": (
        "Adjusted accuracy as the paper's law predicts it against what was observed, for every variant. Filled: rows "
        "that the law was fitted to. Open: held-out models (diamonds) and 2 bits, which the fit leaves out. The "
        "adjusted R² is that of the regression on the logarithms, not of the points shown."
    ),
    "residuals": (
        "Observed minus predicted adjusted accuracy of the paper's law against each factor, for the rows that it was "
        "fitted to. A trend shows what the form misses."
    ),
    "intervals": (
        "Exponents of the paper's law with 95 % intervals by method: the regression's own (robust to unequal "
        "variances), models resampled, items resampled (jointly over variants), both, least squares in accuracy space, "
        "the profile likelihood, which keeps 2 bits and collapsed variants and therefore answers another question, and "
        "Student's t over estimates of single models, which alone holds its level with a handful of models."
    ),
    "profiles": (
        "Profile likelihood of each exponent of the paper's law (beta-binomial error, floor at chance, 2 bits and "
        "collapsed variants included): what fixing an exponent at a value costs when all other parameters are fitted "
        "anew. It is twice the difference of the logarithms of the likelihoods (the deviance): 0 is the best fit, "
        f"and the values whose cost stays below {PROFILE_LIMIT:.2f}, the dashed line, are the {LEVEL:.0%} interval."
    ),
    "held_out": (
        "Each model as it is predicted by a fit to the other sizes, against what was observed: the paper's law above, "
        "its rival with the lowest such error below (3 bits and more)."
    ),
}
EXPONENT_NAMES = {
    "alpha": "α (model size)",
    "beta": "β (log2 bits)",
    "gamma": "γ (log2 calibration samples)",
    "delta": "δ (group size)",
}
NO_EXPONENT = "No factor varies among the rows of the fit, so there is no exponent."
FACTOR_LABELS = {
    "n_params": "parameters",
    "bits": "bits",
    "group_size": "group size",
    "calibration_size": "calibration samples",
}


def grid_of_panels(
    names: Sequence[str], height: float = 3.3, sharex: bool = False
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure with one panel for each name and the same scale upwards, as wide as the report shows it at full size.

    Wider figures are scaled down there, and their text with them. ``height``: of a panel, in inches.
    """
    columns = len(names) if len(names) <= 3 else 2 if len(names) == 4 else 3
    rows = -(-len(names) // columns)
    size = (WIDTH if columns > 1 else WIDTH / 2, height * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=sharex, sharey=True)
    every = panels.ravel()
    for panel, name in zip(every, names, strict=False):
        panel.set_title(name)
        panel.tick_params(labelbottom=True)
    for panel in every[len(names) :]:
        panel.remove()
    return figure, every[: len(names)]


def predicted_against_observed(observations: pd.DataFrame, laws: Sequence[LawFit]) -> Figure:
    """What each law predicts against what was observed, in adjusted accuracy; open: rows not fitted."""
    accuracies = stratum_accuracies(observations)
    quantized = accuracies[accuracies.bits < BASELINE_BITS]
    figure, panels = grid_of_panels([law.stratum for law in laws], sharex=True)
    for panel, law in zip(panels, laws, strict=True):
        rows = quantized[quantized.stratum == law.stratum]
        predicted = law.predict(rows)
        for marker, held_out in (("o", False), ("D", True)):
            for bits in sorted(rows.bits.unique()):
                of_bits = (rows.bits == bits) & (rows.held_out == held_out)
                fitted = not held_out and bits > 2
                panel.scatter(
                    100 * rows[of_bits].accuracy_adjusted,
                    100 * predicted[of_bits],
                    s=18,
                    marker=marker,
                    edgecolors=BITS_COLORS.get(bits, "black"),
                    facecolors=BITS_COLORS.get(bits, "black") if fitted else "none",
                    linewidths=0.9,
                    alpha=0.8,
                    label=f"{bits:g} bits" + (", held-out model" if held_out else "" if fitted else ", not fitted"),
                )
        panel.axline((0, 0), slope=1, color="grey", lw=0.8, ls="--")
        panel.set(xlabel="observed, %", title=f"{law.stratum}\nadj. R² {law.adjusted_r_squared:.3f} (log space)")
    figure.supylabel("predicted, %", fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def sentence(text: str) -> Figure:
    """A figure that says why there is nothing to plot."""
    figure = plt.figure(figsize=(7, 1.2))
    figure.text(0.5, 0.5, "\n".join(wrap(text, 90)), ha="center", va="center")
    return figure


def residuals_against_factors(observations: pd.DataFrame, laws: Sequence[LawFit]) -> Figure:
    """Observed minus predicted adjusted accuracy (points) against each factor, for the fitted rows of each law."""
    accuracies = stratum_accuracies(observations)
    figure, panels = plt.subplots(
        len(laws), len(FACTOR_LABELS), figsize=(WIDTH, 2.2 * len(laws)), sharey=True, squeeze=False
    )
    for panel, label in zip(panels[-1], FACTOR_LABELS.values(), strict=True):
        panel.set_xlabel(label)
    for row, law in zip(panels, laws, strict=True):
        table, _ = used_rows(accuracies, law.stratum)
        residual = 100 * (table.accuracy_adjusted - law.predict(table))
        for panel, factor in zip(row, FACTOR_LABELS, strict=True):
            levels = sorted(table[factor].dropna().unique())
            place = table[factor].map({level: i for i, level in enumerate(levels)})
            jitter = np.linspace(-0.18, 0.18, len(table))
            panel.scatter(place + jitter, residual, s=5, alpha=0.5, color=STRATUM_COLORS.get(law.stratum, "black"))
            means = residual.groupby(place).mean()
            panel.plot(means.index, means, "_", ms=16, mew=2, color="black")
            panel.axhline(0, color="grey", lw=0.8, ls="--")
            names = [readable_count(level) if factor == "n_params" else f"{level:g}" for level in levels]
            panel.set_xticks(range(len(levels)), names, rotation=45 if len(levels) > 4 else 0)
        row[0].set_ylabel(f"{law.stratum}\nresidual, points")
    return figure


def exponents_beside_published(analysis: Analysis) -> Figure:
    """Each exponent of the paper's law by stratum, with the intervals of ``HEADLINE``; diamonds: the paper's."""
    table = headline_exponents(analysis)
    table = table[table.scale == ACCURACY]
    names = [name for name in EXPONENT_NAMES if name in set(table.exponent)]
    if not names:
        return sentence(NO_EXPONENT)
    strata = list(dict.fromkeys(table.stratum))
    places = {stratum: -place for place, stratum in enumerate(strata)}
    figure, panels = grid_of_panels([EXPONENT_NAMES[name] for name in names], height=2.6)
    for panel, name in zip(panels, names, strict=True):
        for row in table[table.exponent == name].to_dict("records"):
            low, high = (row["value"] if pd.isna(end) else end for end in (row["model_low"], row["model_high"]))
            plot_interval(panel, row["value"], low, high, places[row["stratum"]], row["stratum"])
            if not pd.isna(row["published"]):
                panel.plot(row["published"], places[row["stratum"]] - 0.22, "D", ms=5, mfc="none", mec="black", mew=0.9)
        panel.axvline(0, color="grey", lw=0.8, ls=":")
        panel.set_yticks(list(places.values()), strata)
        panel.set_ylim(min(places.values()) - 0.5, 0.4)
    ours = Line2D([], [], color="grey", marker="o", label=f"this study, 95 % ({HEADLINE}, where enough tell it)")
    paper = Line2D([], [], ls="", marker="D", mfc="none", mec="black", label="paper (arXiv 2508.18609)")
    figure.legend(handles=[ours, paper], loc="outside lower center", ncols=2)
    return figure


def plot_interval(panel: Axes, value: float, low: float, high: float, place: float, stratum: str) -> None:
    color = STRATUM_COLORS.get(stratum, "black")
    panel.plot([low, high], [place, place], color=color, lw=1.6, solid_capstyle="butt")
    panel.plot(value, place, "o", color=color, ms=5)


def intervals_by_method(analysis: Analysis) -> Figure:
    """Intervals (95 %) of each exponent of the paper's law by method and stratum."""
    table = analysis.intervals[analysis.intervals.form == PAPER_LAW.name]
    names = [name for name in EXPONENT_NAMES if name in set(table.parameter)]
    if not names:
        return sentence(NO_EXPONENT)
    methods = list(dict.fromkeys(table.method))
    strata = list(dict.fromkeys(table.stratum))
    figure, panels = grid_of_panels([EXPONENT_NAMES[name] for name in names], height=3.9)
    for panel, name in zip(panels, names, strict=True):
        for row in table[table.parameter == name].to_dict("records"):
            place = -methods.index(row["method"]) - 0.16 * (strata.index(row["stratum"]) - (len(strata) - 1) / 2)
            plot_interval(panel, row["value"], row["low"], row["high"], place, row["stratum"])
        panel.axvline(0, color="grey", lw=0.8, ls=":")
        panel.set_yticks([-place for place in range(len(methods))], methods)
    handles = [
        Line2D([], [], color=STRATUM_COLORS.get(stratum, "black"), marker="o", label=stratum) for stratum in strata
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def likelihood_profiles(analysis: Analysis) -> Figure:
    """Twice the log-likelihood that fixing an exponent costs, by stratum; below the line lies the 95 % interval."""
    table = analysis.profiles
    if table.empty:
        return sentence("There is no likelihood without n_items or stderr.")
    names = [name for name in EXPONENT_NAMES if name in set(table.parameter)]
    if not names:
        return sentence(NO_EXPONENT)
    figure, panels = grid_of_panels([EXPONENT_NAMES[name] for name in names], height=2.9)
    for panel, name in zip(panels, names, strict=True):
        for stratum, curve in table[table.parameter == name].groupby("stratum", sort=False):
            panel.plot(curve.value, curve.lost, color=STRATUM_COLORS.get(str(stratum), "black"), lw=1.5, label=stratum)
        panel.axhline(PROFILE_LIMIT, color="grey", ls="--", lw=0.8)
        panel.set_ylim(0, 9)
        panel.set_xlabel("exponent")
    figure.supylabel("cost of fixing the exponent here (deviance)", fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def held_out_parity(analysis: Analysis) -> Figure:
    """Each size as a fit to the others predicts it, against what was observed: the paper's law and its best rival."""
    table = analysis.held_out
    if table.empty:
        return sentence("Holding out each size needs three sizes or more.")
    strata, titles = list(dict.fromkeys(table.stratum)), {record.form: record.title for record in analysis.forms}
    figure, panels = plt.subplots(
        len(strata), 2, figsize=(WIDTH, 3.4 * len(strata)), sharex=True, sharey=True, squeeze=False
    )
    for row, stratum in zip(panels, strata, strict=True):
        rows = table[table.stratum == stratum]
        best = next((name for name in rows.form.unique() if name != PAPER_LAW.name), PAPER_LAW.name)
        for panel, form in zip(row, (PAPER_LAW.name, best), strict=True):
            part = rows[rows.form == form]
            for bits, points in part.groupby("bits"):
                panel.scatter(
                    100 * points.observed,
                    100 * points.predicted,
                    s=14,
                    alpha=0.7,
                    color=BITS_COLORS.get(int(bits), "black"),
                    label=f"{bits:g} bits",
                )
            error = 100 * (part.predicted - part.observed).abs().mean()
            title = "\n".join(wrap(f"{stratum}: {titles.get(form, form)}", 52))
            panel.set_title(f"{title}\nmean absolute error {error:.1f} points", fontsize="medium")
            panel.axline((0, 0), slope=1, color="grey", lw=0.8, ls="--")
    for panel in panels[-1]:
        panel.set_xlabel("observed, %")
    figure.supylabel("predicted, %", fontsize="medium")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def forms_compared(analysis: Analysis) -> Figure:
    """Mean absolute error (points of adjusted accuracy) of every form on what it has not seen, by stratum."""
    schemes = {LARGEST: "s", EACH_SIZE: "o", EACH_BITS: "^"}
    strata = strata_of(analysis.forms)
    means = pd.DataFrame([(record.form, record.mae) for record in analysis.forms], columns=["form", "mae"])
    order = list(means.groupby("form").mae.mean().sort_values().index)
    baselines = {record.form for record in analysis.forms if record.is_baseline}
    titles = {record.form: "\n".join(wrap(record.title, 42)) for record in analysis.forms}
    size = (WIDTH, 1.6 + 0.36 * len(order))
    figure, every = plt.subplots(1, len(strata), figsize=size, squeeze=False, sharex=True, sharey=True)
    panels = every[0]
    for panel, stratum in zip(panels, strata, strict=True):
        records = of_stratum(analysis.forms, stratum)
        places = [-order.index(record.form) for record in records]
        panel.plot([100 * record.mae for record in records], places, "|", color="grey", ms=11, mew=1.6, label="fitted")
        for scheme, marker in schemes.items():
            if scheme in records[0].held_out:
                panel.plot(
                    [100 * record.error(scheme) for record in records],
                    places,
                    marker,
                    ms=5,
                    mfc="none",
                    mec=STRATUM_COLORS.get(stratum, "black"),
                    label=f"{scheme} held out",
                )
        names = [f"{titles[name]} *" if name in baselines else titles[name] for name in order]
        panel.set_yticks(-np.arange(len(order)), names)
        panel.set_xscale("log")
        panel.set_xticks(ERROR_TICKS, [f"{tick:g}" for tick in ERROR_TICKS])
        panel.minorticks_off()
        panel.set_title(stratum)
        panel.grid(axis="y", lw=0.3)
    figure.suptitle("Mean absolute error of each form, in points of adjusted accuracy", fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, title="* no law")
    return figure
