"""Tables on the terminal: an analysis, what was pinned, and what a study needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from stratalaw.cost.rates import rates_of
from stratalaw.files import readable_bytes
from stratalaw.laws.analysis import Analysis, exponents_table
from stratalaw.laws.holdout import BASELINES, EACH_BITS, EACH_SIZE

if TYPE_CHECKING:
    from stratalaw.pin import Pinned
    from stratalaw.preflight import Checkpoint, Preflight

SHOWN_FORMS = 3
VERDICT_STYLES = {"supported": "green", "contradicted": "red", "not decidable": "yellow"}


def show_analysis(analysis: Analysis) -> None:
    """Print exponents, the best forms, verdicts and what a reader must know."""
    console = Console()
    console.print(table_of_exponents(analysis))
    for law in analysis.laws:
        left_out = ", ".join(f"{count} x {reason}" for reason, count in law.left_out.items()) or "nothing"
        console.print(
            f"{law.stratum}: adjusted R² {law.adjusted_r_squared:.3f} on {law.n_rows} rows; left out: {left_out}"
        )
    if f"{EACH_SIZE} mae" in analysis.forms:
        console.print(table_of_forms(analysis))
    console.print(table_of_verdicts(analysis))
    for note in [*analysis.notes, *dict.fromkeys(warning for law in analysis.laws for warning in law.warnings)]:
        console.print(f"Note: {note}.")


def table_of_exponents(analysis: Analysis) -> Table:
    """Exponents of the paper's law with their intervals, beside the paper's."""
    table = new_table(
        "-ln(adjusted accuracy) = A N^alpha (log2 B)^beta (log2 C)^gamma G^delta",
        *("stratum", "exponent", "value", "95 % (models, items)", "paper"),
    )
    previous = None
    for row in exponents_table(analysis).itertuples():
        if previous not in (None, row.stratum):
            table.add_section()
        stratum, previous = "" if row.stratum == previous else row.stratum, row.stratum
        interval = f"{row.bootstrap_low:.3f} to {row.bootstrap_high:.3f}"
        published = "" if pd.isna(row.published) else f"{row.published:.3f}"
        table.add_row(stratum, row.exponent, f"{row.value:.3f}", interval, published)
    return table


def table_of_forms(analysis: Analysis) -> Table:
    """The best forms, the paper's law and the baselines, by their error on held-out sizes."""
    always = {"paper", *(baseline.name for baseline in BASELINES)}
    table = new_table(
        "Mean absolute error (points) on fitted rows, sizes and bit-widths held out in turn",
        *("stratum", "form", "fitted", "sizes", "bits", "AICc"),
    )
    for stratum, rows in analysis.forms.groupby("stratum", sort=False):
        shown = rows[(rows.reset_index().index < SHOWN_FORMS) | rows.form.isin(always).to_numpy()]
        for place, row in enumerate(shown.to_dict("records")):
            errors = [row["mae"], row[f"{EACH_SIZE} mae"], row.get(f"{EACH_BITS} mae", float("nan"))]
            cells = ["" if pd.isna(error) else f"{100 * error:.2f}" for error in errors]
            aicc = f"{row['aicc']:.0f}"
            table.add_row("" if place else stratum, row["form"], *cells, aicc)
        table.add_section()
    return table


def table_of_verdicts(analysis: Analysis) -> Table:
    """The paper's claims, each with its verdict."""
    table = new_table("The paper's claims", "claim", "verdict", "probability", "estimate (95 %)")
    for row in analysis.verdicts.astype(object).where(analysis.verdicts.notna(), None).itertuples():
        verdict = f"[{VERDICT_STYLES[row.verdict]}]{row.verdict}[/]"
        probability = "" if row.probability is None else f"{row.probability:.3f}"
        estimate = "" if row.estimate is None else f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})"
        table.add_row(row.text, verdict, probability, estimate)
    return table


def show_pinned(study: Path, pinned: list[Pinned]) -> None:
    """Print the commits that were written into a study's file."""
    if not pinned:
        print(f"{study}: nothing to pin")
        return
    table = new_table(f"Pinned in {study}", "key", "page", "commit")
    for one in pinned:
        table.add_row(one.key, one.repository.page, one.repository.commit)
    Console().print(table)


def show_preflight(found: Preflight) -> None:
    """Print what a study needs, its ragged groups, and why it cannot run."""
    console = Console()
    console.print(table_of_checkpoints(found.checkpoints))
    models = {checkpoint.model for checkpoint in found.checkpoints}
    console.print(f"{len(found.checkpoints)} quantized variants of {len(models)} models.")
    console.print(
        f"Disk: {readable_bytes(found.disk_bytes)} for models and checkpoints; "
        f"{readable_bytes(found.free_bytes)} are free.",
        highlight=False,
    )
    for (model, group_size), ragged in ragged_groups(found.checkpoints).items():
        rows = ", ".join(f"{length} ({', '.join(kinds)})" for length, kinds in sorted(ragged.items()))
        console.print(
            f"Ragged groups: {model}, group size {group_size}: the last group of rows of {rows} is short. "
            "It runs, and each checkpoint's audit records it."
        )
    for problem in found.problems:
        console.print(f"[red]Problem:[/] {problem}.", highlight=False)


def table_of_checkpoints(checkpoints: list[Checkpoint]) -> Table:
    """Sizes, minutes of a GPU and kernels by model, bits and group size; memory at least, for the most samples."""
    table = new_table(
        f"Variants by model, bits and group size; minutes on one {rates_of().device}",
        *("model", "bits", "group", "variants", "GB", "GPU, GB", "minutes", "kernel", "ragged"),
    )
    previous = None
    for (model, bits, group_size), alike in grouped(checkpoints).items():
        if previous not in (None, model):
            table.add_section()
        size = f"{alike[0].weight_bytes / 1e9:.2f}"
        memory = f"{max(checkpoint.gpu_bytes for checkpoint in alike) / 1e9:.1f}"
        minutes = [round(checkpoint.gpu_seconds / 60, 1) for checkpoint in alike]
        taken = f"{min(minutes)}" if min(minutes) == max(minutes) else f"{min(minutes)}-{max(minutes)}"
        ragged = ", ".join(map(str, sorted(alike[0].ragged)))
        name, previous = "" if model == previous else model, model
        table.add_row(name, str(bits), str(group_size), str(len(alike)), size, memory, taken, alike[0].kernel, ragged)
    return table


def grouped(checkpoints: list[Checkpoint]) -> dict[tuple[str, int, int], list[Checkpoint]]:
    """Variants that differ in their calibration only."""
    groups: dict[tuple[str, int, int], list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        key = (checkpoint.model, checkpoint.quantization.bits, checkpoint.quantization.group_size)
        groups.setdefault(key, []).append(checkpoint)
    return groups


def ragged_groups(checkpoints: list[Checkpoint]) -> dict[tuple[str, int], dict[int, list[str]]]:
    """Row lengths that a group size does not divide, by model and group size."""
    return {
        (checkpoint.model, checkpoint.quantization.group_size): checkpoint.ragged
        for checkpoint in checkpoints
        if checkpoint.ragged
    }


def new_table(title: str, *columns: str) -> Table:
    """A table without lines for terminals of 80 columns and more; what does not fit goes on in the next line."""
    table = Table(
        *columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column in table.columns:
        column.overflow = "fold"
    return table
