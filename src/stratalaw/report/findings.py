"""What a study found, in at most five sentences with numbers: what one would tell a colleague first.

What is compared is matched: variants of the same models that differ in nothing else. The 95 % interval of a mean over
variants runs from the mean of their lower ends to that of the upper ends: they answer the same items, and whatever
their errors have in common, the mean is no less sure than that. It holds for these models, whatever items had been
asked.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from stratalaw.damage.table import ALL, GENERAL
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.comparison import EACH_SIZE, of_stratum, strata_of
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.verdicts import UNTESTABLE, at_least
from stratalaw.report.damage import overall
from stratalaw.report.matching import matched, with_settings
from stratalaw.units import points

NEXT_TO_NOTHING = 0.02  # of accuracy beyond chance: a share of what is left of it means nothing
FACTORS = {"group_size": "groups of", "calibration_size": "calibration samples:"}


def findings(observations: pd.DataFrame, damage: pd.DataFrame, analysis: Analysis) -> list[str]:
    """The sentences; one that the study cannot support is left out, but for why there is no law.

    Args:
        observations: the observations table, which knows the chance of each benchmark.
        damage: the damage table.
        analysis: of the observations.
    """
    variants = with_settings(damage[damage.benchmark == ALL])
    sentences = [
        what_bits_cost(overall(variants)),
        what_loses_most(variants, chances(observations)),
        what_groups_and_calibration_do(overall(variants)),
        how_laws_predict(analysis),
        what_claims_survive(analysis),
    ]
    return [sentence for sentence in sentences if sentence]


def as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def chances(observations: pd.DataFrame) -> pd.Series:
    """The accuracy of guessing in each stratum: the mean over its benchmarks."""
    return observations.groupby(["stratum", "benchmark"]).chance.first().groupby("stratum").mean()


def change_and_half_width(rows: pd.DataFrame) -> tuple[float, float]:
    """The mean change of accuracy of rows of the damage table, and half of its 95 % interval (shares)."""
    return float(rows.difference.mean()), float(((rows.high - rows.low) / 2).mean())


def with_interval(change: float, half: float) -> str:
    return f"{points(change)} ({points(change - half)} to {points(change + half)})"


def what_bits_cost(rows: pd.DataFrame) -> str:
    """The change of accuracy by bits, of the models and settings that have all bit-widths."""
    rows = matched(rows, "bits", list(rows.bits.unique()))
    if rows.empty:
        return ""
    widths = sorted(rows.bits.unique(), reverse=True)
    changes = {bits: with_interval(*change_and_half_width(rows[rows.bits == bits])) for bits in widths}
    parts = [f"{change} points at {bits} bits" for bits, change in changes.items()]
    settings = len(rows) // len(widths)
    where = f" (mean of {settings} matched settings of {rows.model.nunique()} models)" if settings > 1 else ""
    return f"Against the unquantized model, accuracy changes by {', '.join(parts)}{where}."


def what_loses_most(rows: pd.DataFrame, chance: pd.Series) -> str:
    """Which stratum keeps the least of what the originals know beyond guessing, if that can be told."""
    rows = rows[rows.stratum != GENERAL]
    widths = sorted(rows.bits.unique())
    bits = next((width for width in widths if width > 2), next(iter(widths), None))
    rows = rows[rows.bits == bits]
    in_all = rows.groupby(["model", "variant"]).stratum.transform("nunique") == rows.stratum.nunique()
    kept = []
    for stratum, own in rows[in_all].groupby("stratum", sort=False):
        known = float(own.accuracy_original.mean() - chance.get(stratum, np.nan))
        if known > NEXT_TO_NOTHING:
            change, half = change_and_half_width(own)
            kept.append((1 + change / known, half / known, str(stratum)))
    if len(kept) < 2:
        return ""
    worst, *others = sorted(kept)
    shares = [f"{stratum} {100 * share:.0f} % (± {100 * half:.0f})" for share, half, stratum in (worst, *others)]
    # Strata have no items in common, so that their errors add up by squares.
    if all(share - worst[0] > np.hypot(half, worst[1]) for share, half, _ in others):
        return (
            f"At {bits} bits {worst[2]} suffers most: of what the unquantized models know beyond guessing is left in "
            f"{', '.join(shares)}."
        )
    return (
        f"At {bits} bits these items cannot tell which stratum suffers most: of what the unquantized models know "
        f"beyond guessing is left in {', '.join(shares)}."
    )


def what_groups_and_calibration_do(rows: pd.DataFrame) -> str:
    """What the largest value of a factor changes against the smallest, all else the same."""
    widths = [width for width in sorted(rows.bits.unique()) if width > 2]
    if not widths:
        return ""
    rows, parts = rows[(rows.bits == widths[0]) & (rows.group_size > 0)], []
    for factor, words in FACTORS.items():
        low, high = rows[factor].min(), rows[factor].max()
        pairs = matched(rows, factor, [low, high])
        if low == high or pairs.empty:
            continue
        (least, half_least), (most, half_most) = (
            change_and_half_width(pairs[pairs[factor] == level]) for level in (low, high)
        )
        # Both are measured on the same items against the same original, which makes the difference surer, not less.
        change, half = most - least, float(np.hypot(half_least, half_most))
        unsure = ", which may be nothing" if abs(change) <= half else ""
        parts.append(f"{words} {high:g} instead of {low:g} change it by {with_interval(change, half)} points{unsure}")
    if not parts:
        return ""
    return f"At {widths[0]} bits, with all else the same, {'; '.join(parts)}."


def how_laws_predict(analysis: Analysis) -> str:
    strata = strata_of(analysis.forms)
    if not strata:
        return ""
    ranking = of_stratum(analysis.forms, GENERAL if GENERAL in strata else strata[0])
    if EACH_SIZE not in ranking[0].held_out:
        return ""
    errors = {record.form: 100 * record.error(EACH_SIZE) for record in ranking}
    laws = [record for record in ranking if not record.is_baseline]
    rule = next(record for record in ranking if record.is_baseline)
    paper = f"within {errors[PAPER_LAW.name]:.1f} points of adjusted accuracy on average by the paper's law"
    rival = f"within {errors[laws[0].form]:.1f} by the best law ({laws[0].title})"
    best = "which no other law beats" if laws[0].form == PAPER_LAW.name else rival
    return (
        f"A size that was not fitted is predicted {paper}, {best}, and within {errors[rule.form]:.1f} by the best rule "
        f"without a law ({rule.title})."
    )


def what_claims_survive(analysis: Analysis) -> str:
    if not analysis.laws:
        return as_sentence(analysis.why_no_laws)
    by_verdict: dict[str, int] = {}
    for verdict in analysis.verdicts:
        by_verdict[verdict.verdict] = by_verdict.get(verdict.verdict, 0) + 1
    tested = len(analysis.verdicts) - by_verdict.get(UNTESTABLE, 0)
    if not tested:
        return ""
    parts = [f"{count} {verdict}" for verdict, count in by_verdict.items()]
    bound = at_least(analysis.verdicts)
    sure = f"; at least {bound} of them hold for models like these" if bound else ""
    return f"Of {len(analysis.verdicts)} claims of the paper, {', '.join(parts)}{sure}."
