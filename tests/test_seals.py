"""A sealed file that was changed in any way is noticed and named; one that was not has the same bytes every time."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from stratalaw.files import appears_whole
from stratalaw.seals import (
    KEY,
    Seal,
    SealError,
    read_parquet,
    read_record,
    read_sealed,
    read_table,
    seal_file,
    seal_of,
    write_record,
    write_table,
)

TABLE = pd.DataFrame({"task": ["a", "b"] * 50, "tokens": [[1, 2, 3]] * 100, "score": np.linspace(0, 1, 100)})
ABOUT = {"model": "q1", "variant": "w4-g128-c8-s0", "stratum": "two words; and a = b"}
MADE_FROM = {"requests": "1" * 64, "answers": "2" * 64}
FLIPS = 150


def write(path, kind):
    seal = Seal("scores", ABOUT, MADE_FROM)
    if kind == "parquet":
        write_table(TABLE, path, seal)
    elif kind == "json":
        write_record({"effective_bits": 4.15, "modules": [{"name": "ä", "loss": 0.5}]}, path, seal)
    else:
        with appears_whole(path) as unfinished:
            save_file({"depth": np.arange(1000, dtype=np.int32)}, unfinished, {KEY: str(seal)})
            seal_file(unfinished)


KINDS = pytest.mark.parametrize("kind", ["parquet", "json", "safetensors"])


@KINDS
def test_a_file_says_what_it_is_and_has_the_same_bytes_every_time(tmp_path, kind):
    for name in ("one", "two"):
        write(tmp_path / name, kind)
    content, seal = read_sealed(tmp_path / "one", "scores", ABOUT, MADE_FROM)
    assert (seal.kind, seal.about, seal.made_from) == ("scores", ABOUT, MADE_FROM)
    assert content == (tmp_path / "two").read_bytes()
    assert seal == seal_of(tmp_path / "two")


@KINDS
def test_no_flipped_bit_is_silent(tmp_path, kind):
    write(tmp_path / "file", kind)
    whole = (tmp_path / "file").read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), FLIPS):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        (tmp_path / "file").write_bytes(damaged)
        with pytest.raises(SealError, match=r"file: (has no seal|damaged or edited)"):
            seal_of(tmp_path / "file")


@KINDS
@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-1], lambda c: c[: len(c) // 2], lambda c: c + b" "])
def test_a_file_that_was_cut_or_grew_is_named(tmp_path, kind, damage):
    write(tmp_path / "file", kind)
    (tmp_path / "file").write_bytes(damage((tmp_path / "file").read_bytes()))
    with pytest.raises(SealError, match=r"file: .*; delete it and run again"):
        seal_of(tmp_path / "file")


@KINDS
def test_a_file_about_something_else_is_named(tmp_path, kind):
    write(tmp_path / "file", kind)
    with pytest.raises(SealError, match=r"file: holds scores model q1 .*, not scores model q3 variant"):
        read_sealed(tmp_path / "file", "scores", ABOUT | {"model": "q3"})
    with pytest.raises(SealError, match=r"file: holds scores .*, not answers"):
        read_sealed(tmp_path / "file", "answers")
    with pytest.raises(SealError, match=r"file: was made from other requests than those that are there now"):
        read_sealed(tmp_path / "file", "scores", ABOUT, {"requests": "3" * 64})


def test_a_table_comes_back_with_its_types_and_notes(tmp_path):
    table = TABLE.assign(task=TABLE.task.astype("category"), bits=pd.array([4] * 100, dtype="Int64"))
    table.attrs["overlapping_texts"] = 3
    digest = write_table(table, tmp_path / "table.parquet", Seal("items", {}, {}))
    found, seal = read_table(tmp_path / "table.parquet", "items")
    assert seal == seal_of(tmp_path / "table.parquet") and seal.digest == digest
    pd.testing.assert_frame_equal(found.drop(columns="tokens"), table.drop(columns="tokens"))
    assert [list(row) for row in found.tokens] == table.tokens.tolist()
    assert found.attrs == table.attrs
    assert list(read_table(tmp_path / "table.parquet", "items", columns=["task"])[0]) == ["task"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), found)


def test_an_edited_record_is_named_and_a_whole_one_comes_back(tmp_path):
    path = tmp_path / "audit.json"
    write_record({"effective_bits": 4.15}, path, Seal("checkpoint", {}, {}))
    assert read_record(path, "checkpoint") == {"effective_bits": 4.15}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"effective_bits": 3.15}, indent=1) + "\n")
    with pytest.raises(SealError, match=r"audit.json: damaged or edited"):
        read_record(path, "checkpoint")


def test_tables_from_anywhere_need_no_seal_but_must_be_what_theirs_says(tmp_path):
    TABLE[["task", "score"]].to_parquet(tmp_path / "own.parquet")
    assert len(read_parquet(tmp_path / "own.parquet")) == 100
    write(tmp_path / "ours.parquet", "parquet")
    assert len(read_parquet(tmp_path / "ours.parquet")) == 100
    content = bytearray((tmp_path / "ours.parquet").read_bytes())
    content[100] ^= 1
    (tmp_path / "ours.parquet").write_bytes(content)
    with pytest.raises(SealError):
        read_parquet(tmp_path / "ours.parquet")


@settings(max_examples=50, deadline=None)
@given(
    about=st.dictionaries(st.sampled_from(["model", "variant", "stratum", "study"]), st.text(min_size=1, max_size=20))
)
def test_any_name_survives(tmp_path_factory, about):
    path = tmp_path_factory.mktemp("any") / "file.json"
    write_record({}, path, Seal("scores", about, {}))
    assert seal_of(path, "scores", about).about == about
