"""Pages lead nowhere that is not there, and their lines fit a screen."""

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.generator import generate
from tests.docs.pages import PAGES, anchors_of, lines_of, prose_of

LONGEST_LINE = 120
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# What docs/generate.py makes.
BROUGHT_IN = set(generate.ELSEWHERE.values())
PICTURES = {f"explanation/{name}.svg" for name in ("rules", "packages", "prefix-tree")}
GENERATED = {"reference/study.md", "reference/commands.md", *PICTURES}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page):
    for target in LINK.findall(prose_of(page)):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        if linked.resolve() in {Path("docs", generated).resolve() for generated in GENERATED}:
            continue
        assert linked.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors_of(linked), f"{page}: {target}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=str)
def test_files_modules_and_tests_that_pages_name_exist(page):
    tests = "\n".join(path.read_text() for path in Path("tests").rglob("test_*.py"))
    for name in re.findall(r"`([^`\s]+)`", prose_of(page)):
        if re.fullmatch(r"(config|docs|src|tests|benchmarks|profiles|workflow|ladder|envs)/[\w./-]*\w/?", name):
            assert Path(name).exists(), f"{page}: {name}"
        elif re.fullmatch(r"test_\w+", name):
            assert f"def {name}(" in tests, f"{page}: {name}"
        elif re.fullmatch(r"stratalaw(\.[a-z_]+)+", name):
            path = Path("src", *name.split("."))
            assert any(p.exists() for p in (path, path.with_suffix(".py"), path.parent.with_suffix(".py"))), name


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_lines_fit_a_screen(page):
    for number, line, is_code in lines_of(page):
        may_be_long = is_code or line.startswith("|") or re.fullmatch(r"\s*(-|\d+\.)?\s*!?\[.*\]\(\S+\)[.,:;]?", line)
        assert may_be_long or len(line) <= LONGEST_LINE, f"{page}:{number}: {len(line)} characters"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_numbers_have_their_leading_zero(page):
    assert not re.search(r"(?<![\w.`/*])\.\d", prose_of(page)), page


def test_the_menu_has_every_page():
    menu = yaml.safe_load(re.sub(r"!!\S+", "", Path("mkdocs.yml").read_text()))["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", str(menu)))
    written = {page.relative_to("docs").as_posix() for page in PAGES if page.is_relative_to("docs")}
    assert listed == written | BROUGHT_IN | {page for page in GENERATED if page.endswith(".md")}
