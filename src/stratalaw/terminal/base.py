"""What all tables on the terminal share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stratalaw.text import printable


class PlainConsole(Console):
    """A terminal on which text says what it says: names come from anywhere, and may hold markup and escape codes."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def styled(text: str, style: str) -> Text:
    """A text in a style such as ``red``."""
    return Text(printable(text), style=style)


def of_shipped_shapes(models: Sequence[str]) -> str:
    """That the shapes of some models are shipped ones, and what decides in the run."""
    return (
        f"the shapes of {', '.join(models)} are shipped with stratalaw, not read from the Hub; "
        "in a run, the configuration of the pinned commit decides"
    )


def new_table(title: str, *columns: str) -> Table:
    """A table without lines for terminals of 80 columns and more; what does not fit goes on in the next line."""
    table = Table(
        *columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column in table.columns:
        column.overflow = "fold"
    return table
