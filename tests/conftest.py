"""Models and studies that several tests use."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

LADDER = Path(__file__).parent.parent / "ladder"


@pytest.fixture(scope="session")
def small_model_folder() -> Path:
    """A trained model that answers in milliseconds."""
    return LADDER / "models" / "r2"
