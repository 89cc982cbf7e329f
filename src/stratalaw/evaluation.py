"""The answers of one variant to recorded requests, on dense bf16 weights."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from stratalaw.models import CONFIG, verify_model
from stratalaw.quantization import AUDIT, dequantize, verify_checkpoint
from stratalaw.scoring import generate, score


def load_dense(weights_folder: Path, device: str):
    """A causal language model with bf16 weights, from a model's folder or from a packed checkpoint.

    Raises:
        ModelError: a file is not what it was when the folder was made.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if not (weights_folder / AUDIT).exists():
        verify_model(weights_folder)
        return AutoModelForCausalLM.from_pretrained(weights_folder, dtype=torch.bfloat16).eval().to(device)
    verify_checkpoint(weights_folder)
    with TemporaryDirectory() as scratch:
        dequantize(weights_folder, Path(scratch) / "dense")
        return AutoModelForCausalLM.from_pretrained(Path(scratch) / "dense", dtype=torch.bfloat16).eval().to(device)


def context_length(model_folder: Path) -> int:
    """Tokens that a model can take at once, from its configuration."""
    return json.loads((model_folder / CONFIG).read_text())["max_position_embeddings"]


def load_tokenizer(weights_folder: Path):
    """The tokenizer beside a variant's weights."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights_folder)


def answer(model, tokenizer, requests: pd.DataFrame, tokens_a_batch: int) -> pd.DataFrame:
    """A variant's answers, in the order of the requests (see ``harness.record_requests``).

    Columns: ``log_likelihood`` of the continuation (nats; missing for generations), ``is_greedy`` (False for them), and
    ``text`` (missing for all but generations).
    """
    limits = {"tokens_a_batch": tokens_a_batch, "max_length": model.config.max_position_embeddings}
    answers = pd.DataFrame({"log_likelihood": np.nan, "is_greedy": False, "text": None}, index=requests.index)
    for options, rows in requests.groupby("generation", sort=False):
        contexts = rows.context.tolist()
        if options := json.loads(options):
            answers.loc[rows.index, "text"] = generate(model, tokenizer, contexts, **options, **limits)
        else:
            found = score(model, contexts, rows.continuation.tolist(), **limits)
            answers.loc[rows.index, "log_likelihood"] = found.total
            answers.loc[rows.index, "is_greedy"] = found.is_greedy
    return answers
