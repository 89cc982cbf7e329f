"""Models and studies that several tests use."""

import gc
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
# Tests run side by side: more threads than one in each would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
if not shutil.which("nvidia-smi"):
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

import pytest

from tests.hub_server import HubServer

LADDER = Path(__file__).parent.parent / "ladder"
# Files and folders whose tests take half a minute or more, the slowest first.
SLOW = (
    *("tests/workflow/", "tests/quantization/test_architectures.py", "tests/docs/test_commands_run.py"),
    *("tests/test_packaging.py", "tests/test_lm_eval_model.py", "tests/ladder/", "tests/laws/"),
    *("tests/test_security.py", "tests/evaluation/", "tests/preparation/", "tests/report/"),
)
# To read all tasks of lm-eval takes a process 16 s.
WITH_ALL_TASKS = ("tests/evaluation/test_tasks.py", "tests/preparation/test_checks.py")


def pytest_collectstart() -> None:
    """Until all tests are collected: to look for garbage among modules, which stay, is an eighth of importing them."""
    gc.disable()


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share something slow run in one process: those of a file, all that rest on the one whole study,
    and all that look at every task of lm-eval.

    The slowest come first, so that at the end no process has one left while the other has nothing to do.
    """
    gc.freeze()
    gc.enable()
    items.sort(key=lambda item: [not item.nodeid.startswith(slow) for slow in SLOW])
    for item in items:
        rests_on_study = {"one_variant", "whole"} & {*getattr(item, "fixturenames", ())}
        if rests_on_study:
            group = "the whole study"
        elif item.nodeid.startswith(WITH_ALL_TASKS):
            group = "all tasks of lm-eval"
        else:
            group = item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def small_model_folder() -> Path:
    """A trained model that answers in milliseconds."""
    return LADDER / "models" / "q3"


@pytest.fixture(scope="session")
def calibration(small_model_folder) -> list[list[int]]:
    """Eight calibration samples of 256 tokens."""
    from transformers import AutoTokenizer

    from stratalaw.calibration.samples import read_corpus, sample

    tokenizer = AutoTokenizer.from_pretrained(small_model_folder)
    corpus = read_corpus(LADDER / "calibration.jsonl")
    return sample(corpus, tokenizer.encode, samples=8, tokens=256, seed=0).tokens.tolist()


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubServer]:
    """A Hub on loopback, asked instead of the real one, by somebody who has no token."""
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that huggingface_hub would have waited."""
    seconds: list[float] = []
    own = SimpleNamespace(**vars(time) | {"sleep": seconds.append})  # other threads of the process sleep as ever
    monkeypatch.setattr("huggingface_hub.utils._http.time", own)
    return seconds
