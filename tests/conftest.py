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


@pytest.fixture(scope="session")
def calibration(small_model_folder) -> list[list[int]]:
    """Eight calibration samples of 256 tokens."""
    from transformers import AutoTokenizer

    from stratalaw.calibration import read_corpus, sample

    tokenizer = AutoTokenizer.from_pretrained(small_model_folder)
    corpus = read_corpus(LADDER / "calibration.jsonl")
    return sample(corpus, tokenizer.encode, samples=8, tokens=256, seed=0).tokens.tolist()
