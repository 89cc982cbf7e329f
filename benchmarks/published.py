"""What published numbers say: fit their law anew, hold out families, sources and strata, and write the tables.

    python benchmarks/published.py            # all: the law, docs/published/held-out.csv, the tables of the page
    python benchmarks/published.py tables     # the tables of the page alone

The tables stand in docs/explanation/published-numbers.md between comments that name them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stratalaw.files import write_csv, write_text
from stratalaw.published import library, summary
from stratalaw.published.law import FILE, Law, fit_law, law_rows, shipped_law
from stratalaw.published.terms import RANDOM, ROW, SETTING, SHARED, TERMS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explanation" / "published-numbers.md"
HELD_OUT = ROOT / "docs" / "published" / "held-out.csv"
NAMES = re.compile(r"<!-- ([a-z ]+) -->")
BLOCK = "<!-- {} -->\n\n{}\n\n<!-- end -->"
# As the configurations of this project assign them, after the paper.
AS_IN_THE_CONFIGURATIONS = {"mmlu": "application", "winogrande": "reasoning"}


def hold_out(rows: pd.DataFrame, law: Law) -> pd.DataFrame:
    """Errors and coverage of each scheme, of GPTQ and of all methods."""
    from stratalaw.published.heldout import SCHEMES, errors, held_out, simple_rules

    tables = []
    for scheme in SCHEMES:
        expected = simple_rules(held_out(rows, scheme, law), scheme)
        for methods, part in (("GPTQ", expected[expected.method == "GPTQ"]), ("all", expected)):
            inside = 100 * part.kept.between(part.low, part.high).mean()
            found = errors(part).assign(held_out=scheme, methods=methods)
            tables.append(found.assign(coverage_of_all=inside))
    return pd.concat(tables, ignore_index=True)


def reproduced_rules() -> pd.DataFrame:
    """The simple rules on every row of GPTQ, those of selected recipes included."""
    from stratalaw.published.heldout import simple_rules

    everything = library.kept_shares(library.read_library(), selected_too=True)
    shares = simple_rules(library.by_stratum(everything[everything.method == "GPTQ"]))
    shares = shares.assign(
        width=100 * (shares.width - shares.kept).abs(), nearest=100 * (shares.nearest - shares.kept).abs()
    )
    return shares[shares.bits.isin([3, 4])].groupby(["bits", "stratum"])[["width", "nearest"]].mean().reset_index()


def blocks() -> dict[str, str]:
    """The tables of the page, by name."""
    measurements = library.read_library()
    rows = library.kept_shares(measurements)
    law = shipped_law()
    other = {**library.strata_of_benchmarks(), **AS_IN_THE_CONFIGURATIONS}
    others = library.kept_shares(measurements, other)
    without_memorization = [name for name in library.STRATA if name != "memorization"]
    return {
        "counts": counts(measurements, rows, law),
        "kept": by_strata(summary.kept_by_setting(rows), ["bits", "group"], "kept"),
        "expected": by_strata(summary.expected_of_new_models(law), ["n_params", "bits", "group"], "kept"),
        "methods": methods(summary.methods_beside_gptq(rows)),
        "losing": losing(summary.losing_most(rows)),
        "losing as in the configurations": losing(summary.losing_most(others, without_memorization)),
        "spread": spread(law),
        "effects": effects(law),
        "held out": held_out_table(pd.read_csv(HELD_OUT), summary.between_sources(rows)),
        "coverage": coverage(pd.read_csv(HELD_OUT)),
        "rules": rules(reproduced_rules()),
    }


def counts(measurements: pd.DataFrame, rows: pd.DataFrame, law: Law) -> str:
    return (
        f"{len(measurements):,} measurements of {measurements.model.nunique()} models, from "
        f"{measurements.source_id.nunique()} sources; {len(rows):,} of them have a kept share. The law is fitted to\n"
        f"{law.counts['rows']:,} at 3 bits and more: {law.counts['models']} models, {law.counts['families']} families, "
        f"{law.counts['sources']} sources."
    )


def table_of(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (header, rule, *lines))


def by_strata(table: pd.DataFrame, keys: list[str], value: str) -> str:
    """One line for each setting, one column for each stratum."""
    lines = []
    for key, part in table.groupby(keys, sort=False):
        of = part.set_index("stratum")
        cells = [cell(of.loc[name], value) if name in of.index else "-" for name in library.STRATA]
        lines.append([*map(readable, key), *cells])
    return table_of([*map(readable, keys), *library.STRATA], lines)


def cell(row: pd.Series, value: str) -> str:
    around = "" if pd.isna(row.low) else f" ({row.low:.2f} to {row.high:.2f})"
    models = f", {row.models:.0f} models" if "models" in row else ""
    return f"{row[value]:.2f}{around}{models}"


def readable(value: object) -> str:
    if isinstance(value, float):
        return f"{value / 1e9:g}B" if value >= 1e6 else f"{value:g}"
    return {"n_params": "size"}.get(str(value), str(value))


def methods(table: pd.DataFrame) -> str:
    lines = [
        [f"{row.bits:g}", row.method, row.models, f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})"]
        for row in table.itertuples()
    ]
    return table_of(["bits", "method", "models", "kept share less that of GPTQ"], lines)


def losing(table: pd.DataFrame) -> str:
    lines = [
        [
            *(f"{row.bits:g}", row.stratum, f"{row.least} of {row.settings}", f"{row.models} ({row.families})"),
            f"{row.difference:+.3f}" + ("" if pd.isna(row.low) else f" ({row.low:+.3f} to {row.high:+.3f})"),
        ]
        for row in table.itertuples()
    ]
    return table_of(["bits", "stratum", "keeps least in", "models (families)", "less the others' mean"], lines)


def spread(law: Law) -> str:
    names = [*RANDOM, SETTING, ROW]
    order = sorted(names, key=lambda name: -law.variances[name])
    return table_of(
        ["what differs", "levels", "standard deviation of ln D"],
        [[name, len(law.levels.get(name, [])) or "-", f"{law.variances[name] ** 0.5:.2f}"] for name in order],
    )


def effects(law: Law) -> str:
    lines, place = [], 0
    for name in TERMS:
        for level in law.levels[name]:
            if name in SHARED and TERMS[name].covariate and not level:
                lines.append([name, f"{law.mean[place]:+.2f}", f"{law.deviation[place]:.2f}"])
            place += 1
    return table_of(["effect on ln D", "estimate", "standard error"], lines)


def held_out_table(table: pd.DataFrame, floor: pd.DataFrame) -> str:
    apart = {(row.bits, row.stratum): row.error for row in floor.itertuples()}
    lines = []
    part = table[(table.methods == "GPTQ") & table.bits.isin([3, 4, 8])]
    for row in part.sort_values("bits", kind="stable", ascending=False).itertuples():
        two = apart.get((row.bits, row.stratum))
        lines.append(
            [
                *(row.held_out, f"{row.bits:g}", row.stratum, row.settings),
                *(f"{row.law:.1f}", f"{row.width:.1f}", f"{row.nearest:.1f}", f"{100 * row.gain:+.0f} %"),
                *(f"{row.noise:.1f}", "-" if two is None else f"{two:.1f}", f"{row.coverage:.0f} %"),
            ]
        )
    lines.sort(key=lambda line: ["family", "source", "stratum of a family"].index(line[0]))
    return table_of(
        [
            *("held out", "bits", "stratum", "settings", "law", "median", "nearest", "gain"),
            *("items alone", "two sources", "covered"),
        ],
        lines,
    )


def coverage(table: pd.DataFrame) -> str:
    of = table.groupby(["held_out", "methods"], sort=False).coverage_of_all.first().unstack("methods")
    lines = [[name, f"{row['GPTQ']:.1f} %", f"{row['all']:.1f} %"] for name, row in of.iterrows()]
    return table_of(["held out", "GPTQ", "all methods"], lines)


def rules(table: pd.DataFrame) -> str:
    lines = [
        [f"{row.bits:g}", row.stratum, f"{row.width:.1f}", f"{row.nearest:.1f}"]
        for row in table.sort_values("bits", ascending=False, kind="stable").itertuples()
    ]
    return table_of(["bits", "stratum", "median of the width", "five nearest sizes"], lines)


def with_blocks(page: str) -> str:
    """The page with its tables as they are now."""
    made = blocks()

    def replaced(match: re.Match[str]) -> str:
        return BLOCK.format(match[1], made[match[1]])

    return re.sub(r"<!-- ([a-z ]+) -->\n\n.*?\n\n<!-- end -->", replaced, page, flags=re.DOTALL)


def main(only_tables: bool) -> None:
    if not only_tables:
        rows = law_rows(library.read_library())
        law = fit_law(rows)
        law.write(ROOT / "src" / "stratalaw" / "published" / FILE)
        write_csv(hold_out(rows, law), HELD_OUT, "%.4g")
    write_text(with_blocks(PAGE.read_text()), PAGE)


if __name__ == "__main__":
    main(only_tables=sys.argv[1:] == ["tables"])
