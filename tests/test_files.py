import errno
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stratalaw.files import appears_whole, move_whole, sha256, write_csv
from stratalaw.units import readable_bytes


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "deep" / "result.json"
    with appears_whole(target) as unfinished:
        unfinished.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_replaces_what_was_there(tmp_path):
    target = tmp_path / "checkpoint"
    target.mkdir()
    (target / "old").touch()
    with appears_whole(target) as unfinished:
        unfinished.mkdir()
        (unfinished / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_nothing_behind_and_what_was_there(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("before")
    with pytest.raises(RuntimeError, match="no space"), appears_whole(target) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError("no space")
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_what_failed_to_be_written_is_named(tmp_path, fault):
    target = tmp_path / "table.parquet"
    with pytest.raises(OSError, match=re.escape(str(target))) as raised, appears_whole(target):
        raise RuntimeError(f"I/O error: {os.strerror(fault)} (os error {fault})")  # as libraries in Rust and C++ say it
    assert raised.value.errno == fault


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_file_appears_where_there_are_no_locks(tmp_path, no_locks):
    with appears_whole(tmp_path / "table.csv") as unfinished:
        unfinished.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


KILLED = """
import os, sys
from pathlib import Path
from stratalaw.files import appears_whole
with appears_whole(Path(sys.argv[1])) as unfinished:
    unfinished.write_text("half")
    os._exit(1)
"""


def write_and_be_killed(target) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)


@pytest.mark.parametrize("name", ["qwen2", "a model [1]", "x~", "x~abcdefgh"])
def test_what_a_killed_process_left_is_cleared_by_the_next_that_writes_the_same(tmp_path, name):
    write_and_be_killed(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 1
    with appears_whole(tmp_path / name) as unfinished:
        unfinished.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "other"), [("qwen2", "qwen2.5"), ("x", "x.json"), ("x", "x-1"), ("x", "x_1"), ("x", "x~abcdefgh")]
)
def test_what_another_one_is_writing_is_left_alone(tmp_path, name, other):
    # Locks do not show that it is in use: the other process may be on another node.
    write_and_be_killed(tmp_path / other)
    (left,) = tmp_path.iterdir()
    with appears_whole(tmp_path / name) as unfinished:
        unfinished.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {name, left.name}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a second disk is needed")
def test_a_folder_moves_whole_from_one_disk_to_another(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        finished, target = Path(elsewhere) / "waiting", tmp_path / "model"
        assert finished.parent.stat().st_dev != tmp_path.stat().st_dev
        finished.mkdir()
        (finished / "weights").write_text("all")
        move_whole(finished, target)
        assert not finished.exists()
    assert (target / "weights").read_text() == "all" and list(tmp_path.iterdir()) == [target]


def test_sha256_is_the_standard_sum(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (1234, "1.23 kB"), (999_499, "999 kB"), (999_600_000_000, "1 TB"),
     (80e9, "80 GB"), (2.5e15, "2500 TB")],
)  # fmt: skip
def test_bytes_are_readable(n_bytes, text):
    assert readable_bytes(n_bytes) == text


@given(st.integers(0, 10**18) | st.integers(0, 18).map(lambda power: 10**power - 1))
@example(999_600_000_000)
def test_readable_bytes_are_right_to_three_digits(n_bytes):
    number, unit = readable_bytes(n_bytes).split()
    size = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert "e" not in number
    assert float(number) * size == pytest.approx(n_bytes, rel=0.005)
    assert float(number) < 1000 or unit == "TB"
    assert float(number) >= 1 or n_bytes == 0


def test_a_spreadsheet_takes_no_text_of_a_table_for_a_formula(tmp_path):
    table = pd.DataFrame(
        {
            "model": ["=1+1", "plain", "@SUM(A1)", "-cmd|x"],
            "text": pd.Categorical(["+1+1", "\tx", "-0.5", "+3"]),
            "number": [-1.5, 2.0, -3.0, 4.0],
            "mixed": [1, None, True, "=2"],
            "=column": ["a", "b", "c", "d"],
        }
    )
    write_csv(table, tmp_path / "table.csv", "%.1f")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "model,text,number,mixed,'=column",
        "'=1+1,'+1+1,-1.5,1,a",
        "plain,'\tx,2.0,,b",
        "'@SUM(A1),-0.5,-3.0,True,c",
        "'-cmd|x,+3,4.0,'=2,d",
    ]


def test_a_table_without_formulas_is_written_as_it_is(tmp_path):
    table = pd.DataFrame({"model": ["q1", None], "count": [1, None], "mixed": pd.Series([1, None], dtype=object)})
    write_csv(table, tmp_path / "table.csv")
    table.to_csv(tmp_path / "plain.csv", index=False)
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
