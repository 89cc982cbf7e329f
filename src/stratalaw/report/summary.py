"""What was run and what came out, in a few lines of reStructuredText: the landing page of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from stratalaw.laws import LawFit, stratum_accuracies
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.holdout import BASELINES, EACH_SIZE
from stratalaw.laws.rows import PHASE_TRANSITION_BITS
from stratalaw.laws.tables import exponents_table
from stratalaw.report.damage import HOW_TO_READ, MOST_SHOWN, damage_rows, damage_sentence, rows_by_bits
from stratalaw.report.figures import bits_label
from stratalaw.report.findings import findings
from stratalaw.study import Study
from stratalaw.study.description import describe_study, listed
from stratalaw.study.variants import BASELINE_BITS
from stratalaw.units import readable_count


def summarize(study: Study, observations: pd.DataFrame, damage: pd.DataFrame, analysis: Analysis) -> str:
    """The summary of a study, as reStructuredText; ``damage``: its damage table."""
    about = describe_study(study)
    sizes = observations.groupby("model").n_params.first()
    answers = int(observations.n_items.sum())
    variants = observed_of_named(observations, int(about["variants"]))
    lines = [
        "**Findings.** " + " ".join([damage_sentence(damage), *findings(observations, analysis)]).strip(),
        *damage_section(damage),
        f"**What was run.** {variants} GPTQ variant{'' if variants == '1' else 's'} of {models_of(about, sizes)}: "
        f"{about['bits']} bits, groups of {about['group_sizes']}, {about['calibration_sizes']} "
        f"calibration samples of {about['calibration_tokens']} tokens; {answers:,} items were answered "
        f"({about['benchmarks']}).",
        "**Accuracy** (%, mean over models and variants):",
        accuracy_table(observations),
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
        where = f"Each of the {len(rows)} variants stands beside its original in the menu (Damage)."
        return ["**Damage** by bits (points of accuracy, paired by item):", simple_table(rows_by_bits(damage)), where]
    return ["**Damage** by stratum:", simple_table([header, *rows]), HOW_TO_READ]


def law_section(observations: pd.DataFrame, analysis: Analysis) -> list[str]:
    """What was fitted, how well it predicts, and the claims; empty where there is no law."""
    if not analysis.laws:
        return []
    return [
        "**The paper's law**, -ln(accuracy adjusted for chance) = A · N\\ :sup:`α` · (log2 B)\\ :sup:`β` · "
        "(log2 C)\\ :sup:`γ` · G\\ :sup:`δ`, fitted by least squares on the logarithms (95 % intervals, "
        "models and items resampled; one that contains zero cannot be told from no effect):",
        exponents_list(analysis),
        held_out_sentence(observations, analysis.laws),
        "**Best on sizes that were held out in turn** (mean absolute error, points of adjusted accuracy): "
        f"{best_forms(analysis)}.",
        f"**The paper's claims**: {verdicts_sentence(analysis)}.",
    ]


def observed_of_named(observations: pd.DataFrame, named: int) -> str:
    """How many of the quantized variants that a study names were observed, in words where it is not all of them."""
    quantized = observations[observations.bits < BASELINE_BITS]
    observed = len(quantized[["model", "variant"]].drop_duplicates())
    return str(named) if observed == named else f"{observed} of {named}"


def accuracy_table(observations: pd.DataFrame) -> str:
    """Mean accuracy by stratum and bits, as a reStructuredText table."""
    means = observations.groupby(["stratum", "bits"], sort=False).accuracy.mean().unstack()
    means = 100 * means[sorted(means.columns, reverse=True)]
    header = ["stratum", *(bits_label(bits) + (" bits" if bits < 16 else "") for bits in means.columns)]
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


def exponents_list(analysis: Analysis) -> str:
    symbols = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ"}
    table = exponents_table(analysis)
    lines = []
    for law in analysis.laws:
        exponents = ", ".join(
            f"{symbols[row.exponent]} = {row.value:.3f} ({row.bootstrap_low:.3f} to {row.bootstrap_high:.3f})"
            for row in table[table.stratum == law.stratum].itertuples()
        )
        quality = f"adjusted R² {law.adjusted_r_squared:.3f} on {law.n_rows} rows, left out: {left_out(law)}"
        lines.append(f"- {law.stratum}: {exponents or 'no factor varies'}; {quality}")
    return "\n".join(lines)


def best_forms(analysis: Analysis) -> str:
    """The best form of each stratum beside the paper's law and the better baseline."""
    column = f"{EACH_SIZE} mae"
    if column not in analysis.forms:
        return "fewer than three sizes"
    parts = []
    for stratum, table in analysis.forms.dropna(subset=column).groupby("stratum", sort=False):
        error = 100 * table.set_index("form")[column]
        baseline = error[[name.name for name in BASELINES]].min()
        parts.append(
            f"{stratum}: {error.idxmin()} {error.min():.1f} (the paper's law {error[PAPER_LAW.name]:.1f}, "
            f"best baseline {baseline:.1f})"
        )
    return "; ".join(parts)


def verdicts_sentence(analysis: Analysis) -> str:
    groups = analysis.verdicts.groupby("verdict", sort=False).text
    return "; ".join(f"*{verdict}*: {', '.join(texts)}" for verdict, texts in groups)


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
