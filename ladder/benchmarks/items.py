"""Loads the items of a benchmark for lm-eval, from wherever this folder lies."""

from __future__ import annotations

import json
from pathlib import Path

import datasets


def load(benchmark: str, **_) -> datasets.DatasetDict:
    """The items of ``benchmark`` as the split ``test``; lm-eval also passes the task's metadata, unused."""
    lines = (Path(__file__).parent / f"{benchmark}.jsonl").read_text().splitlines()
    return datasets.DatasetDict(test=datasets.Dataset.from_list([json.loads(line) for line in lines]))
