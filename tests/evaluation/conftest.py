"""A Hub that ``datasets`` asks."""

from collections.abc import Callable

import pytest


@pytest.fixture
def ask_hub_at(monkeypatch, tmp_path, waits) -> Callable[[str], None]:
    """Has ``datasets`` ask a Hub, with a cache of its own."""

    def ask(endpoint: str) -> None:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        for config, name in (("datasets.config", "HF_ENDPOINT"), ("huggingface_hub.constants", "ENDPOINT")):
            monkeypatch.setattr(f"{config}.HF_HUB_OFFLINE", False)
            monkeypatch.setattr(f"{config}.{name}", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "data sets")

    return ask


@pytest.fixture
def online(hub, ask_hub_at):
    """The Hub on loopback, asked by ``datasets``."""
    ask_hub_at(hub.endpoint)
    return hub


@pytest.fixture
def no_network(monkeypatch) -> Callable[[], None]:
    """Once called, forbids every socket."""

    def forbidden(*_, **__):
        raise AssertionError("a socket was asked for")

    def forbid() -> None:
        monkeypatch.setattr("socket.socket", forbidden)
        monkeypatch.setattr("socket.create_connection", forbidden)

    return forbid
