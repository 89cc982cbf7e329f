"""Downloads from a Hub on loopback, with everything that goes wrong on the way."""

import errno
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoModelForCausalLM

from stratalaw.jobs.call import Call, perform
from stratalaw.models.folder import count_parameters, model_size, verify_model
from stratalaw.models.hub import DownloadError, Repository, download_file, download_model, newest_commit
from tests.hub_server import GOOD_TOKEN, HubRepository

COMMIT = "c0ffee" + "0" * 34
NAME = "someone/small"
MODEL = Repository(NAME, commit=COMMIT)


@pytest.fixture
def files(small_model_folder) -> dict[str, bytes]:
    """A model as repositories have it: with code and pickled weights, which are not to be fetched."""
    wanted = {path.name: path.read_bytes() for path in small_model_folder.iterdir() if path.name != "manifest.json"}
    unwanted = {"modeling_small.py": b"raise SystemExit", "pytorch_model.bin": b"pickle", "original/params.json": b"{}"}
    return wanted | unwanted


@pytest.fixture
def repository(hub, files) -> HubRepository:
    hub.repositories[f"models/{NAME}"] = HubRepository(COMMIT, files)
    return hub.repositories[f"models/{NAME}"]


@pytest.fixture
def fetch(tmp_path):
    """Fetches the model; gives its folder."""

    def fetch_model(repository: Repository = MODEL) -> Path:
        target = tmp_path / "models" / "small"
        download_model(repository, target, tmp_path / "downloads")
        return target

    return fetch_model


def ranges_asked(hub) -> list[str]:
    """Parts of files that the storage was asked for."""
    return [asked for _, path, asked, _ in hub.requests if path.startswith("/storage/") and asked]


def assert_nothing_is_there(tmp_path) -> None:
    folder = tmp_path / "models"
    assert not folder.exists() or list(folder.iterdir()) == []
    assert not list((tmp_path / "downloads").rglob("*.safetensors"))


def test_a_model_is_fetched_without_code_and_pickles(hub, repository, fetch, files, tmp_path):
    target = fetch()
    verify_model(target)
    fetched = {path.name: path.read_bytes() for path in target.iterdir() if path.name != "manifest.json"}
    assert fetched == {name: files[name] for name in fetched}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(fetched)
    assert not {"modeling_small.py", "pytorch_model.bin", "params.json"} & (set(fetched) | set(hub.fetched()))
    assert set(hub.fetched().values()) == {1}
    assert list((tmp_path / "downloads").iterdir()) == []
    assert constants.HF_HUB_OFFLINE, "only downloads may use the network"


def test_of_several_weights_those_of_the_index_are_fetched(hub, small_model_folder, fetch, files, tmp_path):
    AutoModelForCausalLM.from_pretrained(small_model_folder).save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    parts = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    files["consolidated.safetensors"] = files.pop("model.safetensors")
    hub.repositories[f"models/{NAME}"] = HubRepository(COMMIT, files | parts)
    target = fetch()
    assert model_size(target) == count_parameters(small_model_folder)
    assert {path.name for path in target.glob("*.safetensors")} == {n for n in parts if n.endswith(".safetensors")}
    assert "consolidated.safetensors" not in hub.fetched()


def test_a_limit_on_requests_is_waited_out(hub, repository, fetch, waits):
    hub.limited = 2
    verify_model(fetch())
    assert waits[:2] == [2, 2]  # the Hub said one second, and huggingface_hub adds one


def test_a_limit_on_the_files_themselves_is_waited_out(hub, repository, fetch, waits, monkeypatch):
    import stratalaw.models.hub as downloads

    listed = downloads.list_files

    def then_limited(of):
        found = listed(of)
        hub.limited = 3
        return found

    monkeypatch.setattr(downloads, "list_files", then_limited)
    verify_model(fetch())
    assert hub.limited == 0


def test_a_limit_without_an_end_is_one_line(hub, repository, fetch, waits, tmp_path):
    hub.limited = 10**6
    with pytest.raises(DownloadError, match=rf"{NAME}: the Hub still limits requests after several waits; run again"):
        fetch()
    assert sum(waits) >= 8
    assert_nothing_is_there(tmp_path)


def test_a_connection_that_breaks_goes_on_where_it_was(hub, repository, fetch, files, waits, monkeypatch):
    # The weights are smaller than what huggingface_hub writes at once.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.break_after = [1000, 300_000]  # the first large file is the weights
    target = fetch()
    assert (target / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert ranges_asked(hub) == ["bytes=1000-", "bytes=301000-"]


def test_a_connection_that_always_breaks_is_one_line_and_whole_files_are_kept(hub, repository, fetch, files, waits):
    hub.break_after = [0] * 20
    with pytest.raises(
        DownloadError, match=r"cannot be reached \(.*\); run again with a network: what has arrived is kept"
    ):
        fetch()
    hub.break_after, hub.requests = [], []
    verify_model(fetch())
    assert "config.json" not in hub.fetched() and hub.fetched()["model.safetensors"] == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_hash_is_one_line_and_nothing_stays(hub, repository, fetch, files, tmp_path, name):
    right = files[name]
    files[name] = right[:-1] + bytes([right[-1] ^ 1])
    repository.announced[name] = right
    with pytest.raises(DownloadError, match=rf"{NAME}: {name} has the hash [0-9a-f]+, the Hub says [0-9a-f]+") as error:
        fetch()
    assert "\n" not in str(error.value)
    assert_nothing_is_there(tmp_path)
    files[name] = right
    verify_model(fetch())


def test_a_gated_model_names_its_page_and_the_token(hub, repository, fetch, tmp_path, monkeypatch):
    repository.gated = True
    page = rf"^{hub.endpoint}/{NAME} is gated: accept its terms on that page, then set HF_TOKEN"
    with pytest.raises(DownloadError, match=page):
        fetch()
    assert_nothing_is_there(tmp_path)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    verify_model(fetch())
    assert {token for _, path, _, token in hub.requests if path.startswith("/storage/")} == {None}


def test_a_token_that_the_hub_does_not_know_is_one_line(hub, repository, fetch, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DownloadError, match=rf"{NAME}: the Hub does not know the token that was sent; set HF_TOKEN"):
        fetch()


@pytest.mark.parametrize("token", [None, GOOD_TOKEN])
def test_an_unknown_repository_is_one_line(hub, fetch, monkeypatch, tmp_path, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError, match=rf"^{hub.endpoint}/{NAME}: the Hub has no such model, or it is private"):
        fetch()
    with pytest.raises(DownloadError, match=rf"^{hub.endpoint}/datasets/{NAME}: the Hub has no such data set"):
        newest_commit(Repository(NAME, "dataset"))
    assert_nothing_is_there(tmp_path)


def test_an_unknown_revision_is_one_line(hub, repository, fetch):
    expected = rf"{NAME} has no commit {'f' * 40}; correct the revision, or delete it and run stratalaw pin"
    with pytest.raises(DownloadError, match=expected):
        fetch(Repository(NAME, commit="f" * 40))


def test_no_network_is_one_line(hub, repository, fetch, monkeypatch, waits, tmp_path):
    hub.close()
    with pytest.raises(DownloadError, match=rf"^{hub.endpoint} cannot be reached \(.+\); run again with a network"):
        fetch()
    assert_nothing_is_there(tmp_path)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "has no config.json: it is not a model"),
        ("tokenizer.json", "has no tokenizer"),
        ("model.safetensors", "has no safetensors; weights in pickle formats can run code: not fetched"),
    ],
)
def test_a_repository_that_is_no_model_is_refused_before_anything_is_fetched(hub, repository, fetch, missing, message):
    del repository.files[missing]
    with pytest.raises(DownloadError, match=message):
        fetch()
    assert not hub.fetched()


def test_what_the_disk_cannot_hold_is_not_fetched(hub, repository, fetch, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DownloadError, match=r"the download needs [\d.]+ [kM]B, and [\d.]+ k?B are free"):
        fetch()
    assert not hub.fetched()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_download_goes_on_where_it_was(hub, repository, fetch, files, tmp_path):
    hub.stall_after = [300_000]
    code = f"""
from pathlib import Path
from huggingface_hub import constants
from stratalaw.models.hub import Repository, download_model
constants.DOWNLOAD_CHUNK_SIZE = 1000
folder = Path({str(tmp_path)!r})
download_model(Repository({NAME!r}, commit={COMMIT!r}), folder / "models" / "small", folder / "downloads")
"""
    download = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"HF_HUB_OFFLINE": "1"})
    partial = tmp_path / "downloads" / f"someone--small@{COMMIT}" / "model.safetensors.partial"
    try:
        wait_for(lambda: partial.exists() and partial.stat().st_size >= 250_000)
    finally:
        download.kill()
        download.wait()
    arrived, hub.requests = partial.stat().st_size, []
    target = fetch()
    verify_model(target)
    assert (target / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert ranges_asked(hub) == [f"bytes={arrived}-"]
    assert "config.json" not in hub.fetched()
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_job_killed_while_it_hashes_loses_nothing(hub, repository, fetch, tmp_path, monkeypatch):
    import stratalaw.models.hub as downloads

    def killed(folder, name):
        (folder / "manifest.json").write_text('{"half a mani')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch()
    assert list((tmp_path / "models").glob("*")) == [], "it has not appeared"
    hub.requests = []
    target = fetch()
    assert not hub.fetched()
    verify_model(target)
    assert "manifest.json" not in json.loads((target / "manifest.json").read_text())["sha256"]
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_job_killed_while_the_model_appears_loses_nothing(hub, repository, fetch, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch()
    hub.requests = []
    verify_model(fetch())
    assert not hub.fetched()


def test_what_is_no_file_of_the_model_does_not_come_along(hub, repository, fetch, tmp_path):
    waiting = tmp_path / "downloads" / f"someone--small@{COMMIT}"
    waiting.mkdir(parents=True)
    for name in ("manifest.json", "stray.safetensors"):
        (waiting / name).write_text("of another time")
    target = fetch()
    verify_model(target)
    assert not (target / "stray.safetensors").exists()


def test_a_model_that_is_fetched_again_replaces_the_former(hub, repository, fetch):
    (fetch() / "of the former").touch()
    target = fetch()
    verify_model(target)
    assert not (target / "of the former").exists()
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_disk_that_is_full_midway_is_one_line_and_what_has_arrived_is_kept(
    hub, repository, fetch, files, monkeypatch
):
    import stratalaw.models.hub as downloads

    def full(url, content, **options):
        content.write(files["model.safetensors"][:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fetched = downloads.http_get
    with monkeypatch.context() as patch:
        patch.setattr(
            downloads, "http_get", lambda url, *a, **o: (full if url.endswith("safetensors") else fetched)(url, *a, **o)
        )
        with pytest.raises(DownloadError, match=r"model.safetensors: the disk is full; make room and run again: what"):
            fetch()
    verify_model(fetch())
    assert ranges_asked(hub) == ["bytes=1000-"]


@pytest.mark.parametrize("name", ["en/c4.00.json.gz", "small.jsonl"])
def test_one_file_of_a_data_set(hub, tmp_path, name, waits):
    content = b"text\n" * 1000
    hub.repositories["datasets/someone/texts"] = HubRepository(COMMIT, {name: content, "other.jsonl": b""})
    data_set = Repository("someone/texts", "dataset", COMMIT)
    hub.limited = 2
    download_file(data_set, name, tmp_path / "corpora" / "texts")
    assert (tmp_path / "corpora" / "texts").read_bytes() == content
    assert [path.name for path in (tmp_path / "corpora").iterdir()] == ["texts"]
    assert sum(hub.fetched().values()) == 1
    with pytest.raises(DownloadError, match=rf"datasets/someone/texts has no file absent.jsonl at commit {COMMIT}"):
        download_file(data_set, "absent.jsonl", tmp_path / "corpora" / "absent")
    hub.repositories["datasets/someone/texts"].announced[name] = content[::-1]
    with pytest.raises(DownloadError, match="has the hash"):
        download_file(data_set, name, tmp_path / "corpora" / "again")
    assert [path.name for path in (tmp_path / "corpora").iterdir()] == ["texts"]


def test_the_newest_commit(hub, repository):
    assert newest_commit(Repository(NAME)) == COMMIT


def test_the_token_is_not_logged(hub, repository, tmp_path, monkeypatch, waits):
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    arguments = {"source": NAME, "revision": COMMIT, "model": str(tmp_path / "models" / "small"),
                 "downloads": str(tmp_path / "downloads")}  # fmt: skip
    call = Call("stratalaw.jobs.stages:provide_model", str(tmp_path / "log"), arguments)
    hub.limited = 1
    assert perform(call) is None
    assert any(token for _, _, _, token in hub.requests)
    assert COMMIT in (tmp_path / "log").read_text()
    repository.gated, hub.limited = True, 10**6
    assert "still limits requests" in perform(call)
    assert GOOD_TOKEN not in (tmp_path / "log").read_text()
    manifest = json.loads((tmp_path / "models" / "small" / "manifest.json").read_text())["sha256"]
    assert "model.safetensors" in manifest
