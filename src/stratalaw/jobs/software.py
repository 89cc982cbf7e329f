"""Which software makes an output: the packages that it depends on, and this library itself."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

SOURCE = Path(__file__).parents[1]


def software_versions(*packages: str) -> dict[str, str]:
    """The versions of packages, and a hash of this library's code, whose version changes with releases only."""
    return {"stratalaw": source_hash()} | {package: installed_version(package) for package in packages}


@cache  # it is asked for each job, and reads and parses a package's whole description
def installed_version(package: str) -> str:
    """The version of a package."""
    return version(package)


@cache
def source_hash() -> str:
    """The SHA-256 sum of the names and contents of this library's modules."""
    digest = sha256()
    for path in sorted(SOURCE.rglob("*.py")):
        digest.update(f"{path.relative_to(SOURCE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
