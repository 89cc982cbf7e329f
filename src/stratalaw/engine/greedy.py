"""Greedy generation: the most likely token, again and again, up to a limit, an end of text or a stop string."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from stratalaw.engine.batches import Integers, TokenIds
from stratalaw.engine.company import kept_apart
from stratalaw.engine.decoding import decode
from stratalaw.engine.plain import batches_by_length
from stratalaw.engine.shared import obstacle
from stratalaw.engine.stopping import Stopping

LOG = logging.getLogger(__name__)
# What a model's generation_config may hold that makes no difference to a greedy choice.
WITHOUT_EFFECT = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff"),
    *("max_length", "max_new_tokens", "use_cache", "cache_implementation", "_from_model_config", "trust_remote_code"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
}


@dataclass(frozen=True)
class Generations:
    """What was generated after each context.

    Attributes:
        text: up to the first stop string, special tokens left out.
        tokens: (contexts,) new tokens, that at which the text ended included.
        is_cut_off: (contexts,) whether the limit ended it.
        log_likelihood: (contexts,) of the new tokens together, in nats; missing where transformers generated.
        token_ids: of the new tokens, that at which the text ended included.
    """

    text: list[str]
    tokens: NDArray[np.int64]
    is_cut_off: NDArray[np.bool_]
    log_likelihood: NDArray[np.float64]
    token_ids: list[list[int]]


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[TokenIds],
    *,
    stop: Sequence[str],
    max_new_tokens: int,
    tokens_per_batch: int,
    max_length: int,
) -> Generations:
    """What follows each context, chosen greedily, up to the first of the ``stop`` strings.

    A model that the engine cannot run takes transformers' own path, with the reason in the log.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: the model's tokenizer.
        contexts: token ids; those that leave no room for ``max_new_tokens`` lose tokens on the left, as in lm-eval.
        stop: text that ends a generation and is not part of it.
        max_new_tokens: limit on the generated tokens.
        tokens_per_batch: tokens in one forward pass.
        max_length: tokens the model can take.

    Raises:
        ValueError: ``max_new_tokens`` leaves no room for a context.
    """
    if max_new_tokens >= max_length:
        raise ValueError(f"{max_new_tokens} new tokens leave no room for a context; the model takes {max_length}")
    prompts = [np.asarray(context)[-(max_length - max_new_tokens) :] for context in contexts]
    ends = ends_of_text(model, tokenizer)
    stopping = Stopping(tokenizer, stop, ends)
    limits = {"max_new_tokens": max_new_tokens, "tokens_per_batch": tokens_per_batch}
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if reason := why_not(model):
        LOG.warning("generations take transformers' own path: %s", reason)
    found: list[list[int]] = [[]] * len(prompts)
    log_likelihood = np.full(len(prompts), np.nan)
    for rows in kept_apart(model, np.array([len(prompt) for prompt in prompts], dtype=np.int64), max_new_tokens):
        alike = [prompts[row] for row in rows]
        if reason:
            generated = _generate_plainly(model, alike, stopping, ends, padding, **limits)
        else:
            decoded = decode(model, alike, stopping, **limits)
            generated = [row.tokens for row in decoded]
            log_likelihood[rows] = [row.log_likelihood for row in decoded]
        for row, tokens in zip(rows, generated, strict=True):
            found[row] = tokens
    return Generations(
        [stopping.text(tokens) for tokens in found],
        np.array([len(tokens) for tokens in found], dtype=np.int64),
        np.array([not stopping.ends(tokens) for tokens in found], dtype=bool),
        log_likelihood,
        found,
    )


def ends_of_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a text: the model's, and the tokenizer's, which lm-eval takes for a stop string."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = own if isinstance(own, list) else [own]
    return frozenset(int(token) for token in (*several, tokenizer.eos_token_id) if token is not None)


def why_not(model: PreTrainedModel) -> str | None:
    """Why the engine cannot generate with a model; None when it can."""
    set_ = model.generation_config.to_diff_dict() if model.generation_config is not None else {}
    if more := sorted(name for name, value in set_.items() if name not in WITHOUT_EFFECT and value is not None):
        return f"its generation_config asks for {more[0]}={set_[more[0]]!r}"
    return obstacle(model)


class _Ends(StoppingCriteria):
    """Stops a row whose new text holds a stop string.

    That of transformers takes the vocabulary apart, and fails where a tokenizer has no word for its test string.
    """

    def __init__(self, stopping: Stopping, context_length: int) -> None:
        self.stopping, self.context_length = stopping, context_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        new = input_ids[:, self.context_length :].tolist()
        return torch.tensor([self.stopping.in_text(tokens) for tokens in new], device=input_ids.device)


@torch.inference_mode()
def _generate_plainly(
    model: PreTrainedModel,
    prompts: Sequence[Integers],
    stopping: Stopping,
    ends: frozenset[int],
    padding: int,
    *,
    max_new_tokens: int,
    tokens_per_batch: int,
) -> list[list[int]]:
    """New tokens by transformers' own generation, rows padded on the left."""
    lengths = np.array([len(prompt) for prompt in prompts])
    found: list[list[int]] = [[]] * len(prompts)
    for rows in batches_by_length(lengths + max_new_tokens, tokens_per_batch):
        width = lengths[rows].max()
        tokens = np.full((len(rows), width), padding)
        mask = np.arange(width) >= width - lengths[rows][:, None]
        tokens[mask] = np.concatenate([prompts[row] for row in rows])
        generated = model.generate(
            input_ids=torch.from_numpy(tokens).to(model.device),
            attention_mask=torch.from_numpy(mask).long().to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([_Ends(stopping, int(width))]),
            eos_token_id=sorted(ends),
            pad_token_id=padding,
        )
        for row, new in zip(rows, generated[:, width:].tolist(), strict=True):
            found[row] = next((new[:i] for i in range(1, len(new)) if stopping.ends(new[:i])), new)
    return found
