"""A Hub that lies or is none: one line, and no more than was announced is fetched."""

import gzip
import hashlib
import itertools
import json

import pytest

from stratalaw.errors import StratalawError
from stratalaw.models.folder import verify_model
from stratalaw.models.hub import DownloadError, Repository, download_file, download_model, list_files, newest_commit
from tests.hub_server import GOOD_TOKEN, HubRepository, HubServer

COMMIT = "c0ffee" + "0" * 34
NAME = "someone/small"
MODEL, TEXTS = Repository(NAME, commit=COMMIT), Repository("someone/texts", "dataset", COMMIT)
TREE = f"/api/models/{NAME}/tree/{COMMIT}"
STORAGE = f"/storage/models/{NAME}/model.safetensors"
HTML = ({"Content-Type": "text/html"}, b"<html>Please log in to the guests' network</html>")


@pytest.fixture
def files(small_model_folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in small_model_folder.iterdir() if path.name != "manifest.json"}


@pytest.fixture
def repository(hub, files) -> HubRepository:
    hub.repositories[f"models/{NAME}"] = HubRepository(COMMIT, files)
    return hub.repositories[f"models/{NAME}"]


def fetch(tmp_path):
    target = tmp_path / "models" / "small"
    download_model(MODEL, target, tmp_path / "downloads")
    return target


def refused(tmp_path) -> str:
    with pytest.raises(StratalawError) as error:
        fetch(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "models" / "small").exists()
    return str(error.value)


def bytes_kept(tmp_path) -> int:
    return sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


def test_the_list_of_files_is_not_followed_to_another_host(hub, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    elsewhere = HubServer()
    hub.odd[TREE] = ({"Link": f'<{elsewhere.endpoint}/next>; rel="next"'}, b"[]")
    assert f"its list goes on at another host ({elsewhere.endpoint}/next)" in refused(tmp_path)
    elsewhere.close()
    assert elsewhere.requests == []


def test_a_list_of_several_pages_is_read(hub, repository, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    whole = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in ("a", "b")]
    hub.odd[TREE] = ({"Link": f'<{hub.endpoint}/second>; rel="next"'}, json.dumps(whole[:1]).encode())
    hub.odd["/second"] = ({}, json.dumps(whole[1:]).encode())
    assert [file.name for file in list_files(MODEL)] == ["a", "b"]


@pytest.mark.parametrize("second", [b"3", b"null"], ids=bytes.decode)
def test_an_odd_second_page_is_one_line(hub, repository, tmp_path, second):
    hub.odd[TREE] = ({"Link": f'<{hub.endpoint}/second>; rel="next"'}, b"[]")
    hub.odd["/second"] = ({}, second)
    assert "the answer does not say its files as the Hub does" in refused(tmp_path)


def test_a_list_without_an_end_is_left(hub, repository, tmp_path):
    hub.odd[TREE] = ({"Link": f'<{hub.endpoint}{TREE}>; rel="next"'}, b"[]")
    assert "its list has not ended after 100 pages" in refused(tmp_path)
    assert len(hub.requests) == 100


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling_small.py"])
def test_only_safetensors_are_fetched_whatever_an_index_names(hub, files, tmp_path, name):
    del files["model.safetensors"]
    index = json.dumps({"weight_map": {"a": name}}).encode()
    hub.repositories[f"models/{NAME}"] = HubRepository(
        COMMIT, files | {"model.safetensors.index.json": index, name: b"raise SystemExit"}
    )
    assert f"model.safetensors.index.json: it names {name}, which is not safetensors" in refused(tmp_path)
    assert name not in hub.fetched()


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}], ids=["plain", "gzip"])
def test_a_body_without_an_end_stops_at_what_was_announced(hub, repository, files, tmp_path, headers):
    part = bytes(2**20)
    if headers:
        part = gzip.compress(bytes(2**26), compresslevel=1)
    hub.odd[STORAGE] = (headers, itertools.repeat(part))
    size = len(files["model.safetensors"])
    assert f"model.safetensors: more than the {size} bytes that were announced arrived" in refused(tmp_path)
    assert bytes_kept(tmp_path) <= sum(map(len, files.values()))
    assert hub.sent < 200 * 2**20
    hub.odd.clear()
    verify_model(fetch(tmp_path))


def test_gzip_of_the_right_content_is_taken_by_its_hash(hub, repository, files, tmp_path):
    packed = gzip.compress(files["model.safetensors"], compresslevel=1)
    hub.odd[STORAGE] = ({"Content-Encoding": "gzip"}, packed)
    verify_model(fetch(tmp_path))


def test_a_body_that_is_too_short_is_one_line_and_what_arrived_is_kept(hub, repository, files, tmp_path):
    hub.odd[STORAGE] = ({}, files["model.safetensors"][:1000])
    assert "model.safetensors: 1000 bytes arrived, " in refused(tmp_path)
    hub.odd.clear()
    verify_model(fetch(tmp_path))


def test_a_server_that_begins_anew_after_each_break_is_left(hub, repository, files, tmp_path, waits, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.ignores_ranges, hub.break_after = True, [5000] * 1000
    assert "model.safetensors: the connection broke 6 times, and each began at the start" in refused(tmp_path)


@pytest.mark.parametrize(
    "answer",
    [b"[{}]", b'[{"type": "file"}]', b"[3]", b"{}3", b'{"error": "no"}', b"null", b"[" * 100_000,
     b'[{"type": "file", "path": "config.json", "size": "1 GB", "oid": "0"}]',
     b'[{"type": "file", "path": "config.json", "size": -1, "oid": "0"}]',
     b'[{"type": "file", "path": ["a"], "size": 1, "oid": "0"}]'],
    ids=lambda value: value[:40].decode(),
)  # fmt: skip
def test_odd_json_is_one_line(hub, repository, tmp_path, answer):
    hub.odd[TREE] = ({"Content-Type": "application/json"}, answer)
    assert "HF_ENDPOINT" in refused(tmp_path)


def test_the_login_page_of_a_network_is_one_line(hub, repository, tmp_path):
    hub.odd[TREE] = HTML
    assert refused(tmp_path).startswith(f"{hub.endpoint}{TREE}: this is no answer of the Hub (text/html); is there a")
    hub.odd[f"/datasets/someone/texts/resolve/{COMMIT}/a.jsonl"] = HTML
    with pytest.raises(
        DownloadError, match=r"datasets/someone/texts: the answer does not say the size and the hash of"
    ):
        download_file(TEXTS, "a.jsonl", tmp_path / "a.jsonl")


@pytest.mark.parametrize("answer", [b'{"sha": 3}', b'{"sha": "main"}', b"{}", b"[]"], ids=bytes.decode)
def test_a_newest_commit_that_is_none_is_one_line(hub, repository, answer):
    hub.odd[f"/api/models/{NAME}"] = ({}, answer)
    with pytest.raises(DownloadError, match="the answer does not say its newest commit as the Hub does"):
        newest_commit(MODEL)


def test_an_answer_without_an_end_is_left(hub, repository, tmp_path):
    hub.odd[TREE] = ({}, itertools.repeat(b"[" * 2**20))
    assert "an answer of more than" in refused(tmp_path)
    assert hub.sent < 64 * 2**20


def test_the_template_of_chats_comes_along(hub, repository, files, tmp_path):
    files["chat_template.jinja"] = b"{{ messages }}"
    assert (fetch(tmp_path) / "chat_template.jinja").read_bytes() == files["chat_template.jinja"]
    assert (
        hashlib.sha256(files["chat_template.jinja"]).hexdigest()
        in (tmp_path / "models/small/manifest.json").read_text()
    )
