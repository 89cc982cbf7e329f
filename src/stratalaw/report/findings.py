"""What a study found, in at most five sentences with numbers: what one would tell a colleague first."""

from __future__ import annotations

import pandas as pd

from stratalaw.laws import stratum_accuracies
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.comparison import EACH_SIZE, of_stratum, strata_of
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.table import GENERAL
from stratalaw.laws.verdicts import UNTESTABLE, at_least
from stratalaw.study.variants import BASELINE_BITS

NEXT_TO_NOTHING = 0.02  # of adjusted accuracy: what is left of it means nothing


def findings(observations: pd.DataFrame, analysis: Analysis) -> list[str]:
    """The sentences; one that the study cannot support is left out, but for why there is no law."""
    accuracies = stratum_accuracies(observations)
    sentences = [
        what_bits_leave(accuracies),
        what_loses_most(accuracies),
        what_groups_and_calibration_do(accuracies),
        how_laws_predict(analysis),
        what_claims_survive(analysis),
    ]
    return [sentence for sentence in sentences if sentence]


def as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def shares_kept(accuracies: pd.DataFrame, by: str) -> pd.Series:
    """Mean adjusted accuracy of the quantized variants over that of their models' baselines, by a column.

    A ratio of means, not a mean of ratios: a model that knows next to nothing unquantized would outweigh all others.
    """
    is_baseline = accuracies.bits >= BASELINE_BITS
    baseline = accuracies[is_baseline].set_index(["model", "stratum"]).accuracy_adjusted
    quantized = accuracies[~is_baseline]
    own = pd.MultiIndex.from_frame(quantized[["model", "stratum"]])
    means = quantized.assign(baseline=baseline.reindex(own).to_numpy()).dropna(subset="baseline").groupby(by)
    kept = means.accuracy_adjusted.mean() / means.baseline.mean()
    return kept[means.baseline.mean() > NEXT_TO_NOTHING]


def overall(accuracies: pd.DataFrame) -> pd.DataFrame:
    """The rows in general, or those of the only stratum."""
    return accuracies[accuracies.stratum == GENERAL] if (accuracies.stratum == GENERAL).any() else accuracies


def what_bits_leave(accuracies: pd.DataFrame) -> str:
    kept = shares_kept(overall(accuracies), "bits")
    if kept.empty:
        return ""
    parts = [f"{100 * share:.0f} % at {bits:g} bits" for bits, share in kept.sort_index(ascending=False).items()]
    return f"Of what the unquantized models know beyond guessing, {', '.join(parts)} is left on average."


def what_loses_most(accuracies: pd.DataFrame) -> str:
    strata = accuracies[accuracies.stratum != GENERAL]
    widths = sorted(strata[strata.bits < BASELINE_BITS].bits.unique())
    bits = next((width for width in widths if width > 2), next(iter(widths), None))
    share = 100 * shares_kept(strata[strata.bits.isin([bits, BASELINE_BITS])], "stratum").sort_values()
    if len(share) < 2:
        return ""
    others = ", ".join(f"{name} {value:.0f} %" for name, value in share.iloc[1:].items())
    return f"At {bits:g} bits {share.index[0]} suffers most: {share.iloc[0]:.0f} % is left, of {others}."


def what_groups_and_calibration_do(accuracies: pd.DataFrame) -> str:
    rows = overall(accuracies)
    rows = rows[rows.bits < BASELINE_BITS]
    widths = [width for width in sorted(rows.bits.unique()) if width > 2]
    if not widths:
        return ""
    rows, parts = rows[(rows.bits == widths[0]) & ~(rows.group_size <= 0)], []
    for column, what in (("group_size", "groups of"), ("calibration_size", "calibration samples:")):
        means = 100 * rows.groupby(column).accuracy_adjusted.mean()
        if len(means) > 1:
            low, high = means.index[0], means.index[-1]
            parts.append(f"{what} {high:g} instead of {low:g} change it by {means[high] - means[low]:+.1f} points")
    return f"There the adjusted accuracy also follows the rest: {', and '.join(parts)}." if parts else ""


def how_laws_predict(analysis: Analysis) -> str:
    strata = strata_of(analysis.forms)
    if not strata:
        return ""
    ranking = of_stratum(analysis.forms, GENERAL if GENERAL in strata else strata[0])
    if EACH_SIZE not in ranking[0].held_out:
        return ""
    points = {record.form: 100 * record.error(EACH_SIZE) for record in ranking}
    laws = [record for record in ranking if not record.is_baseline]
    rule = next(record for record in ranking if record.is_baseline)
    paper = f"within {points[PAPER_LAW.name]:.1f} points of adjusted accuracy on average by the paper's law"
    rival = f"within {points[laws[0].form]:.1f} by the best law ({laws[0].title})"
    best = "which no other law beats" if laws[0].form == PAPER_LAW.name else rival
    return (
        f"A size that was not fitted is predicted {paper}, {best}, and within {points[rule.form]:.1f} by the best rule "
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
