"""The answers of one variant to recorded requests, on dense bf16 weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stratalaw.engine import Batching, generate, log_likelihoods, make_batching
from stratalaw.models.configuration import setting
from stratalaw.models.folder import AUDIT, SETTINGS, ModelError, read_config, verify_model
from stratalaw.quantization.gptq import verify_checkpoint

NO_GENERATION = json.dumps({})  # the options of a request for a log-likelihood


def load_dense(weights_folder: Path, device: str) -> PreTrainedModel:
    """A causal language model with bf16 weights, from a model's folder or from a packed checkpoint.

    transformers loads it, so that weights are found under every name that it knows. They are on the device once: each
    is read, or unpacked, when it is loaded. On a CPU that only emulates bf16 they are kept in float32, in which they
    give the same answers up to rounding.

    Raises:
        ModelError: a file is not what it was when the folder was made, or weights of the model are missing in it.
    """
    import torch
    from transformers import GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME

    from stratalaw.models.arithmetic import only_emulates_bf16
    from stratalaw.models.empty import empty_model, without_progress_bars
    from stratalaw.quantization.unpacking import as_the_model_has_them, weights_of

    (verify_checkpoint if (weights_folder / AUDIT).exists() else verify_model)(weights_folder)
    empty = empty_model(weights_folder)
    # With threads of transformers, which read ahead, as many weights as there are would be unpacked at the same time.
    reading = patch.dict(os.environ, HF_DEACTIVATE_ASYNC_LOAD="1")
    with weights_of(weights_folder, device) as weights, reading, without_progress_bars():
        model, found = type(empty).from_pretrained(
            None,
            config=empty.config,
            state_dict=as_the_model_has_them(weights, empty) if (weights_folder / SETTINGS).exists() else weights,
            dtype=torch.bfloat16,
            device_map={"": device},
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):
        raise ModelError(f"{weights_folder}: no weights for {missing[0]} ({len(missing)} missing)")
    if (weights_folder / GENERATION_CONFIG_NAME).exists():
        model.generation_config = GenerationConfig.from_pretrained(weights_folder)
    if only_emulates_bf16(device):
        model = model.float()  # several times as fast
    dense: PreTrainedModel = model.eval()
    return dense


def context_length(model_folder: Path) -> int:
    """Tokens that a model can take at once, from its configuration."""
    return int(setting(read_config(model_folder), "max_position_embeddings"))


def load_tokenizer(weights_folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a variant's weights."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(weights_folder, trust_remote_code=False)


def batch_requests(requests: pd.DataFrame, max_length: int, tokens_per_batch: int) -> Batching:
    """How the recorded requests for log-likelihoods share their tokens, the same for every variant."""
    rows = requests[requests.generation == NO_GENERATION]
    contexts, continuations = rows.context.tolist(), rows.continuation.tolist()
    return make_batching(contexts, continuations, tokens_per_batch=tokens_per_batch, max_length=max_length)


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: pd.DataFrame,
    batching: Batching,
    tokens_per_batch: int,
) -> pd.DataFrame:
    """A variant's answers, in the order of the requests (see ``harness.record_requests``).

    ``batching``: what ``batch_requests`` made of the same requests, context length and ``tokens_per_batch``.

    Columns: ``log_likelihood`` of the continuation, or of what was generated (nats; missing where transformers
    generated it), ``is_greedy`` (False for generations); of generations ``text`` and ``token_ids``, that at which it
    ended included (both missing for all others), ``tokens`` (how many, 0 for all others) and ``is_cut_off`` (whether
    the limit ended the text).
    """
    limits = {
        "tokens_per_batch": tokens_per_batch,
        "max_length": model.config.get_text_config().max_position_embeddings,
    }
    answers = pd.DataFrame(
        {
            "log_likelihood": np.nan,
            "is_greedy": False,
            "text": None,
            "token_ids": None,
            "tokens": 0,
            "is_cut_off": False,
        },
        index=requests.index,
    )
    for generation, rows in requests.groupby("generation", sort=False):
        contexts = rows.context.tolist()
        if options := json.loads(str(generation)):
            generated = generate(model, tokenizer, contexts, **options, **limits)
            answers.loc[rows.index, "text"] = generated.text
            answers.loc[rows.index, "tokens"] = generated.tokens
            answers.loc[rows.index, "is_cut_off"] = generated.is_cut_off
            answers.loc[rows.index, "log_likelihood"] = generated.log_likelihood
            answers.loc[rows.index, "token_ids"] = pd.Series(generated.token_ids, rows.index)
        else:
            computed = log_likelihoods(model, contexts, rows.continuation.tolist(), batching=batching, **limits)
            answers.loc[rows.index, "log_likelihood"] = computed.total
            answers.loc[rows.index, "is_greedy"] = computed.is_greedy
    return answers
