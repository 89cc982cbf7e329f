"""The error of everything that a user can mend: the command line shows its message, and nothing else is caught."""

from __future__ import annotations


class StratalawError(ValueError):
    """Something that a user can mend; the message is one line that says what is wrong, where, and what to do."""
