"""What each group of matrices would add to each stratum, to first order: one backward pass for all groups and other
checkpoints at once.

A change dW of a matrix changes an item's margin by about the sum over its tokens of (gradient of the margin by the
matrix's output) . (dW x), where x is the matrix's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stratalaw.engine import decoder_layers, make_batching
from stratalaw.engine.attention import tree_attention
from stratalaw.engine.batches import Batch
from stratalaw.engine.shared import HEAD_POSITIONS, to_device
from stratalaw.evaluation.blocks import ITEM
from stratalaw.sensitivities.margins import mean_change, tokens_that_count
from stratalaw.sensitivities.measuring import Subject

FIRST_ORDER = "first order"
again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)  # computed anew in the backward pass
Option = tuple[str, str]  # a group and the other checkpoint whose weights it would have
Note = Callable[[torch.Tensor, torch.Tensor], None]  # of the input of a matrix, and the gradient by its output


def first_order_gains(subject: Subject) -> pd.DataFrame:
    """The table of ``measured_gains``, to first order; without groups that are no plain linear maps, such as experts.

    A batch is ``tokens_per_batch`` tokens or one item. It keeps the inputs of all layers; what a layer computes from
    them is computed again when its turn comes in the backward pass.
    """
    rows = []
    as_trees = subject.shares_prefixes()
    for stratum, asked in subject.asked.items():
        changes: dict[tuple[str, str], list[float]] = {}
        items: list[Any] = []
        for batch in _batches(asked, subject.tokens_per_batch, as_trees):
            for option, found in _changes(subject, batch, as_trees).items():
                changes.setdefault(option, []).extend(map(float, found))
            items += batch[ITEM].drop_duplicates().itertuples(index=False, name=None)
        index = pd.MultiIndex.from_tuples(items, names=ITEM)
        for (group, variant), of_items in changes.items():
            gain, stderr = mean_change(pd.Series(of_items, index))
            about = {"group": group, "variant": variant, "stratum": stratum, "kind": FIRST_ORDER}
            rows.append(about | {"gain": gain, "stderr": stderr, "n_items": len(items)})
    return pd.DataFrame(rows)


def _batches(asked: pd.DataFrame, tokens_per_batch: int, as_trees: bool) -> Iterator[pd.DataFrame]:
    """Requests of whole items, padded at most ``tokens_per_batch`` tokens or one item; items of like lengths together.

    ``as_trees``: whether an item is one row, or each request.
    """
    items = [item for _, item in asked.groupby(ITEM, sort=False)]
    longest = [_tokens_of_tree(item) if as_trees else _most_tokens(item) for item in items]
    rows: list[pd.DataFrame] = []
    used = 0
    for place in np.argsort(longest, kind="stable"):  # so the last of a batch is the longest
        more = 1 if as_trees else len(items[place])
        if rows and (used + more) * longest[place] > tokens_per_batch:
            yield pd.concat(rows)
            rows, used = [], 0
        rows.append(items[place])
        used += more
    yield pd.concat(rows)


def _tokens_of_tree(item: pd.DataFrame) -> int:
    """At most so many tokens has the tree of an item: contexts share nothing unless they are equal."""
    contexts = {tuple(context) for context in item.context.tolist()}
    return sum(map(len, contexts)) + sum(map(len, item.continuation.tolist()))


def _most_tokens(item: pd.DataFrame) -> int:
    return int((item.context.map(len) + item.continuation.map(len)).max())


def _changes(
    subject: Subject, batch: pd.DataFrame, as_trees: bool
) -> dict[Option, np.ndarray[Any, np.dtype[np.float64]]]:
    """The change of each item's margin by each group and other checkpoint, in the order of the items."""
    model, device = subject.model, subject.model.device
    numbers = torch.tensor(batch.groupby(ITEM, sort=False).ngroup().to_numpy(), device=device)
    n_items = int(numbers.max()) + 1
    item_of_row = torch.arange(n_items, device=device) if as_trees else numbers
    options = product((group for group in subject.groups if not subject.is_fused(group)), subject.others)
    changes = {option: torch.zeros(n_items, dtype=torch.float64, device=device) for option in options}
    attention = tree_attention(model) if as_trees else nullcontext()
    with _noting(subject, item_of_row, changes), attention:
        totals = _of_trees(model, batch) if as_trees else _of_rows(model, batch)
        is_right = torch.tensor(batch.is_right.to_numpy(bool), device=device)
        totals = totals / torch.tensor(tokens_that_count(batch).to_numpy(float), dtype=totals.dtype, device=device)
        margins = _log_sums(totals, numbers, is_right, n_items) - _log_sums(totals, numbers, ~is_right, n_items)
        torch.autograd.backward(margins.sum())
    return {option: found.cpu().numpy() for option, found in changes.items()}


@dataclass(frozen=True)
class _Trees:
    """Prefix trees beside each other, one in each row, with gradients; see ``attention.Attended``.

    ``mask``: bool (rows, 1, tokens, tokens), what each token sees.
    """

    mask: torch.Tensor

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        heads = query.shape[1] // key.shape[1]
        # Heads that share a key get copies: attention with a mask is fused for equal numbers of heads alone.
        key, value = (part.repeat_interleave(heads, dim=1) for part in (key, value))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask, scale=scale)
        return attended.transpose(1, 2)


def _of_trees(model: Any, batch: pd.DataFrame) -> torch.Tensor:
    """The log-likelihood of each request, with a row for each item, from one padded pass that can be gone back."""
    max_length = model.config.get_text_config().max_position_embeddings
    trees: list[Batch] = []
    requests: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    places = pd.Series(np.arange(len(batch)), batch.index)
    for _, item in batch.groupby(ITEM, sort=False):
        asked = item.context.tolist(), item.continuation.tolist()
        trees += make_batching(*asked, tokens_per_batch=len(item) * max_length, max_length=max_length).batches
        requests.append(places[item.index].to_numpy())
    width = max(len(tree.tokens) for tree in trees)
    tokens, depth, end = (
        np.stack([_padded(getattr(tree, name), width) for tree in trees]) for name in ("tokens", "depth", "end")
    )
    n_positions = np.cumsum([0, *(len(tree.position) for tree in trees)])
    position = np.concatenate([row * width + tree.position for row, tree in enumerate(trees)])
    place = np.concatenate([first + tree.place for first, tree in zip(n_positions, trees, strict=False)])
    target = np.concatenate([tree.target for tree in trees])
    request = np.concatenate([own[tree.request] for own, tree in zip(requests, trees, strict=True)])
    flat = to_device([part.ravel() for part in (tokens, depth, end, position, place, target, request)], model.device)
    tokens_, depth_, end_ = (next(flat).view(-1, width) for _ in range(3))
    position_, place_, target_, request_ = flat
    here = torch.arange(width, device=model.device)
    sees = (here <= here[:, None]) & (here[:, None] < end_[:, None, :])
    sees |= here == here[:, None]  # a row of padding that saw nothing would give no number
    hidden = model.get_decoder()(
        input_ids=tokens_, position_ids=depth_, use_cache=False, tree=_Trees(sees[:, None])
    ).last_hidden_state.flatten(0, 1)[position_]
    starts = range(0, len(position), HEAD_POSITIONS)
    parts = []
    for start, (first, last) in zip(
        starts, pairwise(np.searchsorted(place, [*starts, len(position)]).tolist()), strict=True
    ):
        chosen = place_[first:last] - start, target_[first:last]
        parts.append(again(_chosen, model.get_output_embeddings(), hidden[start : start + HEAD_POSITIONS], *chosen))
    totals = torch.zeros(len(batch), device=model.device)
    return totals.index_add(0, request_, torch.cat(parts))


def _chosen(head: Any, hidden: torch.Tensor, row: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    logits = head(hidden).float()
    log_likelihoods: torch.Tensor = logits[row, token] - logits.logsumexp(-1)[row]
    return log_likelihoods


def _padded(part: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    return np.pad(part, (0, width - len(part)))


def _of_rows(model: Any, batch: pd.DataFrame) -> torch.Tensor:
    """The log-likelihood of each request, with a row for each, from one padded pass that can be gone back."""
    inputs = [np.concatenate([row.context, row.continuation]) for row in batch.itertuples()]
    width = max(map(len, inputs)) - 1
    tokens = torch.zeros((len(inputs), width + 1), dtype=torch.long)
    scored = torch.zeros((len(inputs), width), dtype=torch.bool)
    for row, (ids, continuation) in enumerate(zip(inputs, batch.continuation, strict=True)):
        tokens[row, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        scored[row, len(ids) - 1 - len(continuation) : len(ids) - 1] = True
    tokens, scored = tokens.to(model.device), scored.to(model.device)
    # Padding is on the right, where causal attention does not look.
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
    chosen = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    totals: torch.Tensor = (chosen * scored).sum(1)
    return totals


def _log_sums(totals: torch.Tensor, numbers: torch.Tensor, side: torch.Tensor, n_items: int) -> torch.Tensor:
    """Log of the sum of the likelihoods of each item's requests on a side; 0 where there are none."""
    rows = []
    for number in range(n_items):
        own = totals[side & (numbers == number)]
        rows.append(own.logsumexp(0) if len(own) else totals.new_zeros(()))
    return torch.stack(rows)


class _NotedLinear(torch.autograd.Function):
    """A linear map whose backward pass notes its input and its gradient, and wants none by the weights."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, note: Note) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.weight, ctx.note = weight, note
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        ctx.note(x, gradient)
        return gradient @ ctx.weight, None, None, None


@contextmanager
def _noting(subject: Subject, item_of_row: torch.Tensor, changes: Mapping[Option, torch.Tensor]) -> Iterator[None]:
    """Within this context a backward pass adds to ``changes`` what each group would change with each other checkpoint,
    and has no gradients by weights."""
    model = subject.model

    def note(group: str, name: str, x: torch.Tensor, gradient: torch.Tensor) -> None:
        for variant, weights in subject.others.items():
            difference = weights[name].to(x) - model.get_parameter(name)
            change = (gradient.float() * functional.linear(x, difference)).sum(dim=(1, 2)).double()
            changes[group, variant].index_add_(0, item_of_row, change)

    def noted(module: torch.nn.Linear, note: Note) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = _NotedLinear.apply(x, module.weight, module.bias, note)  # type: ignore[no-untyped-call]
            return output

        return forward

    with ExitStack() as former:
        for weight in model.parameters():
            former.callback(weight.requires_grad_, weight.requires_grad)
            weight.requires_grad_(False)
        embeddings = model.get_input_embeddings()
        handle = embeddings.register_forward_hook(lambda module, inputs, output: output.requires_grad_())
        former.callback(handle.remove)
        for group, names in subject.groups.items():
            for name in names if not subject.is_fused(group) else ():
                module: Any = model.get_submodule(name.removesuffix(".weight"))
                former.enter_context(patch.object(module, "forward", noted(module, partial(note, group, name))))
        for layer in decoder_layers(model):
            former.enter_context(patch.object(layer, "forward", partial(again, layer.forward)))
        yield
