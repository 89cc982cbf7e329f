"""The answers of one variant to recorded requests, on dense bf16 weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.models import CONFIG, verify_model
from stratalaw.quantization import AUDIT, verify_checkpoint
from stratalaw.scoring import Plan, generate, make_plan, score

NO_GENERATION = json.dumps({})  # the options of a request for a log-likelihood


def load_dense(weights_folder: Path, device: str):
    """A causal language model with bf16 weights, from a model's folder or from a packed checkpoint.

    Raises:
        ModelError: a file is not what it was when the folder was made.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    from stratalaw.dequantization import dense_weights

    options = {"dtype": torch.bfloat16, "device_map": device}
    if not (weights_folder / AUDIT).exists():
        verify_model(weights_folder)
        return AutoModelForCausalLM.from_pretrained(weights_folder, **options).eval()
    verify_checkpoint(weights_folder)
    config = AutoConfig.from_pretrained(weights_folder)
    del config.quantization_config
    weights = dense_weights(weights_folder, device)
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return architecture.from_pretrained(None, config=config, state_dict=weights, **options).eval()


def context_length(model_folder: Path) -> int:
    """Tokens that a model can take at once, from its configuration."""
    return json.loads((model_folder / CONFIG).read_text())["max_position_embeddings"]


def load_tokenizer(weights_folder: Path):
    """The tokenizer beside a variant's weights."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights_folder)


def plan_requests(requests: pd.DataFrame, max_length: int, tokens_a_batch: int) -> Plan:
    """How the log-likelihoods among recorded requests are scored, the same for every variant."""
    scored = requests[requests.generation == NO_GENERATION]
    contexts, continuations = scored.context.tolist(), scored.continuation.tolist()
    return make_plan(contexts, continuations, tokens_a_batch=tokens_a_batch, max_length=max_length)


def answer(model, tokenizer, requests: pd.DataFrame, plan: Plan, tokens_a_batch: int) -> pd.DataFrame:
    """A variant's answers, in the order of the requests (see ``harness.record_requests``).

    ``plan``: what ``plan_requests`` made of the same requests, for the model's context length and ``tokens_a_batch``.

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
            found = score(model, contexts, rows.continuation.tolist(), plan=plan, **limits)
            answers.loc[rows.index, "log_likelihood"] = found.total
            answers.loc[rows.index, "is_greedy"] = found.is_greedy
    return answers
