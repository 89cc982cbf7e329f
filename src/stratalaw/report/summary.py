"""What was run and what came out, in a few lines of reStructuredText: the landing page of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stratalaw.laws import LawFit, stratum_accuracies
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.comparison import EACH_SIZE, of_stratum, strata_of
from stratalaw.laws.exponents import ACCURACY, DAMAGE
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.rows import PHASE_TRANSITION_BITS
from stratalaw.laws.tables import HEADLINE, WHY_NO_INTERVAL, headline_exponents
from stratalaw.laws.verdicts import HOLDS, UNTESTABLE, Verdict
from stratalaw.layout import LOST
from stratalaw.report.damage import HOW_TO_READ, MOST_SHOWN, damage_rows, damage_sentence, rows_by_bits
from stratalaw.report.figures import bits_label
from stratalaw.report.findings import findings
from stratalaw.report.matching import is_of_grids, matched, with_settings
from stratalaw.study import Study
from stratalaw.study.description import describe_study, listed
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME
from stratalaw.units import readable_count

PLACE_OF_FIGURE = ".. the figure of the changes"  # a comment, at which workflow/report/landing.rst parts the summary


def summarize(study: Study, observations: pd.DataFrame, damage: pd.DataFrame, analysis: Analysis) -> str:
    """The summary of a study, as reStructuredText: what was lost first; ``damage``: its damage table."""
    about = describe_study(study)
    sizes = observations.groupby("model").n_params.first()
    answers = int(observations.n_items.sum())
    variants = observed_of_named(observations, int(about["variants"]))
    made = (
        f"{variants} GPTQ variant{'' if variants == '1' else 's'} of {models_of(about, sizes)}: {about['bits']} bits, "
        f"groups of {about['group_sizes']}, {about['calibration_sizes']} calibration samples of "
        f"{about['calibration_tokens']} tokens"
    )
    if about["variants"] == "0":
        kinds = [("mixed", "variants of mixed bits"), ("checkpoints", "checkpoints that existed")]
        named = [text for key, text in kinds if any(getattr(model, key) for model in study.models)]
        if used := dict.fromkeys(name for grid in study.grids for name in grid.calibration_mixture or ()):
            named.insert(0, f"variants calibrated on mixtures ({', '.join(used)})")
        made = f"{' and '.join(named)}, of {models_of(about, sizes)}"
    lines = [
        "**Findings.** " + " ".join([damage_sentence(damage), *findings(observations, damage, analysis)]).strip(),
        *damage_section(damage),
        PLACE_OF_FIGURE,
        f"**What was run.** {made}; {answers:,} items were answered ({about['benchmarks']}).",
        *accuracy_section(observations),
        *law_section(observations, analysis),
        *(f"*Note:* {note}." for note in analysis.notes),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def models_of(about: Mapping[str, str], sizes: pd.Series) -> str:
    """The models of a study with their parameters, and their baselines, in words."""
    smallest, largest = readable_count(sizes.min()), readable_count(sizes.max())
    if len(sizes) == 1:
        return f"1 model ({about['models']}; {smallest} parameters) and its bf16 baseline"
    return f"{len(sizes)} models ({about['models']}; {smallest} to {largest} parameters) and their bf16 baselines"


def damage_section(damage: pd.DataFrame) -> list[str]:
    """Every variant beside its original, if they are few enough to be looked at one by one; all by bits otherwise."""
    header, *rows = damage_rows(damage)
    if not rows:
        return []
    if len(rows) > MOST_SHOWN:
        where = f"Each of the {len(rows)} variants stands beside its original in the menu ({LOST})."
        by_bits = simple_table(rows_by_bits(damage))
        lines = ["**What was lost**, by bits (points of accuracy, paired by item):", by_bits, where]
        others = damage_rows(damage[~damage.variant.map(is_of_grids)])
        if len(others) == 1:
            return lines
        title = "**Mixed bits, mixtures of corpora, and checkpoints that existed**, variant by variant:"
        return [*lines, title, simple_table(others), HOW_TO_READ]
    return ["**What was lost**, variant by variant:", simple_table([header, *rows]), HOW_TO_READ]


def law_section(observations: pd.DataFrame, analysis: Analysis) -> list[str]:
    """What was fitted, how well it predicts, and the claims; empty where there is no law."""
    if not analysis.laws:
        return []
    return [
        "**The paper's law**, -ln(accuracy adjusted for chance) = A · N\\ :sup:`α` · (log2 B)\\ :sup:`β` · "
        "(log2 C)\\ :sup:`γ` · G\\ :sup:`δ`, fitted by least squares on the logarithms (in brackets the 95 % interval, "
        f"{HEADLINE}; one that contains zero cannot be told from no effect; {WHY_NO_INTERVAL}):",
        exponents_list(analysis),
        *damage_lines(analysis),
        held_out_sentence(observations, analysis.laws),
        "**Best on sizes that were held out in turn** (mean absolute error, points of adjusted accuracy): "
        f"{best_forms(analysis)}.",
        f"**The paper's claims**, for models like these: {verdicts_sentence(analysis)}.",
        *needs_lines(analysis),
        *families_lines(analysis),
    ]


def observed_of_named(observations: pd.DataFrame, named: int) -> str:
    """How many of the quantized variants that a study names were observed, in words where it is not all of them."""
    quantized = observations[observations.bits < BASELINE_BITS]
    observed = len(quantized[["model", "variant"]].drop_duplicates())
    return str(named) if observed == named else f"{observed} of {named}"


def accuracy_section(observations: pd.DataFrame) -> list[str]:
    """Mean accuracy by stratum and bits, of the models and settings that have all of the bit-widths; empty if none has.

    A model that lacks a width would count in some columns and not in others.
    """
    table = with_settings(observations)
    baselines, widths = table[table.variant == BASELINE_NAME], set(table.bits) - {BASELINE_BITS}
    quantized = matched(table[table.variant != BASELINE_NAME], "bits", sorted(widths))
    if len(baselines):
        quantized = quantized[quantized.model.isin(baselines.model)]
    if quantized.empty:
        return []
    rows = pd.concat([baselines[baselines.model.isin(quantized.model)], quantized])
    settings = len(quantized[["group_size", "calibration_size", "calibration_seed"]].drop_duplicates())
    counted = f"{settings} setting{'' if settings == 1 else 's'} of groups and calibration"
    return [
        f"**Accuracy** (%, mean over {listed(quantized.model)} and {counted} that all bit-widths have):",
        accuracy_table(rows),
    ]


def accuracy_table(observations: pd.DataFrame) -> str:
    """Mean accuracy by stratum and bits, as a reStructuredText table."""
    means = observations.groupby(["stratum", "bits"], sort=False).accuracy.mean().unstack()
    widths: list[int] = sorted(observations.bits.unique(), reverse=True)
    means = 100 * means[widths]
    header = ["stratum", *(bits_label(bits) + (" bits" if bits < 16 else "") for bits in widths)]
    rows = [
        [stratum, *(f"{value:.1f}" for value in row)] for stratum, row in zip(means.index, means.values, strict=True)
    ]
    return simple_table([header, *rows])


def simple_table(rows: list[list[str]]) -> str:
    """Rows of text as a reStructuredText table; the first is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


SYMBOLS = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "c": "c"}


def exponents_list(analysis: Analysis) -> str:
    table = headline_exponents(analysis)
    table = table[table.scale == ACCURACY]
    lines = []
    for law in analysis.laws:
        exponents = ", ".join(with_interval(row) for row in table[table.stratum == law.stratum].itertuples())
        quality = f"adjusted R² {law.adjusted_r_squared:.3f} on {law.n_rows} rows, left out: {left_out(law)}"
        lines.append(f"- {law.stratum}: {exponents or 'no factor varies'}; {quality}")
    return "\n".join(lines)


def with_interval(row: Any) -> str:
    """An exponent of ``headline_exponents`` (a row), and its interval over models where enough of them tell it."""
    interval = "" if pd.isna(row.model_low) else f" ({row.model_low:.3f} to {row.model_high:.3f})"
    return f"{SYMBOLS[row.exponent]} = {row.value:.3f}{interval}"


def damage_lines(analysis: Analysis) -> list[str]:
    """The exponents of what quantization took, where originals were measured."""
    table = headline_exponents(analysis)
    table = table[table.scale == DAMAGE]
    if table.empty:
        return []
    lines = [
        f"- {stratum}: " + ", ".join(with_interval(row) for row in rows.itertuples())
        for stratum, rows in table.groupby("stratum", sort=False)
    ]
    return [
        "**The damage alone**, D = -ln(a / a\\ :sub:`bf16`), ln D linear in ln N (α), bits (-c), ln C (γ) and ln G "
        "(δ), with the same intervals:",
        "\n".join(lines),
    ]


def best_forms(analysis: Analysis) -> str:
    """The best law of each stratum beside the paper's and the best rule without a law."""
    parts = []
    for stratum in strata_of(analysis.forms):
        ranking = of_stratum(analysis.forms, stratum)
        if EACH_SIZE not in ranking[0].held_out:  # observed for fewer than three sizes
            continue
        law = next(record for record in ranking if not record.is_baseline)
        rule = next(record for record in ranking if record.is_baseline)
        paper = next((record for record in ranking if record.form == PAPER_LAW.name), law)
        law_error, rule_error, paper_error = (100 * record.error(EACH_SIZE) for record in (law, rule, paper))
        parts.append(
            f"{stratum}: {law.form} {law_error:.1f} (the paper's law {paper_error:.1f}, best rule without a law, "
            f"{rule.form}, {rule_error:.1f})"
        )
    return "; ".join(parts) or "fewer than three sizes"


def verdicts_sentence(analysis: Analysis) -> str:
    groups: dict[str, list[str]] = {}
    for verdict in analysis.verdicts:
        groups.setdefault(verdict.verdict, []).append(_told(verdict))
    return "; ".join(f"*{verdict}*: {', '.join(texts)}" for verdict, texts in groups.items())


def _told(verdict: Verdict) -> str:
    """A claim, with how many models agree where it holds of these."""
    agree = "" if pd.isna(verdict.agree) else f", {verdict.agree:.0f} of {verdict.models} models agree"
    if verdict.verdict == UNTESTABLE:
        return f"{verdict.text} ({verdict.reason})"
    holds = "; true of these models" if verdict.these_models == HOLDS else ""
    return f"{verdict.text} (p = {verdict.p_adjusted:.3f}{agree}{holds})"


def needs_lines(analysis: Analysis) -> list[str]:
    """How many models would decide what is open, if the estimates are right."""
    parts = [
        f"{need.text}: {need.models:.0f} models" if need.models < float("inf") else f"{need.text}: out of reach"
        for need in analysis.needs
    ]
    return [f"**What would decide the rest**, if the estimates are right: {'; '.join(parts)}."] if parts else []


def families_lines(analysis: Analysis) -> list[str]:
    """How many exponents of the damage agree between families; nothing of a single family."""
    if not analysis.families:
        return []
    counts = pd.Series([row.verdict for row in analysis.families]).value_counts()
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return [f"**Between families**, of {len(analysis.families)} exponents of the damage: {told}."]


def left_out(law: LawFit) -> str:
    """The rows that a law was not fitted to, with the reasons."""
    return ", ".join(f"{count} × {reason}" for reason, count in law.left_out.items()) or "none"


def held_out_sentence(observations: pd.DataFrame, laws: Sequence[LawFit]) -> str:
    """How far the laws are off for the models that they have not seen; empty when none was held out."""
    accuracies = stratum_accuracies(observations)
    quantized = (accuracies.bits > PHASE_TRANSITION_BITS) & (accuracies.bits < BASELINE_BITS)
    rows = accuracies[accuracies.held_out.astype(bool) & quantized]
    if rows.empty:
        return ""
    errors = [
        f"{law.stratum} {100 * (law.predict(part) - part.accuracy_adjusted).abs().mean():.1f}"
        for law in laws
        if len(part := rows[rows.stratum == law.stratum])
    ]
    return (
        f"**Held out** ({listed(rows.model)}, 3 bits and more): mean absolute error of the prediction, in points of "
        f"adjusted accuracy: {', '.join(errors)}."
    )
