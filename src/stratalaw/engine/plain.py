"""Log-likelihoods in plain batches: every request is a row by itself, padded on the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from stratalaw.engine.batches import Integers, TokenIds


@dataclass(frozen=True)
class LogLikelihoods:
    """``total`` (requests,): log-likelihood of each continuation in nats, float64 sums of float32 log-softmax values;
    ``is_greedy`` (requests,): whether every token of the continuation is the most likely one."""

    total: NDArray[np.float64]
    is_greedy: NDArray[np.bool_]


def batches_by_length(lengths: Integers, tokens_per_batch: int) -> Iterator[Integers]:
    """Indices in batches, longest first, each of at most ``tokens_per_batch`` tokens, padding included."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, tokens_per_batch // int(lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel,
    contexts: Sequence[TokenIds],
    continuations: Sequence[TokenIds],
    *,
    tokens_per_batch: int,
    max_length: int,
) -> LogLikelihoods:
    """Log-likelihood of each continuation after its context.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        contexts: token ids; none empty (give the model's beginning-of-text token instead).
        continuations: token ids; none empty.
        tokens_per_batch: tokens in one forward pass, so that results do not depend on free memory.
        max_length: tokens the model can take; longer inputs lose tokens on the left, as in lm-eval.

    Raises:
        ValueError: a context or continuation is empty, or a continuation alone is too long.
        FloatingPointError: a log-likelihood is not finite.
    """
    check_requests(contexts, continuations, max_length)
    continuation_lengths = np.array([len(continuation) for continuation in continuations])
    # The last token is predicted, never an input.
    inputs = [
        np.concatenate([context, continuation])[-(max_length + 1) :]
        for context, continuation in zip(contexts, continuations, strict=True)
    ]
    lengths = np.array([len(row) for row in inputs])
    total = np.empty(len(inputs))
    is_greedy = np.empty(len(inputs), dtype=bool)
    for rows in batches_by_length(lengths, tokens_per_batch):
        total[rows], is_greedy[rows] = _run_rows(model, [inputs[row] for row in rows], continuation_lengths[rows])
    check_finite(total)
    return LogLikelihoods(total, is_greedy)


def check_requests(contexts: Sequence[TokenIds], continuations: Sequence[TokenIds], max_length: int) -> None:
    """Raise ValueError when a context or continuation is empty, or a continuation alone is too long."""
    for i, (context, continuation) in enumerate(zip(contexts, continuations, strict=True)):
        if not len(context) or not len(continuation):
            raise ValueError(f"request {i}: the {'continuation' if len(context) else 'context'} is empty")
        if len(continuation) > max_length:
            raise ValueError(
                f"request {i}: its continuation has {len(continuation)} tokens; the model takes {max_length}"
            )


def check_finite(total: NDArray[np.float64]) -> None:
    """Raise FloatingPointError when a log-likelihood is not finite."""
    if not np.isfinite(total).all():
        raise FloatingPointError(f"request {np.flatnonzero(~np.isfinite(total))[0]}: its log-likelihood is not finite")


def _run_rows(
    model: PreTrainedModel, rows: list[Integers], continuation_lengths: Integers
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    device = model.device
    lengths = np.array([len(row) for row in rows])
    padded = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(rows)
    row_of_target = np.repeat(np.arange(len(rows)), continuation_lengths)
    offset = np.arange(len(row_of_target)) - np.repeat(
        np.cumsum(continuation_lengths) - continuation_lengths, continuation_lengths
    )
    column_of_target = (lengths - continuation_lengths)[row_of_target] + offset
    tokens, row, target_column = (
        torch.from_numpy(part).to(device) for part in (padded, row_of_target, column_of_target)
    )
    targets = tokens[row, target_column]
    # The model's logits, which may be more than the output head's; of the columns that some row needs.
    columns, place = torch.unique(target_column - 1, return_inverse=True)
    # Right padding lies after every position that counts, and attention is causal: no mask is needed.
    logits = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=columns).logits
    if logits.shape[1] > len(columns):  # a model that gives all, whatever is asked
        logits = logits[:, columns]
    log_probabilities = logits[row, place].float().log_softmax(-1)
    token_totals = log_probabilities.gather(1, targets[:, None]).squeeze(1).double()
    token_is_greedy = log_probabilities.argmax(-1) == targets
    total = torch.zeros(len(rows), dtype=torch.float64, device=device).index_add_(0, row, token_totals)
    greedy = torch.zeros(len(rows), dtype=torch.float64, device=device).index_add_(0, row, token_is_greedy.double())
    return total.cpu().numpy(), greedy.cpu().numpy() == continuation_lengths
