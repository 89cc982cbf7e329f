"""Names from anywhere are shown as they are: no markup, no escape codes, no formulas."""

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import stratalaw.terminal
from stratalaw.cli import app
from stratalaw.laws import form_named
from stratalaw.laws.simulation import grid, simulate
from stratalaw.terminal.base import PlainConsole, new_table, styled

HOSTILE = ("[/x]", "[red]", "[link=file:///]", ":smile:", "\x1b[2J\x1b]0;title\x07", "=cmd|' /C calc'!A0", "$\\bad{")


def shown(*parts: object) -> str:
    console = PlainConsole()
    console.file = StringIO()
    console.print(*parts)
    return console.file.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_wherever_it_stands(name):
    seen = name.replace("\x1b", "\\x1b").replace("\x07", "\\x07")
    table = new_table(f"title {name}", f"column {name}")
    table.add_row(name)
    table.add_row(styled(name, "red"))
    assert shown(table).count(seen) == 4
    assert seen in shown(f"A note on {name}.")
    assert seen in shown(styled(name, "red"), "beside it")


def test_lines_that_the_program_breaks_stay_lines():
    assert shown("one\ntwo") == "one\ntwo\n"


def test_every_table_is_shown_in_this_way():
    modules = [path for path in Path(stratalaw.terminal.__path__[0]).glob("*.py") if path.stem != "base"]
    assert len(modules) > 5
    for path in modules:
        assert " Console()" not in path.read_text(), f"{path} shows names as markup; use PlainConsole"


def test_a_fit_with_hostile_names_shows_and_writes_them_as_text(tmp_path):
    stratum, models = "[/x] $\\bad{", ["[/x]", "\x1b[2J", "=1+1", "@a", "$\\bad{", "<script>"]
    truth = {"A": 0.6, "alpha": -0.3, "beta": -1.2, "gamma": -0.1, "delta": 0.1}
    table = simulate(form_named("paper"), truth, grid(bits=(3, 4)), seed=0, stratum=stratum)
    sizes = sorted(table.n_params.unique())
    table["model"] = table.n_params.map(dict(zip(sizes, models, strict=False)))
    assert table.model.notna().all()
    table.assign(family="=2+2").to_csv(tmp_path / "table.csv", index=False)
    arguments = ["fit", str(tmp_path / "table.csv"), "--resamples", "100", "--form", "paper"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert stratum in result.output
    for path in (tmp_path / "out").glob("*.csv"):
        for column, values in pd.read_csv(path, dtype=str, keep_default_na=False).items():
            assert not column.startswith(("=", "@", "+"))
            assert not values.str.startswith(("=", "@", "+")).any(), f"{path.name}: {column}"
