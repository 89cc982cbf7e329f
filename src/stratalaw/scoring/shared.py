"""Scoring by a plan: every token that requests share runs once.

A row holds a part of the prefix tree of the requests under a tree mask; a prefix on which many rows hang runs once into
a cache of keys and values (see ``plan``).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence

import numpy as np
import torch

from stratalaw.scoring import plain
from stratalaw.scoring.plain import LogLikelihoods
from stratalaw.scoring.plan import Batch, Group, make_plan

LOG = logging.getLogger(__name__)
TOLERANCE = 0.5  # nats a token: far above the rounding of bf16, far below what a wrong mask or position does


def score(
    model: torch.nn.Module,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    tokens_a_batch: int,
    max_length: int,
) -> LogLikelihoods:
    """Log-likelihood of each continuation after its context; as ``plain.score``, to rounding, at a fraction of the
    tokens.

    A model that cannot take a tree mask (a sliding window, no position ids) is scored by ``plain.score``, with a
    warning in the log.

    Raises:
        ValueError, FloatingPointError: as ``plain.score``.
    """
    options = {"tokens_a_batch": tokens_a_batch, "max_length": max_length}
    obstacle = why_not(model)
    if obstacle:
        LOG.warning("requests are scored one by one: %s", obstacle)
        return plain.score(model, contexts, continuations, **options)
    plain.check_requests(contexts, continuations, max_length)
    return _run(model, contexts, continuations, **options)


@torch.inference_mode()
def _run(model, contexts, continuations, *, tokens_a_batch: int, max_length: int) -> LogLikelihoods:
    plan = make_plan(contexts, continuations, tokens_a_batch=tokens_a_batch, max_length=max_length)
    LOG.info("%d of %d tokens run", plan.tokens, plan.plain_tokens)
    total = torch.zeros(plan.n_requests, dtype=torch.float64, device=model.device)
    misses = torch.zeros(plan.n_requests, dtype=torch.int64, device=model.device)
    for group in plan.groups:
        cache = _run_prefix(model, group)
        for batch in group.batches:
            _run_batch(model, batch, len(group.prefix), cache, total, misses)
    plain.check_finite(found := total.cpu().numpy())
    return LogLikelihoods(found, (misses == 0).cpu().numpy())


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
    options = {"tokens_a_batch": 16, "max_length": 64}
    trees = _run(model, contexts, continuations, **options).total
    rows = plain.score(model, contexts, continuations, **options).total
    worst = float(np.abs(trees - rows).max())
    return None if worst < TOLERANCE * continuations.shape[1] else f"its trees differ from its rows by {worst:.2f} nats"


def _run_prefix(model, group: Group) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of the prefix in each layer, shape (1, heads, prefix, head size) each; empty without a prefix."""
    if not len(group.prefix):
        return []
    tokens = torch.from_numpy(group.prefix)[None].to(model.device)
    cache = model.get_decoder()(input_ids=tokens, use_cache=True).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


def _run_batch(model, batch: Batch, prefix: int, cache, total: torch.Tensor, misses: torch.Tensor) -> None:
    """Add what a batch tells of its requests to their totals and misses (tokens that are not the most likely)."""
    device = model.device
    tokens, depth, end, position, place, target, request = (
        torch.from_numpy(part).to(device, non_blocking=True)
        for part in (
            *(batch.tokens, batch.depth, batch.end, batch.position),
            *(batch.place, batch.target, batch.request),
        )
    )
    hidden = model.get_decoder()(
        input_ids=tokens,
        attention_mask=_tree_mask(end, prefix, model.dtype),
        position_ids=depth,
        past_key_values=_expanded(cache, len(tokens), model.config) if cache else None,
        use_cache=bool(cache),
    ).last_hidden_state
    predicting = hidden.reshape(-1, hidden.shape[-1])[position]
    log_probabilities = model.get_output_embeddings()(predicting).float().log_softmax(-1)
    likeliest = log_probabilities.argmax(-1)
    total.index_add_(0, request, log_probabilities[place, target].double())
    misses.index_add_(0, request, (likeliest[place] != target).long())


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
