"""Attention to ancestors only: a prefix tree in depth-first order goes through a model as one row.

The model's code runs unchanged; only its attention is replaced, by way of transformers' attention interface. What a
token sees follows from the place after its last descendant: token ``j`` is an ancestor of token ``i``, or ``i`` itself,
when ``j <= i < end[j]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

NAME = "prefix_tree"
ROW_TOKENS = 128  # on a CPU, the attention scores of so many tokens are one dense matrix
# Queries and keys whose attention scores one program on a GPU holds at once.
BLOCK_QUERIES, BLOCK_KEYS = 128, 64
# What models may tell their attention beside queries, keys and values, because it changes nothing here.
WITHOUT_EFFECT = {"dropout", "is_causal", "use_cache", "cache_position", "position_ids", "output_attentions"}


class NoTreeAttention(ValueError):
    """A model whose attention cannot be replaced by that of a prefix tree; the message says why."""


class Attended(Protocol):
    """What the tokens of a forward pass attend to; see ``Tree.attend``."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor: ...


@dataclass(frozen=True)
class Tree:
    """Which tokens may attend to which.

    Attributes:
        end: (tokens,) integers, on the model's device: the place after the last descendant of each token.
    """

    end: torch.Tensor

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        """Attention of each token to its ancestors and itself.

        Args:
            layer: the number of the model's layer, which makes no difference here.
            query: (1, heads, tokens, head size).
            key, value: (1, heads of keys and values, tokens, head size).
            scale: factor of the attention scores; 1 / sqrt(head size) if None.

        Returns:
            (1, tokens, heads, head size).
        """
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        if query.is_cuda:
            from stratalaw.engine.kernels import tree_attention

            return tree_attention(query, key, value, self.end, *self.blocks, scale, BLOCK_QUERIES, BLOCK_KEYS)
        return self._attend_by_rows(query, key, value, scale)

    @cached_property
    def blocks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Which blocks of keys each block of queries needs.

        Returns:
            int32 (blocks of queries, blocks of keys): the needed ones first, ascending; and how many those are.
        """
        tokens = len(self.end)
        n_queries, n_keys = -(-tokens // BLOCK_QUERIES), -(-tokens // BLOCK_KEYS)
        ends = functional.pad(self.end, (0, n_keys * BLOCK_KEYS - tokens))
        last_end = ends.view(n_keys, BLOCK_KEYS).amax(1)
        first_query = torch.arange(n_queries, device=ends.device)[:, None] * BLOCK_QUERIES
        first_key = torch.arange(n_keys, device=ends.device) * BLOCK_KEYS
        needed = (first_key < first_query + BLOCK_QUERIES) & (last_end > first_query)
        order = needed.int().argsort(dim=1, descending=True, stable=True)
        return order.int(), needed.sum(1).int()

    def _attend_by_rows(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """``attend`` in rows of a fixed length: a row attends to itself and to the path on which it begins."""
        places, mask = self.rows
        heads, tokens, size = query.shape[1:]
        n_rows, n_keys = places.shape
        length = mask.shape[-2]
        queries = functional.pad(query[0], (0, 0, 0, n_rows * length - tokens))
        queries = queries.view(heads, n_rows, length, size).transpose(0, 1)
        keys, values = (
            part[0, :, places.flatten()].view(-1, n_rows, n_keys, size).transpose(0, 1) for part in (key, value)
        )
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scale, enable_gqa=keys.shape[1] != heads
        )
        return attended.transpose(1, 2).reshape(1, n_rows * length, heads, size)[:, :tokens]

    @cached_property
    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens in rows, and what each row attends to.

        Returns:
            (rows, keys) places of the keys: first the path on which a row begins, then the row; and bool (rows, 1,
            length, keys): what each token sees of them.
        """
        tokens, device = len(self.end), self.end.device
        length = min(ROW_TOKENS, tokens)
        start = torch.arange(0, tokens, length, device=device)
        place = torch.arange(tokens, device=device)
        is_open = (place < start[:, None]) & (self.end > start[:, None])
        n_open = is_open.sum(1)
        is_path = torch.arange(int(n_open.max()), device=device) < n_open[:, None]
        path = torch.zeros(is_path.shape, dtype=torch.int64, device=device)
        path[is_path] = is_open.nonzero()[:, 1]
        row = start[:, None] + torch.arange(length, device=device)
        keys = torch.cat([path, row.clamp(max=tokens - 1)], dim=1)
        exists = torch.cat([is_path, row < tokens], dim=1)
        end = torch.where(exists, self.end[keys], 0)
        mask = (keys[:, None, :] <= row[:, :, None]) & (row[:, :, None] < end[:, None, :])
        # A row of padding at the end would see nothing, and give no number.
        mask |= (row >= tokens)[:, :, None]
        return keys, mask[:, None]


def attend_to_ancestors(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    tree: Attended | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface.

    Raises:
        NoTreeAttention: the model does not hand on its ``tree``, or asks for more than plain attention.
    """
    more = {name for name, option in options.items() if option is not None} - WITHOUT_EFFECT
    if tree is None or more:
        what = f"asks for {', '.join(sorted(more))}" if more else "does not hand on keyword arguments"
        raise NoTreeAttention(f"the attention of {type(module).__name__} {what}")
    if query.shape[-1] != value.shape[-1]:
        raise NoTreeAttention(f"the attention of {type(module).__name__} has keys and values of different sizes")
    return tree.attend(getattr(module, "layer_idx", 0), query, key, value, scaling), None


AttentionInterface.register(NAME, attend_to_ancestors)


@contextmanager
def tree_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within this context the model's attention is that of the ``tree`` given to its forward pass.

    Raises:
        NoTreeAttention: the model does not use transformers' attention interface.
    """
    former = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        if model.config._attn_implementation != NAME:
            raise NoTreeAttention(f"{type(model).__name__} does not use transformers' attention interface")
        yield
    finally:
        model.set_attn_implementation(former)
