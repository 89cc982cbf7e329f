"""The documentation as its tests read it."""

import re
from collections.abc import Iterator
from pathlib import Path

PAGES = [
    Path("README.md"),
    Path("CONTRIBUTING.md"),
    Path("CHANGELOG.md"),
    Path("config/README.md"),
    *sorted(Path("docs").rglob("*.md")),
]
FENCE = re.compile(r"\s*(`{3,})")
COMMANDS = ("snakemake", "stratalaw", "make")


def lines_of(page: Path) -> Iterator[tuple[int, str, bool]]:
    """Each line with its number and whether it is within a fenced block."""
    fence = ""
    for number, line in enumerate(page.read_text().split("\n"), start=1):
        found = FENCE.match(line)
        if found and not fence:
            fence = found[1]
            yield number, line, True
        else:
            yield number, line, bool(fence)
            if found and found[1] == fence:
                fence = ""


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return "\n".join(line for _, line, is_code in lines_of(page) if not is_code)


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site names them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def command_lines() -> Iterator[tuple[str, str]]:
    """Every command line in a block or in backticks that calls one of ``COMMANDS``, with where it stands."""
    for page in PAGES:
        for number, line, is_code in lines_of(page):
            candidates = [line.strip()] if is_code or line.startswith("    ") else re.findall(r"`([^`]+)`", line)
            for candidate in candidates:
                command = re.sub(r"^(\$ )?([A-Z_]+=\S+ )*(\.venv/bin/)?", "", candidate)
                if command.partition(" ")[0] in COMMANDS and " " in command:
                    yield f"{page}:{number}", command
