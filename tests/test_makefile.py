"""`make setup` takes a Python that the locked versions are for, or says which is needed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKE = shutil.which("make") or "make"


@pytest.fixture
def path(tmp_path) -> Path:
    """The only folder on the search path."""
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def add_python(path: Path, name: str, version: str) -> None:
    """A Python that says that it has a version, and what it is asked for otherwise; it installs nothing."""
    command = path / name
    command.write_text(f'#!/bin/sh\ncase "$1" in -c) echo {version};; *) echo "{name} $@" >&2; exit 1;; esac\n')
    command.chmod(0o755)


def setup(path: Path, *variables: str) -> subprocess.CompletedProcess:
    command = [MAKE, "--no-print-directory", "setup", f"VENV={path.parent / 'venv'}", *variables]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "PYTHON")}
    return subprocess.run(
        command, cwd=ROOT, env=environment | {"PATH": str(path)}, capture_output=True, text=True, check=False
    )


def test_another_version_is_refused_at_once_with_what_is_needed_and_where_to_get_it(path):
    add_python(path, "python3", "3.9")
    add_python(path, "python3.13", "3.13")
    refused = setup(path)
    line, advice, *_ = refused.stderr.splitlines()
    assert refused.returncode and line == "The locked versions need Python 3.11, and python3 is 3.9."
    assert "uv python install 3.11" in advice and "-m venv" not in refused.stderr


def test_no_python_is_said_too(path):
    assert "need Python 3.11, and python3 is not there." in setup(path).stderr


@pytest.mark.parametrize("name", ["python3", "python3.11"])
def test_the_right_version_is_taken_by_either_name(path, name):
    add_python(path, "python3", "3.13")
    add_python(path, name, "3.11")
    assert f"{name} -m venv {path.parent / 'venv'}" in setup(path).stderr


def test_one_that_is_named_is_taken_or_refused_by_its_name(path):
    add_python(path, "mine", "3.11")
    add_python(path, "other", "3.14")
    assert "mine -m venv" in setup(path, "PYTHON=mine").stderr
    assert "need Python 3.11, and other is 3.14." in setup(path, "PYTHON=other").stderr
