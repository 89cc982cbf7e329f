"""What a user can mend is one line without a traceback; what is a defect shows its traceback."""

import json
import logging
import warnings
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.seals import Seal, write_record
from stratalaw.study import StudyError

PREDICT = ["--n-params", "1e9", "--bits", "4"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})


def one_line(result) -> str:
    """The only line of an error that was expected."""
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}', "no laws; make it with the workflow or with `stratalaw fit TABLE --out FOLDER`"),
        (b"[]", "no laws; make it"),
        (b"n_params,bits\n", "not JSON (Expecting value: line 1 column 1 (char 0)); make it"),
        (b"\xff\xfe\x00", "not JSON ("),
        (b'{"format": 2, "laws": [{"stratum": "reas', "not JSON ("),
        (b"[" * 10**6, "not JSON ("),
        (b'{"format": 99}', "laws in format 99, and this version reads format "),
    ],
)
@pytest.mark.parametrize("command", ["show", "predict"])
def test_what_is_no_laws_file_is_named(tmp_path, command, content, message):
    path = tmp_path / "laws.json"
    path.write_bytes(content)
    result = run("show", path) if command == "show" else run("predict", "--laws", path, *PREDICT)
    assert one_line(result).startswith(f"{path}: {message}")


def test_a_laws_file_that_was_cut_is_named(tmp_path):
    from stratalaw.laws.analysis import FORMAT

    path = tmp_path / "laws.json"
    path.write_text(json.dumps({"format": FORMAT, "laws": [{}]}))
    assert one_line(run("show", path)).startswith(f"{path}: damaged or edited: it is not what its seal says; ")
    write_record({"format": FORMAT, "laws": [{}]}, path, Seal("laws", {}, {}))
    assert one_line(run("show", path)).startswith(f"{path}: damaged (KeyError: ")


# The arguments of each command, with FILE in the place of a file or folder that it reads or writes.
ARGUMENTS = {
    "schema": [],
    "pin": ["FILE"],
    "preflight": ["FILE"],
    "cost": ["FILE"],
    "status": ["FILE"],
    "verify": ["FILE"],
    "adopt": ["FILE", "-n"],
    "resume": [],
    "redo": ["FILE", "q1", "-n"],
    "fit": ["FILE"],
    "power": ["FILE"],
    "show": ["FILE"],
    "compare": ["FILE", "FILE"],
    "predict": ["--laws", "FILE", *PREDICT],
    "plan": ["FILE", "--laws", "FILE"],
    "select": ["FILE", "--laws", "FILE", "--seconds", "FILE", "--gpu-hours", "1"],
    "next": ["FILE", "--until", "±2"],
    "forecast": ["FILE", "q1/w4-g128-c32-s0"],
    "sensitivities": ["FILE", "--model", "q1", "--base", "w3-g128-c32-s0", "--other", "w4-g128-c32-s0"],
    "allocate": ["FILE", "--model", "q1", "--memory", "3.5bits", "--keep", "reasoning"],
    "publish": ["FILE", "published"],
    "export": ["FILE", "q1/w4-g128-c32-s0", "exported"],
    "new": ["study.yaml", "--model", "FILE", "--benchmark", "recall=task:0", "--tasks", "."],
}
READING = [name for name, arguments in ARGUMENTS.items() if "FILE" in arguments]


def test_every_command_is_tried_with_files_that_are_wrong():
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == ARGUMENTS.keys()


@pytest.mark.parametrize(
    "content", [None, "folder", b"", b"\xff\xfe{[:", b"hello: [1", b"- 1\n", b"a: 1\n", b"a,b\n1,2\n"]
)
@pytest.mark.parametrize("command", READING)
def test_no_file_that_is_wrong_ends_in_a_traceback(tmp_path, monkeypatch, command, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "given"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    result = run(command, *[path if word == "FILE" else word for word in ARGUMENTS[command]])
    if result.exit_code == 2:
        assert "given" in result.stderr and "Usage: " in result.stderr
    else:
        assert "given" in one_line(result)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["fit", "observations.csv", "--out", "FILE"], "file"),
        (["publish", "study.yaml", "FILE"], "file"),
        (["compare", "a", "a", "--out", "FILE"], "directory"),
        (["select", "study.yaml", "--laws", "l", "--seconds", "s", "--gpu-hours", "1", "--out", "FILE"], "directory"),
    ],
)
def test_what_is_written_replaces_nothing_of_another_kind(tmp_path, monkeypatch, arguments, kind):
    monkeypatch.chdir(tmp_path)
    for name in ("observations.csv", "study.yaml", "l", "s"):
        (tmp_path / name).write_text("")
    (tmp_path / "a").mkdir()
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("kept")
    else:
        target.mkdir()
    result = run(*[target if word == "FILE" else word for word in arguments])
    assert result.exit_code == 2 and f"is a {kind}" in result.stderr and target.exists()


def test_files_that_are_not_there_are_named(tmp_path):
    table = tmp_path / "observations.csv"
    pd.DataFrame({"n_params": [1]}).to_csv(table)
    for result in (run("fit", tmp_path / "absent.csv"), run("fit", table, "--items", tmp_path / "absent.parquet")):
        assert result.exit_code == 2 and "absent" in result.stderr and "does not exist" in result.stderr


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = tmp_path / "observations.parquet"
    path.write_bytes(b"PAR1 and then nothing of the kind")
    assert one_line(run("fit", path)).startswith(f"{path}: not a table: Could not open Parquet")


def test_what_libraries_have_to_say_is_not_shown(monkeypatch):
    def noisy(path: Path):
        logging.getLogger("torchao").warning("Failed to load a file")
        warnings.warn("this will be removed", FutureWarning, stacklevel=1)
        raise StudyError(f"{path}: no study")

    monkeypatch.setattr(logging.getLogger("torchao"), "level", logging.NOTSET)  # what else was run has its own
    logging.getLogger("torchao").manager._clear_cache()
    monkeypatch.setattr("stratalaw.study.read_study", noisy)
    assert one_line(run("cost", "study.yaml")) == "study.yaml: no study"
    assert logging.getLogger("torchao").isEnabledFor(logging.WARNING)


def test_a_defect_is_not_hidden(tmp_path, monkeypatch):
    def broken(path: Path):
        raise ValueError("a defect")

    monkeypatch.setattr("stratalaw.study.read_study", broken)
    result = run("status", "study.yaml")
    assert isinstance(result.exception, ValueError) and "a defect" not in result.stderr
