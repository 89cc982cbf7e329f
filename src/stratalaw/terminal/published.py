"""Answers from published numbers, and laws fitted to them, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stratalaw.published.answer import FITS, FITS_NOT, ITEMS, METHOD, NEW, Answer, memory_taken
from stratalaw.published.law import LEVEL, Law
from stratalaw.published.library import PER_CHANNEL, STRATA
from stratalaw.study.variants import BASELINE_BITS
from stratalaw.terminal.base import PlainConsole, new_table
from stratalaw.units import readable_bytes, readable_count

# Of each stratum what most sources ask, and what is expected above, for the study that would measure a variant.
BENCHMARKS = {
    "memorization": "mmlu:0.25:acc",
    "application": "hellaswag:0.25:acc_norm",
    "reasoning": "arc_challenge:0.25:acc_norm",
}


def show_answer(answer: Answer, law: Law) -> None:
    """Print every option, what was chosen and why, what it rests on, what would settle it, and the lines to run."""
    console, question, subject = PlainConsole(), answer.question, answer.subject
    title = (
        f"{subject.name}, {readable_count(subject.shapes.n_params)} parameters, {question.context:,} tokens, "
        f"{readable_bytes(question.memory)}"
    )
    benchmarks = list(dict.fromkeys(answer.accuracies.benchmark))
    table = new_table(
        f"{title}: kept of the original's accuracy above chance, in %, with {LEVEL:.0%} intervals",
        *("variant", "memory", "fits", *STRATA, *benchmarks),
    )
    accuracies = answer.accuracies.set_index(["variant", "benchmark"])
    for place, row in enumerate(answer.options.to_dict("records")):
        cells = [interval(row, f"kept_{stratum}", stratum) for stratum in STRATA]
        for benchmark in benchmarks:
            part = accuracies.loc[(row["variant"], benchmark)]
            around = "" if part.low == part.high else f" ({part.low:.3f} to {part.high:.3f})"
            cells.append(f"{part.accuracy:.3f}{around}")
        style = "bold" if place == answer.chosen else "dim" if row["fits"] == FITS_NOT else ""
        table.add_row(label(row), readable_bytes(memory_taken(row)), row["fits"], *cells, style=style)
    console.print(table)
    console.print(choice(answer))
    console.print(
        "2 bits are not offered: GPTQ keeps next to nothing there in most published tables. What an 8-bit cache costs "
        "is not in these numbers."
    )
    _show_relatives(console, answer)
    _show_what_it_rests_on(console, answer, law)
    console.print(settling(answer))
    for line in lines_to_run(answer):
        console.print(line, soft_wrap=True)


def label(row: Mapping[Hashable, Any]) -> str:
    if row["bits"] == BASELINE_BITS:
        return "original (16 bits)"
    group = group_of(row["group_size"])
    return f"{row['bits']} bits, {group if row['group_size'] == PER_CHANNEL else f'group {group}'}"


def group_of(group_size: float) -> str:
    """A group size in words, as tables of the library have it: 0 where it is not stated."""
    return {PER_CHANNEL: "whole rows", 0: "not stated"}.get(int(group_size), f"{group_size:.0f}")


def interval(row: Mapping[Hashable, Any], name: str, stratum: str) -> str:
    if row[f"low_{stratum}"] == row[f"high_{stratum}"]:
        return f"{100 * row[name]:.0f}"
    return f"{100 * row[name]:.0f} ({100 * row[f'low_{stratum}']:.0f}-{100 * row[f'high_{stratum}']:.0f})"


def choice(answer: Answer) -> str:
    """What to do, in one or two sentences."""
    question, name = answer.question, answer.subject.name
    if answer.chosen is None:
        least = answer.options.memory_8.min()
        return (
            f"No variant of {name} fits {readable_bytes(question.memory)}: the smallest takes {readable_bytes(least)} "
            "with a cache of 8 bits. A smaller model, or a shorter --context, does."
        )
    chosen = answer.options.iloc[answer.chosen]
    if chosen.bits == BASELINE_BITS:
        with_what = "" if chosen.fits == FITS else f" {chosen.fits}"
        return f"Do not quantize: the original takes {readable_bytes(memory_taken(dict(chosen)))} and fits{with_what}."
    row = dict(chosen)
    kept = " and ".join(f"{interval(row, f'kept_{stratum}', stratum)} % of {stratum}" for stratum in question.keep)
    with_what = "" if chosen.fits == FITS else f", {chosen.fits}"
    return f"Choose {label(row)}: {readable_bytes(memory_taken(row))}{with_what}, expected to keep {kept}."


def _show_relatives(console: PlainConsole, answer: Answer) -> None:
    if answer.relatives.empty or set(answer.relatives.model) == {answer.subject.name}:
        return
    kept = [f"kept_{stratum}" for stratum in answer.question.keep]
    source = answer.relatives.source.iloc[0]
    table = new_table(
        "A smaller model at more bits, or a larger one at fewer: what would be chosen of each",
        *("model", "variant", "memory", "fits", *(f"{name.removeprefix('kept_')} kept, %" for name in kept)),
        *(["expected accuracy above chance"] if source else []),
    )
    for row in answer.relatives.to_dict("records"):
        cells = [interval(row, name, name.removeprefix("kept_")) for name in kept]
        if source:
            cells.append("-" if pd.isna(row["expected"]) else f"{row['expected']:.3f}")
        table.add_row(row["model"], label(row), readable_bytes(memory_taken(row)), row["fits"], *cells)
    console.print(table)
    if source:
        first = answer.relatives.iloc[0]
        console.print(
            f"By the originals of {source}, {first.model} at {label(dict(first))} is expected to be best at "
            f"{' and '.join(answer.question.keep)} in this memory."
        )
    else:
        console.print("No source has the originals of these models: only what each keeps of its own can be compared.")


def _show_what_it_rests_on(console: PlainConsole, answer: Answer, law: Law) -> None:
    counts = law.counts
    console.print(
        f"Fitted to {counts['rows']:,} published measurements of {counts['models']} models from {counts['sources']} "
        "sources; of GPTQ:"
    )
    table = new_table("", "bits", "stratum", "rows", "models", "sources", "nearest models", "they keep, %")
    for row in answer.rests_on.to_dict("records"):
        table.add_row(
            *(str(row[name]) for name in ("bits", "stratum", "rows", "models", "sources")),
            ", ".join(name.rpartition("/")[2] for name in row["nearest"].split(", ")),
            "-" if pd.isna(row["nearest_kept"]) else f"{100 * row['nearest_kept']:.0f}",
        )
    console.print(table)
    console.print(f"{answer.subject.name} {known(answer)}.")
    if {32, 64} & set(answer.options.group_size.dropna()):
        console.print(
            "Note: at 3 bits and more no table has groups of 32 or 64; they follow from groups of 128 and whole rows."
        )


def known(answer: Answer) -> str:
    """What the library has of a model, as a predicate."""
    if answer.rests_on.own.any():
        return "is in the tables itself"
    if answer.is_known:
        return f"is in the tables itself, by other methods than {METHOD}"
    if answer.family != NEW:
        return f"is in no table; other models of {answer.family} are"
    if not answer.subject.repository:
        return "is in no table by that name, and its family is not known"
    return "is in no table, nor is its family"


def settling(answer: Answer) -> str:
    """Which measurement would narrow the answer most."""
    if answer.chosen is None:
        return "Nothing can be measured of it in this memory."
    if answer.options.bits[answer.chosen] == BASELINE_BITS:
        return "Nothing needs to be measured for this."
    chosen = answer.options.iloc[answer.chosen]
    widths = {s: chosen[f"high_{s}"] - chosen[f"low_{s}"] for s in answer.question.keep}
    stratum = max(widths, key=lambda name: widths[name])
    rests = answer.rests_on[(answer.rests_on.bits == chosen.bits) & (answer.rests_on.stratum == stratum)].iloc[0]
    open_now = f"Published numbers leave {100 * widths[stratum]:.0f} % of {stratum} open"
    left = f"{ITEMS:,} paired items leave {100 * rests.measured_width:.0f}"
    if widths[stratum] <= rests.measured_width:
        return f"{open_now}; {left}: to narrow that takes more items than a study has."
    return (
        f"{open_now}. What would settle it: the original and {chosen.variant} on the same items of {stratum}; {left}."
    )


def lines_to_run(answer: Answer) -> list[str]:
    """What to type next."""
    if answer.chosen is None or answer.options.bits[answer.chosen] == BASELINE_BITS:
        return []
    variant = answer.options.iloc[answer.chosen]
    name = Path(answer.subject.name).resolve().name.lower()
    settings = variant.variant.rpartition("-s")[0]
    asked = " ".join(f"--benchmark {stratum}={BENCHMARKS[stratum]}" for stratum in answer.question.keep)
    return [
        "To make and measure it, on a GPU:",
        f"    stratalaw new {name}.yaml --model {answer.subject.name} --variant {settings} {asked}",
        f"    stratalaw pin {name}.yaml",
        f"    stratalaw preflight {name}.yaml",
        f"    snakemake --profile profiles/workstation --configfile {name}.yaml",
        f"With more variants in it, `stratalaw next {name}.yaml --until 3` says which to measure first.",
    ]


def show_rows(answer: Answer, rows: pd.DataFrame) -> None:
    """Print the measurements that lie nearest to each answer, by their numbers in the library."""
    wanted = sorted({number for numbers in answer.rests_on.row_numbers for number in numbers})
    table = new_table(
        "Nearest measurements",
        *("row", "model", "source", "method", "bits", "group", "benchmark", "accuracy", "original", "kept"),
    )
    for row in rows[rows.row.isin(wanted)].to_dict("records"):
        table.add_row(
            *(str(row[name]) for name in ("row", "model", "source_id", "method")),
            *(f"{row['bits']:g}", group_of(row["group_size"]), str(row["benchmark"])),
            *(f"{row['accuracy']:.4f}", f"{row['accuracy_16']:.4f}", f"{row['kept']:.3f}"),
        )
    PlainConsole().print(table)


def show_library_law(law: Law, own: int) -> None:
    """Print what a law of published numbers was fitted to, a user's own among it, and its variances."""
    console, counts = PlainConsole(), law.counts
    console.print(
        f"Fitted to {counts['rows']:,} kept shares of {counts['models']} models, {counts['families']} families and "
        f"{counts['sources']} sources; {own:,} of them {'is' if own == 1 else 'are'} your own."
    )
    table = new_table("Standard deviations of ln D", "effect", "levels", "standard deviation")
    for name, variance in law.variances.items():
        levels = len(law.levels[name]) if name in law.levels else "-"
        table.add_row(name, str(levels), f"{variance**0.5:.2f}")
    console.print(table)
