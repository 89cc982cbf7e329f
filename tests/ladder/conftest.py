import pytest

from ladder.world import World


@pytest.fixture(scope="session")
def world() -> World:
    return World()
