"""Nothing that a user meets is undocumented: commands, options, keys, output files, columns, stages."""

import re
from pathlib import Path

import pandas as pd
import pytest

from stratalaw.damage import table as damage
from stratalaw.jobs.status import failures_table
from stratalaw.laws import whole
from stratalaw.layout import OF_STUDY
from stratalaw.observations.table import COLUMNS
from stratalaw.pipeline import STAGES
from stratalaw.planning.candidates import Demand
from stratalaw.study import Study
from stratalaw.study.configuration import Options
from stratalaw.study.definition import Section, section_within
from tests.docs.generator import commands, generate

FILES = Path("docs/reference/files.md").read_text()
PUBLISHED = Path("docs/studies")


def sections_within(section: type[Section]) -> set[type[Section]]:
    inner = {section_within(field.annotation) for field in section.model_fields.values()} - {None}
    return {section}.union(*map(sections_within, inner))


SECTIONS = sections_within(Study) | sections_within(Demand) | {Options}


def documented_columns(file: str) -> list[str]:
    """The first cells of the table below the heading that names a file."""
    chapter = re.search(rf"^### [^\n]*`{re.escape(file)}`.*?(?=^##)", FILES + "\n##", re.MULTILINE | re.DOTALL)
    assert chapter, f"docs/reference/files.md has no chapter for {file}"
    return re.findall(r"^\| `([^`]+)` \|", chapter[0], re.MULTILINE)


@pytest.mark.parametrize("name", commands())
def test_a_command_has_a_description_and_an_example(name):
    command = commands()[name]
    assert command.help
    undescribed = [parameter.name for parameter in command.params if not parameter.help]
    assert not undescribed
    example = Path(f"docs/examples/{name}.txt").read_text()
    assert example.startswith(f"$ stratalaw {name}")


def test_every_option_is_on_the_page_of_commands():
    page = generate.commands_page()
    for name, command in commands().items():
        chapter = page.partition(f"## stratalaw {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert f"| `{parameter.opts[0]}` |" in chapter


@pytest.mark.parametrize("section", sorted(SECTIONS, key=lambda section: section.__name__))
def test_every_key_has_a_description(section):
    undescribed = [name for name, field in section.model_fields.items() if not field.description]
    assert not undescribed


def test_every_key_is_on_the_page_of_keys():
    page = generate.study_page()
    for section in SECTIONS:
        for name in section.model_fields:
            assert re.search(rf"^\| `([\w.]+\.)?{name}` \|", page, re.MULTILINE), f"{section.__name__}.{name}"


def test_the_parts_of_a_study_are_explained_key_by_key():
    explained = Path("config/README.md").read_text()
    for section in sections_within(Study) | {Options}:
        for name in section.model_fields:
            assert f"`{name}`" in explained, f"{section.__name__}.{name}"


@pytest.mark.parametrize("file", [file for files in OF_STUDY.values() for file in files])
def test_every_output_file_is_documented(file):
    assert f"| `{file.replace('.png', '.svg')}` |" in FILES


def test_the_columns_of_observations():
    assert documented_columns("observations.csv") == list(COLUMNS)


def test_the_columns_of_damage():
    assert documented_columns("damage.csv") == list(damage.COLUMNS)


def test_the_columns_of_variants():
    assert documented_columns("variants.csv") == list(whole.COLUMNS)


def test_the_columns_of_failures():
    assert documented_columns("failures.csv") == list(failures_table([]).columns)


@pytest.mark.parametrize("file", sorted(path.relative_to(PUBLISHED) for path in PUBLISHED.rglob("*.csv")), ids=str)
def test_the_columns_of_published_tables(file):
    columns, documented = set(pd.read_csv(PUBLISHED / file, nrows=0).columns), set(documented_columns(file.name))
    only_of_mixtures = {"calibration_mixture"}
    assert columns <= documented and documented - columns <= only_of_mixtures


def test_every_stage_is_in_the_architecture():
    page = Path("docs/explanation/architecture.md").read_text()
    rows = re.findall(r"^\| ([a-z, ]+) \| (?:study|model|variant|model and draw) \|", page, re.MULTILINE)
    assert [name for row in rows for name in row.split(", ")] == [stage.name for stage in STAGES]


def test_every_package_is_in_the_architecture():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", Path("docs/explanation/architecture.md").read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"\w+", row)}
    packages = {path.parent.name for path in generate.PACKAGE.glob("*/__init__.py")}
    assert packages <= listed
