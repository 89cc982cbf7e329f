"""What was pinned and what a study needs, on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from stratalaw.cost.memory import measured_peaks
from stratalaw.cost.rates import rates_of
from stratalaw.preparation.pin import Pinned
from stratalaw.preparation.preflight import ExpectedCheckpoint, Preflight, grouped
from stratalaw.terminal.base import PlainConsole, new_table, of_shipped_shapes, styled
from stratalaw.units import counted, readable_bytes


def show_pinned(study: Path, pinned: list[Pinned]) -> None:
    """Print the commits that were written into a study's file."""
    if not pinned:
        print(f"{study}: nothing to pin")
        return
    table = new_table(f"Pinned in {study}", "key", "page", "commit")
    for repository in pinned:
        table.add_row(repository.key, repository.repository.page, repository.repository.commit)
    PlainConsole().print(table)


def show_preflight(checked: Preflight) -> None:
    """Print what a study needs, its ragged groups, and why it cannot run."""
    console = PlainConsole()
    console.print(table_of_checkpoints(checked.checkpoints))
    models = {checkpoint.model for checkpoint in checked.checkpoints}
    console.print(f"{counted(len(checked.checkpoints), 'quantized variant')} of {counted(len(models), 'model')}.")
    measured = measured_peaks()
    console.print(
        f"GPU memory: what jobs ask for at first, up to the next kind of GPU; {len(measured)} peaks were measured on "
        f"one {measured.device[0]} (shapes of {', '.join(measured['shape'].unique())}), the rest is scaled.",
        highlight=False,
    )
    if checked.shipped:
        console.print(f"Note: {of_shipped_shapes(checked.shipped)}.", highlight=False)
    console.print(
        f"Disk: {readable_bytes(checked.disk_bytes)} more for models and checkpoints that are not there yet; "
        f"{readable_bytes(checked.free_bytes)} are free.",
        highlight=False,
    )
    for (model, which), ragged in ragged_groups(checked.checkpoints).items():
        rows = ", ".join(f"{length} ({', '.join(kinds)})" for length, kinds in sorted(ragged.items()))
        console.print(
            f"Ragged groups: {model}, {which}: the last group of rows of {rows} is short. "
            "It runs, and each checkpoint's audit records it."
        )
    for line in checked.rehearsed:
        console.print(f"Note: {line}.", highlight=False)
    for problem in checked.problems:
        console.print(styled("Problem:", "red"), f"{problem}.", highlight=False)


def table_of_checkpoints(checkpoints: list[ExpectedCheckpoint]) -> Table:
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
        table.add_row(name, bits, group_size, str(len(alike)), size, memory, taken, alike[0].kernel, ragged)
    return table


def ragged_groups(checkpoints: list[ExpectedCheckpoint]) -> dict[tuple[str, str], dict[int, list[str]]]:
    """Row lengths that a group size does not divide, by model and group size, or mixed variant."""
    return {
        (model, bits if alike[0].quantization.exceptions else f"group size {group_size}"): alike[0].ragged
        for (model, bits, group_size), alike in grouped(checkpoints).items()
        if alike[0].ragged
    }
