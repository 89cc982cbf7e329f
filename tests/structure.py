"""Count the rooms of the library (its packages and modules at the top level), and those that import each other.

Imports within functions count; those for type checkers alone do not. Exit status 1 if there are circles.
"""

from __future__ import annotations

import sys
from itertools import permutations

import grimp

PACKAGE = "stratalaw"


def rooms_and_circles(package: str = PACKAGE) -> tuple[list[str], list[str]]:
    """The rooms of a package, and those of them that import each other, directly or through others."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    rooms = sorted(graph.find_children(package))
    for room in rooms:
        graph.squash_module(room)
    in_circle = {
        room
        for room, other in permutations(rooms, 2)
        if graph.chain_exists(room, other) and graph.chain_exists(other, room)
    }
    return rooms, sorted(in_circle)


def main() -> int:
    rooms, in_circle = rooms_and_circles()
    named = f": {', '.join(room.removeprefix(f'{PACKAGE}.') for room in in_circle)}" if in_circle else ""
    print(f"{PACKAGE}: {len(rooms)} rooms, {len(in_circle)} of them in import circles{named}")
    return 1 if in_circle else 0


if __name__ == "__main__":
    sys.exit(main())
