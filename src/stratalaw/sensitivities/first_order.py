"""What each group of matrices would add to each stratum, to first order: one backward pass for all groups at once.

A change dW of a matrix changes an item's margin by about the sum over its tokens of (gradient of the margin by the
matrix's output) . (dW x), where x is the matrix's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from stratalaw.evaluation.blocks import ITEM
from stratalaw.sensitivities.margins import mean_change
from stratalaw.sensitivities.measuring import Subject

FIRST_ORDER = "first order"


def first_order_gains(subject: Subject) -> pd.DataFrame:
    """The table of ``measured_gains``, to first order; without groups that are no plain linear maps, such as experts.

    The batches keep the activations of all layers: they are ``tokens_per_batch`` tokens or one item.
    """
    rows = []
    for stratum, asked in subject.asked.items():
        changes: dict[str, list[float]] = {}
        items: list[Any] = []
        for batch in _batches(asked, subject.tokens_per_batch):
            for group, found in _changes(subject, batch).items():
                changes.setdefault(group, []).extend(map(float, found))
            items += list(batch.groupby(ITEM, sort=False).groups)
        index = pd.MultiIndex.from_tuples(items, names=ITEM)
        for group, of_items in changes.items():
            gain, stderr = mean_change(pd.Series(of_items, index))
            about = {"group": group, "stratum": stratum, "kind": FIRST_ORDER}
            rows.append(about | {"gain": gain, "stderr": stderr, "n_items": len(items)})
    return pd.DataFrame(rows)


def _batches(asked: pd.DataFrame, tokens_per_batch: int) -> Iterator[pd.DataFrame]:
    """Requests of whole items, padded at most ``tokens_per_batch`` tokens or one item."""
    lengths = asked.context.map(len) + asked.continuation.map(len)
    longest = int(lengths.max())
    rows: list[Any] = []
    for _, item in asked.groupby(ITEM, sort=False):
        if rows and (len(rows) + len(item)) * longest > tokens_per_batch:
            yield asked.loc[rows]
            rows = []
        rows += item.index.tolist()
    yield asked.loc[rows]


def _changes(subject: Subject, batch: pd.DataFrame) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """The change of each item's margin by each group, in the order of the items."""
    model, device = subject.model, subject.model.device
    numbers = torch.tensor(batch.groupby(ITEM, sort=False).ngroup().to_numpy(), device=device)
    n_items = int(numbers.max()) + 1
    changes = {group: torch.zeros(n_items, dtype=torch.float64, device=device) for group in subject.groups}
    with _noting(subject, numbers, changes):
        totals = _log_likelihoods(model, batch)
        is_right = torch.tensor(batch.is_right.to_numpy(bool), device=device)
        margins = _log_sums(totals, numbers, is_right, n_items) - _log_sums(totals, numbers, ~is_right, n_items)
        torch.autograd.backward(margins.sum())
    model.zero_grad()
    return {group: found.cpu().numpy() for group, found in changes.items() if not subject.is_fused(group)}


def _log_likelihoods(model: Any, batch: pd.DataFrame) -> torch.Tensor:
    """Of each request, from one padded pass that keeps what a backward pass needs."""
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


@contextmanager
def _noting(subject: Subject, numbers: torch.Tensor, changes: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Within this context a backward pass adds to ``changes`` what each group would change."""

    def note(group: str, name: str, module: Any, inputs: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        given = inputs[0].detach()

        def add(gradient: torch.Tensor) -> None:
            difference = subject.other[name].to(given) - module.weight.detach()
            change = (gradient * torch.nn.functional.linear(given, difference)).double().sum(dim=(1, 2))
            changes[group].index_add_(0, numbers, change)

        output.register_hook(add)  # type: ignore[no-untyped-call]

    handles = [
        subject.model.get_submodule(name.removesuffix(".weight")).register_forward_hook(partial(note, group, name))
        for group, names in subject.groups.items()
        if not subject.is_fused(group)
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
