"""Greedy generation in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from stratalaw.engine.batches import Integers, TokenIds
from stratalaw.engine.company import kept_apart
from stratalaw.engine.plain import batches_by_length

TOKENS_PER_CHARACTER = 4  # the maximum, where a tokenizer falls back to the bytes of UTF-8


class StopStrings(StoppingCriteria):
    """Stop a row when its new text contains a stop string.

    That of transformers takes the vocabulary apart, and fails where a tokenizer has no word for its test string.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], context_length: int) -> None:
        self.tokenizer, self.stop, self.context_length = tokenizer, stop, context_length
        self.looked_at = TOKENS_PER_CHARACTER * max(map(len, stop), default=0)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        newest = input_ids[:, max(self.context_length, input_ids.shape[1] - self.looked_at) :]
        texts = self.tokenizer.batch_decode(newest, skip_special_tokens=True)
        stopped = [any(term in text for term in self.stop) for text in texts]
        return torch.tensor(stopped, device=input_ids.device)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[TokenIds],
    *,
    stop: Sequence[str],
    max_new_tokens: int,
    tokens_per_batch: int,
    max_length: int,
) -> list[str]:
    """The text that follows each context, chosen greedily, up to the first of the ``stop`` strings.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: the model's tokenizer.
        contexts: token ids; those that leave no room for ``max_new_tokens`` lose tokens on the left, as in lm-eval.
        stop: text that ends a generation and is not part of it.
        max_new_tokens: limit on the generated tokens.
        tokens_per_batch: tokens in one batch, the new ones included.
        max_length: tokens the model can take.

    Raises:
        ValueError: ``max_new_tokens`` leaves no room for a context.
    """
    if max_new_tokens >= max_length:
        raise ValueError(f"{max_new_tokens} new tokens leave no room for a context; the model takes {max_length}")
    prompts = [np.asarray(context)[-(max_length - max_new_tokens) :] for context in contexts]
    lengths = np.array([len(prompt) for prompt in prompts])
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    texts = [""] * len(prompts)
    for rows in _batches(model, lengths, max_new_tokens, tokens_per_batch):
        width = lengths[rows].max()
        tokens = np.full((len(rows), width), padding)
        mask = np.arange(width) >= width - lengths[rows][:, None]
        tokens[mask] = np.concatenate([prompts[row] for row in rows])
        generated = model.generate(
            input_ids=torch.from_numpy(tokens).to(model.device),
            attention_mask=torch.from_numpy(mask).long().to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([StopStrings(tokenizer, stop, width)]),
            pad_token_id=padding,
        )
        for row, new_tokens in zip(rows, generated[:, width:].tolist(), strict=True):
            texts[row] = _up_to_first(stop, tokenizer.decode(new_tokens, skip_special_tokens=True))
    return texts


def _batches(
    model: PreTrainedModel, lengths: Integers, max_new_tokens: int, tokens_per_batch: int
) -> Iterator[Integers]:
    """Indices of prompts in batches, of those that the model treats alike."""
    for alike in kept_apart(model, lengths, max_new_tokens):
        for rows in batches_by_length(lengths[alike] + max_new_tokens, tokens_per_batch):
            yield alike[rows]


def _up_to_first(stop: Sequence[str], text: str) -> str:
    ends = [text.find(term) for term in stop if term in text]
    return text[: min(ends, default=len(text))]
