"""What all tables on the terminal share."""

from __future__ import annotations

from rich import box
from rich.table import Table


def new_table(title: str, *columns: str) -> Table:
    """A table without lines for terminals of 80 columns and more; what does not fit goes on in the next line."""
    table = Table(
        *columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column in table.columns:
        column.overflow = "fold"
    return table
