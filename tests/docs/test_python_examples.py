"""The Python of the documentation runs as it stands, in a clone and without a GPU."""

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import PAGES

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SNAKEFILES = "docs/how-to/module.md"  # of another workflow; tests/workflow/test_small_studies.py runs them
NAMES = {"docs/how-to/form.md": "from stratalaw.laws.forms import *\n"}  # where its example stands
EXAMPLES = [
    pytest.param(NAMES.get(str(page), "") + block, id=f"{page}-{number}")
    for page in PAGES
    if str(page) != SNAKEFILES
    for number, block in enumerate(BLOCK.findall(page.read_text()), start=1)
]


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A clone, and beside its files the table that a user has."""
    for name in ("ladder", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "docs/studies/first-ladder/observations.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(clone, example):
    exec(compile(example, "example", "exec"), {})
