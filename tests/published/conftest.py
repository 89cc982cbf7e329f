"""The library, its rows and its law: read once."""

import pytest

from stratalaw.published.law import law_rows, shipped_law
from stratalaw.published.library import read_library


@pytest.fixture(scope="session")
def library():
    return read_library()


@pytest.fixture(scope="session")
def rows(library):
    return law_rows(library)


@pytest.fixture(scope="session")
def law():
    return shipped_law()
