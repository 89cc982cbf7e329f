"""An error's message is one line, whatever stands in the names within it."""

import pytest

from stratalaw.errors import StratalawError
from stratalaw.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain name, ü ≥ 3 µs", "a plain name, ü ≥ 3 µs"),
        ("two\nlines\tof \r text", "two lines of   text"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("right\u202eto left", "right\\u202eto left"),
        ("no text: \udcff", "no text: \\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown
    assert str(StratalawError(text)) == shown
