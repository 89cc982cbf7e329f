"""A benchmark's data set is that of its commit, whatever the Hub answers and whatever a cache holds besides."""

import json
from pathlib import Path

import datasets
import pytest

from stratalaw.evaluation.harness import data_sets_at
from stratalaw.evaluation.tasks import is_on_the_hub
from stratalaw.models.hub import DownloadError
from stratalaw.study import StudyError
from tests.hub_server import HubRepository

PINNED, NEWER, UNSEEN = ("a" * 40, "b" * 40, "c" * 40)
NAME = "someone/questions"
NOBODY = "http://127.0.0.1:9"  # no server listens there


def repository(commit: str) -> HubRepository:
    lines = json.dumps({"question": f"as of {commit}"}) + "\n"
    return HubRepository(commit, {"README.md": b"# Questions\n", "test.jsonl": lines.encode()})


def questions(commit: str | None) -> list[str]:
    with data_sets_at(commit):
        return datasets.load_dataset(path=NAME, name=None)["test"]["question"][:]


@pytest.fixture
def cached(online):
    """The pinned commit has been fetched, and a newer one after it, by somebody who pins nothing."""
    online.repositories[f"datasets/{NAME}"] = repository(PINNED)
    assert questions(PINNED) == [f"as of {PINNED}"]
    online.repositories[f"datasets/{NAME}"] = repository(NEWER)
    assert questions(None) == [f"as of {NEWER}"]
    return online


def test_the_pin_holds_when_the_hub_answers_503(cached):
    cached.status = 503
    assert questions(PINNED) == [f"as of {PINNED}"]
    with pytest.raises(DownloadError, match=f"^{cached.endpoint}/datasets/{NAME}: the Hub answered with status 503"):
        questions(UNSEEN)


def test_the_pin_holds_when_the_hub_is_down(cached, ask_hub_at):
    ask_hub_at(NOBODY)
    assert questions(PINNED) == [f"as of {PINNED}"]
    with pytest.raises(DownloadError, match=f"^{NOBODY} cannot be reached"):
        questions(UNSEEN)


def test_a_commit_that_the_hub_has_lost_is_one_line(cached):
    with pytest.raises(DownloadError, match=f"{NAME} has no commit {PINNED}"):
        questions(PINNED)


def test_offline_the_pin_holds_and_a_commit_never_fetched_is_one_line(cached, monkeypatch):
    for config in ("datasets.config", "huggingface_hub.constants"):
        monkeypatch.setattr(f"{config}.HF_HUB_OFFLINE", True)
    assert questions(PINNED) == [f"as of {PINNED}"]
    with pytest.raises(DownloadError, match=f"{NAME}: commit {UNSEEN} is not in the cache, and HF_HUB_OFFLINE is set"):
        questions(UNSEEN)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ({"gated": True}, "is gated: accept its terms on that page"),
        ({"commit": NEWER}, f"has no commit {PINNED}; correct the revision"),
        ({"limited": 10**6}, "the Hub still limits requests after several waits"),
        ({"status": 503}, "the Hub answered with status 503"),
        ({"absent": True}, "the Hub has no such data set, or it is private"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_hub_refuses_is_one_line(online, fault, line):
    there = online.repositories[f"datasets/{NAME}"] = repository(fault.get("commit", PINNED))
    there.gated = fault.get("gated", False)
    online.limited, online.status = fault.get("limited", 0), fault.get("status", 0)
    if "absent" in fault:
        online.repositories.clear()
    with pytest.raises(DownloadError, match=line) as error:
        questions(PINNED)
    assert str(error.value).startswith(f"{online.endpoint}/datasets/{NAME}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("someone/questions", True), ("xnli", True), ("paws-x", True), ("json", False), ("parquet", False), ("", False)],
)
def test_data_sets_of_the_hub_may_have_a_name_without_owner(path, expected):
    assert is_on_the_hub(path) is expected


def test_a_folder_is_not_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("xnli").mkdir()
    assert not is_on_the_hub("xnli")


@pytest.fixture
def without_owner(online):
    """A data set that is known by its former name, too, as are those from before there were owners."""
    online.repositories["datasets/facebook/xnli"] = repository(PINNED)
    online.renamed["datasets/xnli"] = "datasets/facebook/xnli"
    return online


def of_xnli() -> list[str]:
    with data_sets_at(PINNED):
        return datasets.load_dataset("xnli")["test"]["question"][:]


def test_a_data_set_without_owner_is_that_of_its_commit(without_owner, ask_hub_at):
    assert of_xnli() == [f"as of {PINNED}"]
    without_owner.repositories["datasets/facebook/xnli"] = repository(NEWER)
    ask_hub_at(NOBODY)
    assert of_xnli() == [f"as of {PINNED}"]


def test_a_data_set_without_owner_that_lacks_the_commit_is_one_line(without_owner):
    without_owner.repositories["datasets/facebook/xnli"] = repository(NEWER)
    with pytest.raises(DownloadError, match=f"^{without_owner.endpoint}/datasets/xnli has no commit {PINNED}"):
        of_xnli()


def test_a_pinned_data_set_is_never_taken_for_a_folder(without_owner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("xnli").mkdir()
    (Path("xnli") / "test.jsonl").write_text('{"question": "of this machine"}\n')
    with pytest.raises(StudyError, match="xnli would be read in place of the Hub's data set xnli; rename it"):
        of_xnli()
