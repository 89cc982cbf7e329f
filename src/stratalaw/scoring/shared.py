"""Scoring by a plan: every token that requests share runs once.

A row holds a part of the prefix tree of the requests under a tree mask; a prefix on which many rows hang runs once into
a cache of keys and values (see ``plan``).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from stratalaw.scoring import plain
from stratalaw.scoring.plain import LogLikelihoods
from stratalaw.scoring.plan import Batch, Group, Plan, make_plan

LOG = logging.getLogger(__name__)
TOLERANCE = 0.5  # nats a token: far above the rounding of bf16, far below what a wrong mask or position does
# Not cuDNN's: it prepares a kernel for every new shape, which takes longer than most batches.
ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
HEAD_POSITIONS = 4096  # whose logits are held at once: float32 for the whole vocabulary


def score(
    model: torch.nn.Module,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    tokens_a_batch: int,
    max_length: int,
    plan: Plan | None = None,
) -> LogLikelihoods:
    """Log-likelihood of each continuation after its context; as ``plain.score``, to rounding, at a fraction of the
    tokens.

    A model that cannot take a tree mask (a sliding window, no position ids) is scored by ``plain.score``, with a
    warning in the log.

    Args:
        model, contexts, continuations, tokens_a_batch, max_length: see ``plain.score``.
        plan: what ``make_plan`` made of the same requests and limits; made here if not given.

    Raises:
        ValueError, FloatingPointError: as ``plain.score``.
    """
    limits = {"tokens_a_batch": tokens_a_batch, "max_length": max_length}
    obstacle = why_not(model)
    if obstacle:
        LOG.warning("requests are scored one by one: %s", obstacle)
        return plain.score(model, contexts, continuations, **limits)
    plain.check_requests(contexts, continuations, max_length)
    return run(model, plan or make_plan(contexts, continuations, **limits))


@torch.inference_mode()
def run(model: torch.nn.Module, plan: Plan) -> LogLikelihoods:
    """Log-likelihoods of the requests of a plan.

    Raises:
        FloatingPointError: a log-likelihood is not finite.
    """
    LOG.info("%d tokens run where one row for each request would run %d", plan.tokens, plan.plain_tokens)
    found, requests = [], [np.empty(0, dtype=np.int64)]
    with sdpa_kernel(ATTENTION):
        for group in plan.groups:
            cache = _run_prefix(model, group)
            for batch in group.batches:
                found.append(_run_batch(model, batch, len(group.prefix), cache))
                requests.append(batch.request)
    # Nothing waits for the device before this line; the sums are taken in a fixed order.
    log_likelihoods, is_likeliest = torch.cat(found, dim=1).double().cpu().numpy() if found else np.empty((2, 0))
    request = np.concatenate(requests)
    total = np.bincount(request, weights=log_likelihoods, minlength=plan.n_requests)
    misses = np.bincount(request, weights=1 - is_likeliest, minlength=plan.n_requests)
    plain.check_finite(total)
    return LogLikelihoods(total, misses == 0)


def why_not(model) -> str | None:
    """Why a model cannot be scored with shared prefixes; None when it can."""
    parameters = inspect.signature(model.get_decoder().forward).parameters
    for needed in ("attention_mask", "position_ids", "past_key_values"):
        if needed not in parameters:
            return f"{type(model).__name__} takes no {needed}"
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(model.config, "use_sliding_window", False):
        return f"{type(model).__name__} has layers that do not attend to all tokens ({', '.join(sorted(kinds))})"
    # What the configuration does not tell, a small tree does: two branches after a shared prefix.
    rng = np.random.default_rng(0)
    context = rng.integers(model.config.vocab_size, size=24)
    contexts = [np.append(context, branch) for branch in rng.integers(model.config.vocab_size, size=(3, 2))]
    continuations = rng.integers(model.config.vocab_size, size=(3, 3))
    limits = {"tokens_a_batch": 16, "max_length": 64}
    trees = run(model, make_plan(contexts, continuations, **limits)).total
    rows = plain.score(model, contexts, continuations, **limits).total
    worst = float(np.abs(trees - rows).max())
    return None if worst < TOLERANCE * continuations.shape[1] else f"its trees differ from its rows by {worst:.2f} nats"


def _run_prefix(model, group: Group) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of the prefix in each layer, shape (1, heads, prefix, head size) each; empty without a prefix."""
    if not len(group.prefix):
        return []
    tokens = torch.from_numpy(group.prefix)[None].to(model.device)
    cache = model.get_decoder()(input_ids=tokens, use_cache=True).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


def _run_batch(model, batch: Batch, prefix: int, cache) -> torch.Tensor:
    """Of each prediction of a batch its log-likelihood (nats), and 1 where it is the most likely one; float32, shape
    (2, predictions)."""
    tokens, depth, end, position, place, target = _to_device(
        (batch.tokens, batch.depth, batch.end, batch.position, batch.place, batch.target), model.device
    )
    hidden = model.get_decoder()(
        input_ids=tokens,
        attention_mask=_tree_mask(end, prefix, model.dtype),
        position_ids=depth,
        past_key_values=_expanded(cache, len(tokens), model.config) if cache else None,
        use_cache=bool(cache),
    ).last_hidden_state
    predicting = hidden.reshape(-1, hidden.shape[-1])[position]
    starts = range(0, len(predicting), HEAD_POSITIONS)
    predictions = np.searchsorted(batch.place, [*starts, len(predicting)])
    found = []
    for start, (first, last) in zip(starts, pairwise(predictions), strict=True):
        logits = model.get_output_embeddings()(predicting[start : start + HEAD_POSITIONS]).float()
        own_place, own_target = place[first:last] - start, target[first:last]
        log_likelihood = logits[own_place, own_target] - logits.logsumexp(-1)[own_place]
        found.append(torch.stack([log_likelihood, logits.argmax(-1)[own_place] == own_target]))
    return torch.cat(found, dim=1)


def _to_device(parts: Sequence[np.ndarray], device: torch.device) -> Iterator[torch.Tensor]:
    """Arrays of integers on a device, in one copy that the host does not wait for."""
    flat = torch.from_numpy(np.concatenate([part.ravel() for part in parts]))
    if device.type == "cuda":
        flat = flat.pin_memory()
    flat = flat.to(device, non_blocking=True)
    for part, own in zip(parts, flat.split([part.size for part in parts]), strict=True):
        yield own.view(part.shape)


def _tree_mask(end: torch.Tensor, prefix: int, dtype: torch.dtype) -> torch.Tensor:
    """What each token may attend to: the prefix, its ancestors and itself. Added to attention scores.

    Shape (rows, 1, length, prefix + length); in depth-first order the descendants of token j are the places j to
    end[j].
    """
    rows, length = end.shape
    place = torch.arange(length, device=end.device)
    is_ancestor = (place[None, None, :] <= place[None, :, None]) & (place[None, :, None] < end[:, None, :])
    allowed = torch.cat([is_ancestor.new_ones(rows, length, prefix), is_ancestor], dim=2)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=end.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def _expanded(cache: list[tuple[torch.Tensor, torch.Tensor]], rows: int, config):
    """A cache of a prefix for as many rows; the rows share its memory until they add to it."""
    from transformers import DynamicCache

    expanded = DynamicCache(config=config)
    for layer, (keys, values) in enumerate(cache):
        expanded.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    return expanded
