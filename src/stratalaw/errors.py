"""The base class of errors that a user can fix: the command line shows their message, and catches nothing else."""

from __future__ import annotations

from stratalaw.text import printable


class StratalawError(ValueError):
    """An error that a user can fix; the message is one line that says what is wrong, where, and what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())  # names in it may come from anywhere
