"""What was lost, on the terminal: a line for each variant."""

from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.laws.analysis import Analysis
from stratalaw.seals import Seal, write_table
from stratalaw.terminal.damage import overview_rows
from tests.report.test_damage import damage_of


def test_show_begins_with_what_was_lost_where_the_table_lies_beside_the_laws(tmp_path):
    Analysis.without_laws("too few rows").write(tmp_path / "laws.json")
    without = CliRunner().invoke(app, ["show", str(tmp_path / "laws.json")]).output
    assert "What was lost" not in without
    damage = damage_of(["w8-g128-c8-s0", "w4-g128-c8-s0"])
    write_table(damage, tmp_path / "damage.parquet", Seal("damage", {"study": "small"}, {}))
    lines = CliRunner().invoke(app, ["show", str(tmp_path / "laws.json")], env={"COLUMNS": "100"}).output.splitlines()
    assert lines[0].startswith("What was lost")
    rows = [line for line in lines if line.startswith(" r2 w")]
    assert "no loss over" in rows[0] and "600 kB" in rows[1] and rows[1].rstrip().endswith("loses in 2 of 2")
    assert lines.index(rows[1]) < next(place for place, line in enumerate(lines) if "too few rows" in line)


def test_a_star_marks_what_is_significant_and_the_mean_has_its_interval():
    header, same, worse = overview_rows(damage_of(["w8-g128-c8-s0", "w4-g128-c8-s0"]))
    assert header == ["variant", "memory", "general", "memorization", "reasoning", "verdict"]
    assert same[2].startswith("+0.0 ± ") and "*" in worse[2] and worse[3].endswith("*")


def test_one_stratum_needs_no_count():
    (_, row) = overview_rows(damage_of(["w3-g128-c8-s0"], strata=["reasoning"]))
    assert row[-1] == "loses"
