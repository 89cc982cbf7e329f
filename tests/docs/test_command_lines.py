"""Whoever types what the documentation says gets no usage error: names, options, targets and files are right."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stratalaw.study import Study
from stratalaw.study.configuration import Options
from tests.docs.generator import commands
from tests.docs.pages import command_lines

LINES = list(command_lines())
FILES = re.compile(r"(config|docs|profiles|ladder|workflow|benchmarks|tests)/[\w./-]+")
RULES = "".join(path.read_text() for path in (Path("Snakefile"), *Path("workflow/rules").glob("*.smk")))
ENDS = {"|", ">", "&&", ";"}  # of a command line


@pytest.fixture(scope="session")
def options_of_snakemake() -> set[str]:
    shown = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", shown.stdout))


def words_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return words[: next((i for i, word in enumerate(words) if word in ENDS), len(words))]


def lines_with(command: str) -> list:
    return [pytest.param(line, id=place) for place, line in LINES if line.startswith(f"{command} ")]


def refuse_unknown_files(words: list[str]) -> None:
    for word in words:
        if FILES.fullmatch(word):
            assert Path(word).exists(), word


def test_the_documentation_shows_commands():
    assert {line.partition(" ")[0] for _, line in LINES} == {"make", "snakemake", "stratalaw"}


@pytest.mark.parametrize("line", lines_with("make"))
def test_targets_of_make(line):
    targets = set(re.findall(r"^([\w-]+):", Path("Makefile").read_text(), re.MULTILINE))
    for word in words_of(line)[1:]:
        assert word in targets or re.fullmatch(r"-j\d+|[A-Z]+=.*", word), word


@pytest.mark.parametrize("line", lines_with("stratalaw"))
def test_commands_and_options_of_stratalaw(line, options_of_snakemake):
    _, name, *words = words_of(line)
    command = commands()[name]
    if name == "resume":  # hands everything to snakemake
        assert {word for word in words if word.startswith("-")} <= options_of_snakemake
        return
    options = {option: parameter for parameter in command.params for option in parameter.opts}
    if name in ("adopt", "next", "redo"):  # what follows their own arguments is snakemake's
        assert {word for word in words if word.startswith("-")} <= options_of_snakemake | options.keys()
        refuse_unknown_files(words)
        return
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    given, positional, waiting = set(), [], iter(words)
    for word in waiting:
        if word.startswith("-"):
            assert word in options, word
            given.add(word)
            assert options[word].is_flag or next(waiting, None) is not None, f"{word} has no value"
        else:
            positional.append(word)
    assert len(positional) <= len(arguments) or any(argument.nargs == -1 for argument in arguments)
    refuse_unknown_files(positional)
    if positional or given:  # not only named, as in `stratalaw show`
        assert len(positional) >= sum(argument.required for argument in arguments)
        assert {option for option, p in options.items() if p.required and p.param_type_name == "option"} <= given


@pytest.mark.parametrize("line", lines_with("snakemake"))
def test_options_and_keys_of_snakemake(line, options_of_snakemake):
    words = words_of(line)[1:]
    refuse_unknown_files(words)
    keys = Study.model_fields.keys() | Options.model_fields.keys()
    # Ends in a bug of snakemake where one of the rules that it names waits for another; a rule of targets does not.
    assert "--until" not in words
    option = ""
    for i, word in enumerate(words):
        if word.startswith("-"):
            assert word in options_of_snakemake, word
            option = word
        elif option == "--config":
            assert word.partition("=")[0] in keys, word
        elif i == 0 and "/" not in word:
            assert re.search(rf"^rule {word}:", RULES, re.MULTILINE), word
