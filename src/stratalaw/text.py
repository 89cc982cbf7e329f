"""Text from anywhere, made fit for one line of a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text with line breaks and tabs as spaces, and other characters that a terminal obeys or hides as escapes."""
    return "".join(map(_printable, text))


def one_line(text: object, most: int = 500) -> str:
    """The words of a text with single spaces between them, or as many characters of them as ``most``."""
    return " ".join(str(text).split())[:most]


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character in "\n\r\t" else character.encode("unicode_escape").decode()
