"""Greedy generation on the engine: rows of a cache take their steps together.

The contexts run as a prefix tree, each shared token once, and their keys and values go to a cache. A row that ends
leaves, and another takes its stretch of the cache; what a row generates does not depend on the others. On a GPU the
steps are recorded once as a CUDA graph: launching them one by one takes longer than they do.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel

from stratalaw.engine.attention import Tree, tree_attention
from stratalaw.engine.batches import Batch, Integers, make_batching
from stratalaw.engine.cache import Cache, Prefill, Probe, Rows, Stretches
from stratalaw.engine.fusion import fused_steps
from stratalaw.engine.shared import log_normalizers, to_device
from stratalaw.engine.stopping import Stopping

LOG = logging.getLogger(__name__)
MOST_ROWS = 256  # more rows hardly raise the rate: reading the cache takes as long as reading the weights
FEWEST_ROWS = 8  # of a CUDA graph
STEPS = 4  # before the host looks at the new tokens
REFILLED = 0.25  # share of rows that have left when others are let in: their common prefix runs again
SHARE_OF_MEMORY = 0.6  # that the cache may take of what is free


NewToken = tuple[int, float]  # and its log-likelihood


@dataclass
class Row:
    """A generation under way: its request, its stretch of the cache, what was generated, and the log-likelihood of
    that."""

    request: int
    context: Integers
    stretch: tuple[int, int]
    tokens: list[int] = field(default_factory=list)
    log_likelihood: float = 0.0
    is_done: bool = False

    def extend(self, new: Iterable[NewToken], stopping: Stopping, max_new_tokens: int) -> None:
        """Add new tokens up to the one with which the row is done."""
        for token, log_likelihood in new:
            self.tokens.append(token)
            self.log_likelihood += log_likelihood
            self.is_done = stopping.ends(self.tokens) or len(self.tokens) == max_new_tokens
            if self.is_done:
                return


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    contexts: Sequence[Integers],
    stopping: Stopping,
    *,
    max_new_tokens: int,
    tokens_per_batch: int,
) -> list[Row]:
    """What follows each context, greedily, in the order of the contexts.

    Args:
        model: one that can run a prefix tree (see ``shared.why_not``).
        contexts: token ids, none empty, each with room for the new tokens.
        stopping: where a text ends.
        max_new_tokens: limit on the generated tokens.
        tokens_per_batch: tokens in one forward pass.
    """
    done: list[Row] = []
    with tree_attention(model), fused_steps(model):
        needed = sorted((len(context) + max_new_tokens for context in contexts), reverse=True)[:MOST_ROWS]
        probe = _probe(model)
        room = _cache_tokens(model, probe, tokens_per_batch)
        tokens = max(needed[0], min(room, sum(needed)))
        cache = probe.cache(tokens + 1, model.dtype, model.device)  # one more, for rows that only fill a graph
        stretches, steps = Stretches(tokens), Steps(model, cache, tokens)
        longest_first = sorted(range(len(contexts)), key=lambda request: -len(contexts[request]))
        waiting, active, filled = deque(longest_first), list[Row](), 0
        while waiting or active:
            if waiting and len(active) <= (1 - REFILLED) * filled:
                admitted = _admit(waiting, contexts, stretches, max_new_tokens, MOST_ROWS - len(active))
                for row, token in zip(admitted, _prefill(model, cache, admitted, tokens_per_batch), strict=True):
                    row.extend([token], stopping, max_new_tokens)
                active += admitted
                filled = len(active)
            else:
                for row, new in zip(active, steps.take(active), strict=True):
                    row.extend(new, stopping, max_new_tokens)
            stretches.give_back([row.stretch for row in active if row.is_done])
            done += [row for row in active if row.is_done]
            active = [row for row in active if not row.is_done]
    return sorted(done, key=lambda row: row.request)


def _probe(model: PreTrainedModel) -> Probe:
    """What the model's layers keep of each token."""
    one = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
    probe = Probe(Tree(one[0] + 1))
    model.get_decoder()(input_ids=one, position_ids=one, use_cache=False, tree=probe)
    return probe


def _cache_tokens(model: PreTrainedModel, probe: Probe, tokens_per_batch: int) -> int:
    """Tokens that there is memory for."""
    if model.device.type != "cuda":
        return tokens_per_batch
    free, _ = torch.cuda.mem_get_info(model.device)
    unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return int(SHARE_OF_MEMORY * (free + unused)) // probe.bytes_per_token(model.dtype)


def _admit(
    waiting: deque[int], contexts: Sequence[Integers], stretches: Stretches, max_new_tokens: int, most: int
) -> list[Row]:
    """The next rows that there is room for."""
    admitted: list[Row] = []
    while waiting and len(admitted) < most:
        context = contexts[waiting[0]]
        stretch = stretches.take(len(context) + max_new_tokens)
        if stretch is None:
            break
        admitted.append(Row(waiting.popleft(), context, stretch))
    return admitted


def _prefill(model: PreTrainedModel, cache: Cache, rows: Sequence[Row], tokens_per_batch: int) -> list[NewToken]:
    """Run the contexts of rows, each shared token once; the first new token of each."""
    contexts = [row.context for row in rows]
    after = [np.zeros(1, dtype=np.int64)] * len(rows)  # whatever follows: only what precedes it runs
    batching = make_batching(
        contexts, after, tokens_per_batch=tokens_per_batch, max_length=max(len(context) for context in contexts)
    )
    tokens, log_likelihoods = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
    found = [(batch.request, _prefill_batch(model, cache, rows, batch)) for batch in batching.batches]
    for requests, (first, of_first) in found:
        tokens[requests], log_likelihoods[requests] = first.cpu().numpy(), of_first.cpu().numpy()
    return list(zip(tokens.tolist(), log_likelihoods.tolist(), strict=True))


def _prefill_batch(
    model: PreTrainedModel, cache: Cache, rows: Sequence[Row], batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    last = batch.position[batch.place]
    paths = [np.flatnonzero(batch.end[: place + 1] > place) for place in last]
    starts = [rows[request].stretch[0] for request in batch.request]
    targets = [np.arange(start, start + len(path)) for start, path in zip(starts, paths, strict=True)]
    tokens, depth, end, places, source, target = to_device(
        (batch.tokens, batch.depth, batch.end, last, np.concatenate(paths), np.concatenate(targets)), model.device
    )
    hidden = model.get_decoder()(
        input_ids=tokens[None],
        position_ids=depth[None],
        use_cache=False,
        tree=Prefill(Tree(end), cache, source, target),
    ).last_hidden_state[0]
    return _chosen(model, hidden[places])


def _chosen(model: PreTrainedModel, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The most likely token after each hidden state, and its log-likelihood."""
    logits = model.get_output_embeddings()(hidden)
    log_normalizer, likeliest = log_normalizers(logits)
    return likeliest, logits.gather(-1, likeliest[:, None])[:, 0].float() - log_normalizer


New = tuple[torch.Tensor, torch.Tensor]  # tokens and their log-likelihoods


class Steps:
    """Steps of rows that are taken together: each runs its newest token, and gets the next one."""

    def __init__(self, model: PreTrainedModel, cache: Cache, nowhere: int) -> None:
        """``nowhere``: a place of the cache that no row owns."""
        self._model, self._cache, self._nowhere = model, cache, nowhere
        self._graphs: dict[int, Recorded] = {}
        self._records = model.device.type == "cuda"

    def take(self, rows: Sequence[Row]) -> list[list[NewToken]]:
        """The next ``STEPS`` tokens of each row; those that come after its end mean nothing."""
        size = max(FEWEST_ROWS, 1 << (len(rows) - 1).bit_length()) if self._records else len(rows)
        state = np.ones((4, size), dtype=np.int64)
        state[1] = self._nowhere
        for i, row in enumerate(rows):
            length = len(row.context) + len(row.tokens)
            state[:, i] = row.tokens[-1], row.stretch[0], length, row.stretch[1]
        new = self._take(torch.from_numpy(state).to(self._model.device))
        tokens, log_likelihoods = (part[:, : len(rows)].T.tolist() for part in new)
        return [list(zip(*own, strict=True)) for own in zip(tokens, log_likelihoods, strict=True)]

    def _take(self, state: torch.Tensor) -> New:
        if not self._records:
            return self._run(state)
        size = state.shape[1]
        if size not in self._graphs:
            try:
                self._graphs[size] = self._record(state)
            except RuntimeError as error:
                LOG.warning("steps are launched one by one, since they cannot be recorded: %s", error)
                self._records = False
                return self._run(state)
        recorded = self._graphs[size]
        recorded.state.copy_(state)
        recorded.graph.replay()
        return recorded.new

    def _record(self, state: torch.Tensor) -> Recorded:
        state = state.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._run(state)  # kernels are compiled before anything is recorded; the same is written once more later
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next((recorded.graph.pool() for recorded in self._graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            new = self._run(state)
        return Recorded(graph, state, new)

    def _run(self, state: torch.Tensor) -> New:
        """The next tokens and their log-likelihoods, each (steps, rows).

        Args:
            state: (4, rows): the newest token of each row, the start of its stretch, its length, and the longest it
                may become.
        """
        token, start, length, limit = state
        tokens, log_likelihoods = [], []
        for _ in range(STEPS):
            hidden = self._model.get_decoder()(
                input_ids=token[None],
                position_ids=length[None] - 1,
                use_cache=False,
                tree=Rows(self._cache, start, length),
            ).last_hidden_state[0]
            token, log_likelihood = _chosen(self._model, hidden)
            length = torch.minimum(length + 1, limit)  # a row that has ended must not write to its neighbour
            tokens.append(token)
            log_likelihoods.append(log_likelihood)
        return torch.stack(tokens), torch.stack(log_likelihoods)


@dataclass(frozen=True)
class Recorded:
    """Steps on a GPU, recorded: ``state`` is what they read, ``new`` what they write."""

    graph: torch.cuda.CUDAGraph
    state: torch.Tensor
    new: New
