"""Log-likelihoods by a batching: every token that requests share runs once.

A batch is a stretch of the prefix tree of the requests; it goes through the model as one row, in which a token attends
to its ancestors and nothing else (see ``batches`` and ``attention``).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PreTrainedModel

from stratalaw.engine import plain
from stratalaw.engine.attention import NoTreeAttention, Tree, tree_attention
from stratalaw.engine.batches import Batch, Batching, Integers, TokenIds, make_batching
from stratalaw.engine.company import kept_apart
from stratalaw.engine.fusion import fused_steps
from stratalaw.engine.plain import LogLikelihoods

LOG = logging.getLogger(__name__)
TOLERANCE = 0.5  # nats per token: far above the rounding of bf16, far below what a wrong mask or position does
SAME_LOGITS = 1e-4  # relative, or the rounding of the data type: the same operations, but for some last bits
HEAD_POSITIONS = 4096  # whose logits are held at once, for the whole vocabulary
OBSTACLES: WeakKeyDictionary[PreTrainedModel, str | None] = WeakKeyDictionary()


def obstacle(model: PreTrainedModel) -> str | None:
    """Why a model cannot run requests with shared prefixes, found out once; None when it can."""
    if model not in OBSTACLES:
        OBSTACLES[model] = why_not(model)
    return OBSTACLES[model]


def log_likelihoods(
    model: PreTrainedModel,
    contexts: Sequence[TokenIds],
    continuations: Sequence[TokenIds],
    *,
    tokens_per_batch: int,
    max_length: int,
    batching: Batching | None = None,
) -> LogLikelihoods:
    """Log-likelihood of each continuation after its context, running each token that requests share once.

    Equal to ``plain.log_likelihoods`` up to rounding. A model that cannot run a prefix tree (a sliding window, no
    position ids) takes that path, with a warning in the log.

    Args:
        model, contexts, continuations, tokens_per_batch, max_length: see ``plain.log_likelihoods``.
        batching: what ``make_batching`` made of the same requests and limits; made here if not given.

    Raises:
        ValueError, FloatingPointError: as ``plain.log_likelihoods``.
    """
    plain.check_requests(contexts, continuations, max_length)
    lengths = np.array([min(len(a) + len(b) - 1, max_length) for a, b in zip(contexts, continuations, strict=True)])
    parts = kept_apart(model, lengths)
    if len(parts) <= 1:
        return _log_likelihoods(model, contexts, continuations, tokens_per_batch, max_length, batching)
    LOG.info("%d kinds of requests run apart, since the model treats rows by the longest of a batch", len(parts))
    total, is_greedy = np.empty(len(lengths)), np.empty(len(lengths), dtype=bool)
    for rows in parts:
        answered = _log_likelihoods(
            model,
            [contexts[row] for row in rows],
            [continuations[row] for row in rows],
            tokens_per_batch,
            max_length,
        )
        total[rows], is_greedy[rows] = answered.total, answered.is_greedy
    return LogLikelihoods(total, is_greedy)


def _log_likelihoods(
    model: PreTrainedModel,
    contexts: Sequence[TokenIds],
    continuations: Sequence[TokenIds],
    tokens_per_batch: int,
    max_length: int,
    batching: Batching | None = None,
) -> LogLikelihoods:
    """``log_likelihoods`` of requests that the model treats alike."""
    limits = {"tokens_per_batch": tokens_per_batch, "max_length": max_length}
    if depends_on_company(model, contexts, continuations, max_length):
        LOG.warning("every request runs alone: its result depends on what else is in its batch")
        return plain.log_likelihoods(model, contexts, continuations, tokens_per_batch=1, max_length=max_length)
    if reason := obstacle(model):
        LOG.warning("every request runs as a row by itself: %s", reason)
        return plain.log_likelihoods(model, contexts, continuations, **limits)
    return run(model, batching or make_batching(contexts, continuations, **limits))


def share_prefixes(
    model: PreTrainedModel, contexts: Sequence[TokenIds], continuations: Sequence[TokenIds], max_length: int
) -> bool:
    """Whether ``log_likelihoods`` of these requests is what ``run`` gives of one batching."""
    lengths = np.array([min(len(a) + len(b) - 1, max_length) for a, b in zip(contexts, continuations, strict=True)])
    return (
        len(kept_apart(model, lengths)) <= 1
        and not depends_on_company(model, contexts, continuations, max_length)
        and obstacle(model) is None
    )


def depends_on_company(
    model: PreTrainedModel, contexts: Sequence[TokenIds], continuations: Sequence[TokenIds], max_length: int
) -> bool:
    """Whether the shortest request gets something else beside the longest one than alone."""
    by_length = sorted(range(len(contexts)), key=lambda row: len(contexts[row]) + len(continuations[row]))
    pair = [by_length[0], by_length[-1]] if by_length else []
    asked = [[sequences[row] for row in pair] for sequences in (contexts, continuations)]
    rows = [len(context) + len(continuation) for context, continuation in zip(*asked, strict=True)]
    if len(set(rows)) < 2:
        return False
    alone, together = (
        plain.log_likelihoods(model, *asked, tokens_per_batch=tokens, max_length=max_length).total[0]
        for tokens in (1, len(rows) * max(rows))
    )
    return bool(abs(alone - together) > TOLERANCE * len(asked[1][0]))


@torch.inference_mode()
def run(model: PreTrainedModel, batching: Batching) -> LogLikelihoods:
    """Log-likelihoods of the requests of a batching.

    Raises:
        FloatingPointError: a log-likelihood is not finite.
        NoTreeAttention: see ``attention``.
    """
    LOG.info("%d tokens run where one row for each request would run %d", batching.tokens, batching.plain_tokens)
    with tree_attention(model), fused_steps(model):
        predictions = [_run_batch(model, batch) for batch in batching.batches]
    # Nothing waits for the device before this line; the sums are taken in a fixed order.
    log_likelihoods, is_likeliest = (
        torch.cat(predictions, dim=1).double().cpu().numpy() if predictions else np.empty((2, 0))
    )
    request = np.concatenate([np.empty(0, dtype=np.int64), *(batch.request for batch in batching.batches)])
    # The types of numpy forget that weights make float64 of counts.
    total = np.bincount(request, weights=log_likelihoods, minlength=batching.n_requests).astype(np.float64, copy=False)
    misses = np.bincount(request, weights=1 - is_likeliest, minlength=batching.n_requests)
    plain.check_finite(total)
    return LogLikelihoods(total, misses == 0)


def why_not(model: PreTrainedModel) -> str | None:
    """Why a model cannot run requests with shared prefixes; None when it can."""
    parameters = inspect.signature(model.get_decoder().forward).parameters
    if "position_ids" not in parameters:
        return f"{type(model).__name__} takes no position_ids"
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(model.config, "use_sliding_window", False):
        return f"{type(model).__name__} has layers that do not attend to all tokens ({', '.join(sorted(kinds))})"
    rng = np.random.default_rng(0)
    context = rng.integers(model.config.get_text_config().vocab_size, size=24)
    if _changes_its_logits(model, context):
        return f"{type(model).__name__} does more to its logits than its output head"
    # What the configuration does not tell, a small tree does: three branches after a shared prefix.
    contexts = [
        np.append(context, branch) for branch in rng.integers(model.config.get_text_config().vocab_size, size=(3, 2))
    ]
    continuations = list(rng.integers(model.config.get_text_config().vocab_size, size=(3, 3)))
    limits = {"tokens_per_batch": 256, "max_length": 64}
    try:
        trees = run(model, make_batching(contexts, continuations, **limits)).total
    except (NoTreeAttention, TypeError) as error:
        return str(error)
    rows = plain.log_likelihoods(model, contexts, continuations, **limits).total
    worst = float(np.abs(trees - rows).max())
    return None if worst < TOLERANCE * len(continuations[0]) else f"its trees differ from its rows by {worst:.2f} nats"


@torch.inference_mode()
def _changes_its_logits(model: PreTrainedModel, context: Integers) -> bool:
    """Whether logits are more than the output head's of the last hidden state: scaled, or capped."""
    tokens = torch.from_numpy(context)[None].to(model.device)
    whole = model(input_ids=tokens, use_cache=False).logits
    head = model.get_output_embeddings()(model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state)
    tolerance = max(SAME_LOGITS, torch.finfo(head.dtype).eps)
    return bool((whole - head).float().norm() > tolerance * head.float().norm())


def _run_batch(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """For each prediction of a batch its log-likelihood (nats), and 1 where it is the most likely one; float32, shape
    (2, predictions)."""
    hidden = last_hidden_states(model, batch)
    position, place, target = to_device((batch.position, batch.place, batch.target), model.device)
    starts = range(0, len(position), HEAD_POSITIONS)
    predictions = np.searchsorted(batch.place, [*starts, len(position)])
    parts = []
    for start, (first, last) in zip(starts, pairwise(predictions), strict=True):
        logits = model.get_output_embeddings()(hidden[position[start : start + HEAD_POSITIONS]])
        row, token = place[first:last] - start, target[first:last]
        log_normalizer, likeliest = log_normalizers(logits)
        log_likelihood = logits[row, token].float() - log_normalizer[row]
        parts.append(torch.stack([log_likelihood, likeliest[row] == token]))
    return torch.cat(parts, dim=1)


def last_hidden_states(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Of each token of a batch (tokens, width), within ``tree_attention``."""
    tokens, depth, end = to_device((batch.tokens, batch.depth, batch.end), model.device)
    hidden: torch.Tensor = (
        model.get_decoder()(input_ids=tokens[None], position_ids=depth[None], use_cache=False, tree=Tree(end))
    ).last_hidden_state[0]
    return hidden


def log_normalizers(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log of the sum of exponentials (float32) and the most likely token of each row of logits (rows, vocabulary)."""
    if logits.is_cuda:
        from stratalaw.engine import kernels

        return kernels.log_normalizers(logits)
    return logits.float().logsumexp(-1), logits.argmax(-1)


def to_device(parts: Sequence[Integers], device: torch.device) -> Iterator[torch.Tensor]:
    """Arrays of integers on a device, in one copy that the host does not wait for."""
    flat = torch.from_numpy(np.concatenate(parts))
    if device.type == "cuda":
        flat = flat.pin_memory()
    return iter(torch.split(flat.to(device, non_blocking=True), [len(part) for part in parts]))
