"""Source of installed packages, read and not run: importing them takes many seconds."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path


def package_folder(package: str) -> Path:
    """The folder of an installed package; raises ModuleNotFoundError if there is no such package."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    return Path(found.origin).parent


def source_within(package: str, path: str) -> ast.Module:
    """A module of an installed package, parsed; raises ModuleNotFoundError if there is no such package."""
    return ast.parse((package_folder(package) / path).read_text())
