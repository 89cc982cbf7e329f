"""An exported folder arrives on the Hub whole, in one commit, and nowhere where weights are already."""

import pytest

from stratalaw.export.upload import UploadError, upload
from tests.hub_server import GOOD_TOKEN, HubRepository


@pytest.fixture
def uploads(hub, monkeypatch):
    """The Hub as somebody with a token asks it, who stores large files by HTTP."""
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
    monkeypatch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
    return hub


def test_every_file_arrives_in_one_commit_of_a_private_repository(uploads, exported):
    upload(exported, "me/small")
    files = uploads.repositories["models/me/small"].files
    assert files == {path.name: path.read_bytes() for path in exported.iterdir()}
    assert uploads.private == {"me/small": True}
    asked = [path for _, path, _, _ in uploads.requests]
    assert asked.count("/api/models/me/small/commit/main") == 1


def test_a_repository_with_weights_is_left_as_it_is(uploads, exported):
    uploads.repositories["models/me/taken"] = HubRepository("1" * 40, {"model.safetensors": b"theirs"})
    with pytest.raises(UploadError, match="me/taken: has weights already, and nothing is overwritten"):
        upload(exported, "me/taken")
    assert uploads.repositories["models/me/taken"].files == {"model.safetensors": b"theirs"}


def test_without_a_token_the_message_says_how_to_give_one(uploads, exported, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UploadError, match=r"me/small: not uploaded: .*set HF_TOKEN, or log in with: hf auth login"):
        upload(exported, "me/small")
    assert uploads.repositories == {}
