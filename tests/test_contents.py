"""Files are hashed once, and again whenever the system says that they changed, whatever their time stamps say."""

import os
import time
from pathlib import Path

import pytest

from stratalaw import contents
from stratalaw.contents import SETTLED_SECONDS, Contents


@pytest.fixture
def hashed(monkeypatch) -> list[Path]:
    """The files that are read to be hashed."""
    read: list[Path] = []
    hashes_of = contents.sha256_of

    def noted(paths):
        read.extend(paths)
        return hashes_of(paths)

    monkeypatch.setattr(contents, "sha256_of", noted)
    return read


@pytest.fixture
def settled(monkeypatch) -> None:
    """Files that were just written count as old."""
    now = time.time
    monkeypatch.setattr("stratalaw.contents.time.time", lambda: now() + SETTLED_SECONDS + 1)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    return [tmp_path / "one", tmp_path / "two"]


def test_what_did_not_change_is_hashed_once(files, hashed, settled, tmp_path):
    first = Contents(tmp_path / "hashes.json").digest(files)
    assert Contents(tmp_path / "hashes.json").digest(files) == first
    assert hashed == files


def test_a_change_is_seen_whatever_the_time_stamp(files, hashed, settled, tmp_path):
    first = Contents(tmp_path / "hashes.json").digest(files)
    before = files[0].stat()
    files[0].write_text("0")
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Contents(tmp_path / "hashes.json").digest(files) != first
    assert hashed == [*files, files[0]]


def test_the_same_bytes_have_the_same_digest_whatever_the_time_stamp(files, settled, tmp_path):
    first = Contents(tmp_path / "hashes.json").digest(files)
    files[0].unlink()
    files[0].write_text("1")
    os.utime(files[1])
    assert Contents(tmp_path / "hashes.json").digest(files) == first


def test_files_that_changed_their_names_are_something_else(files, tmp_path):
    look = Contents(tmp_path / "hashes.json")
    first = look.digest(files)
    files[0].rename(tmp_path / "aside")
    files[1].rename(files[0])
    (tmp_path / "aside").rename(files[1])
    assert look.digest(files) != first


def test_what_changed_a_moment_ago_is_not_remembered(files, hashed, tmp_path):
    """It may change again within the same tick of the system's clock."""
    for _ in range(2):
        Contents(tmp_path / "hashes.json").digest(files)
    assert hashed == files * 2


@pytest.mark.parametrize("damage", [b"", b"no record", None], ids=["empty", "text", "one bit"])
def test_hashes_that_are_damaged_are_computed_anew(files, settled, tmp_path, damage):
    memory = tmp_path / "hashes.json"
    first = Contents(memory).digest(files)
    content = bytearray(memory.read_bytes())
    content[content.index(b"one") + 8] ^= 1
    memory.write_bytes(bytes(content) if damage is None else damage)
    assert Contents(memory).digest(files) == first


def test_where_nothing_may_be_written_files_are_hashed_each_time(files, hashed, settled, tmp_path):
    (tmp_path / "no folder").write_text("")
    for _ in range(2):
        Contents(tmp_path / "no folder" / "hashes.json").digest(files)
    assert hashed == files * 2
