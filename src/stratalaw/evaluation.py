"""The answers of one variant to recorded requests, on dense bf16 weights."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from stratalaw.models import CONFIG
from stratalaw.quantization import AUDIT, dequantize
from stratalaw.scoring import score


def load_dense(weights_folder: Path, device: str):
    """A causal language model with bf16 weights, from a model's folder or from a packed checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    if not (weights_folder / AUDIT).exists():
        return AutoModelForCausalLM.from_pretrained(weights_folder, dtype=torch.bfloat16).eval().to(device)
    with TemporaryDirectory() as scratch:
        dequantize(weights_folder, Path(scratch) / "dense")
        return AutoModelForCausalLM.from_pretrained(Path(scratch) / "dense", dtype=torch.bfloat16).eval().to(device)


def context_length(model_folder: Path) -> int:
    """Tokens that a model can take at once, from its configuration."""
    return json.loads((model_folder / CONFIG).read_text())["max_position_embeddings"]


def answer(model, requests: pd.DataFrame, tokens_a_batch: int) -> pd.DataFrame:
    """Log-likelihood of each requested continuation and whether it is greedy, in the order of the requests."""
    found = score(
        model,
        requests.context.tolist(),
        requests.continuation.tolist(),
        tokens_a_batch=tokens_a_batch,
        max_length=model.config.max_position_embeddings,
    )
    return pd.DataFrame({"log_likelihood": found.total, "is_greedy": found.is_greedy})
