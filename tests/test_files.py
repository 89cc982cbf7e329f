import hashlib

import pytest

from stratalaw.files import appears_whole, sha256


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


def test_sha256_is_the_standard_sum(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
