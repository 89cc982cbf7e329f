"""The tables of a study as pages: to read, sort and filter, without a network and from any folder.

They are real HTML tables, which a browser without scripts, a screen reader and a print show whole; 40 lines of script
sort and filter them. A page for each table, since the report shows one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from stratalaw.damage.table import ALL
from stratalaw.damage.table import COLUMNS as DAMAGE_COLUMNS
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.tables import table_named
from stratalaw.layout import LAW_TABLES, PAGES
from stratalaw.observations.table import COLUMNS as OBSERVATION_COLUMNS
from stratalaw.report.damage import HOW_TO_READ, SIGNIFICANT, memory_of, strata_of, what_was_lost
from stratalaw.units import points

HERE = Path(__file__).parent
STYLE, SCRIPT = (HERE / "page.css").read_text(), (HERE / "tables.js").read_text()
# Of the observations, what a reader looks for; the rest is in the CSV file.
OBSERVED = (
    *("model", "variant", "bits", "group_size", "calibration_size", "stratum", "benchmark", "n_items", "accuracy"),
    *("stderr", "accuracy_adjusted", "paired_difference", "paired_stderr"),
)


@dataclass(frozen=True)
class Cell:
    """A cell: ``html``, and ``value``, the number that it sorts by; None sorts by the text, NaN comes last."""

    html: str
    value: float | None = None


def pages(
    name: str,
    observations: pd.DataFrame,
    damage: pd.DataFrame,
    analysis: Analysis,
    coverage: pd.DataFrame,
    failures: pd.DataFrame,
) -> dict[str, str]:
    """The pages of a study as HTML, by the names of ``layout.PAGES``.

    Args:
        name: of the study.
        observations, damage, coverage, failures: its tables.
        analysis: of the observations.
    """
    tables = {table: table_named(analysis, table) for table in LAW_TABLES}
    tables |= {"observations": observations[list(OBSERVED)], "coverage": coverage, "failures": failures}
    meanings = {"observations": OBSERVATION_COLUMNS}
    found = {table: _page(name, table, html_table(content), meanings.get(table)) for table, content in tables.items()}
    benchmarks = html_table(damage[damage.benchmark != ALL].drop(columns=["bytes", "bytes_original"]))
    found["benchmarks"] = _page(name, "benchmarks", benchmarks, DAMAGE_COLUMNS)
    found["damage"] = _page(name, "damage", overview(damage), None, HOW_TO_READ)
    return found


def _page(name: str, table: str, content: str, meanings: Mapping[str, str] | None, about: str = "") -> str:
    title = escape(f"{PAGES[table][1].capitalize()}: the study “{name}”")
    paragraph = f"<p>{escape(about)}</p>" if about else ""
    columns = ""
    if meanings:
        terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in meanings.items())
        columns = f"<details><summary>What the columns mean</summary><dl>{terms}</dl></details>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{paragraph}\n"
        f"{content}\n{columns}\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )


def html_table(table: pd.DataFrame) -> str:
    """A table as HTML, numbers with four digits that count."""
    records = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    return sortable([str(column) for column in table.columns], [[_cell(value) for value in row] for row in records])


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell("", float("nan"))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return Cell(escape(str(value)))
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:.4g}".replace("-", "\N{MINUS SIGN}"), float(value))


def overview(damage: pd.DataFrame) -> str:
    """What was lost, as an HTML table: each variant, its memory, its change in each stratum, and a verdict."""
    strata, rows = strata_of(damage), []
    for lost in what_was_lost(damage):
        changes = [_change(lost.changes[name]) if name in lost.changes else _cell(None) for name in strata]
        size = lost.first["bytes"]
        memory = Cell(memory_of(lost.first), float("nan") if pd.isna(size) else float(size))
        names = [Cell(f'<span class="name">{escape(name)}</span>') for name in (lost.model, lost.variant)]
        rows.append([*names, memory, *changes, Cell(escape(lost.verdict))])
    return sortable(["model", "variant", "memory", *strata, "verdict"], rows)


def _change(row: Mapping[str, Any]) -> Cell:
    kind = ("loss" if row["difference"] < 0 else "gain") if row["p_holm"] < SIGNIFICANT else ""
    change, low, high = (points(row[name]).replace("-", "\N{MINUS SIGN}") for name in ("difference", "low", "high"))
    text = f'<span class="{kind}">{change}</span> <span class="range">{low} to {high}</span>'
    return Cell(text, float(row["difference"]))


def sortable(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """An HTML table with a text to filter it by, whose headers are buttons that sort it (see ``tables.js``)."""
    numbers = [any(row[place].value is not None for row in rows) for place in range(len(header))]
    kinds = [' class="number"' if is_number else "" for is_number in numbers]
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{escape(name)}</button></th>'
        for name, kind in zip(header, kinds, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(map(_html, row, numbers, kinds))}</tr>" for row in rows)
    return (
        '<div class="tools"><label>Filter <input id="filter" type="search" placeholder="words, e.g. q3 reasoning">'
        '</label><span id="count" role="status"></span></div>\n'
        '<div class="scroll" tabindex="0" role="region" aria-label="table">\n'
        '<table class="sortable" data-filter="filter" data-count="count">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _html(cell: Cell, is_number: bool, kind: str) -> str:
    value = ""
    if is_number:
        value = f' data-value="{"" if cell.value is None or cell.value != cell.value else cell.value}"'
    return f"<td{kind}{value}>{cell.html}</td>"
