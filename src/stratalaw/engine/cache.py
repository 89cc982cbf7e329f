"""Keys and values of the tokens that ran, for those that come: one pool, of which each row has a stretch.

The model's code runs unchanged, as in ``attention``: whatever stands in the place of a ``Tree`` in its forward pass
writes to the pool and attends to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from stratalaw.engine.attention import Tree


@dataclass
class Cache:
    """Keys and values of each layer, (tokens, heads of keys and values, head size)."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    def write(self, layer: int, place: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put keys and values, (1, heads, tokens, size), in their places (tokens,)."""
        self.keys[layer].index_copy_(0, place, key[0].transpose(0, 1))
        self.values[layer].index_copy_(0, place, value[0].transpose(0, 1))


@dataclass
class Probe:
    """In the place of a ``Tree``: notes how many heads of which size the keys, and the values, of each layer have."""

    tree: Tree
    shapes: list[tuple[int, int]] = field(default_factory=list)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        assert layer == len(self.shapes)
        self.shapes.append((key.shape[1], key.shape[3]))
        return self.tree.attend(layer, query, key, value, scale)

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        """Of keys and values in all layers."""
        return int(2 * sum(heads * size for heads, size in self.shapes) * dtype.itemsize)

    def cache(self, tokens: int, dtype: torch.dtype, device: torch.device) -> Cache:
        """An empty cache for as many tokens."""
        keys, values = (
            [torch.zeros((tokens, heads, size), dtype=dtype, device=device) for heads, size in self.shapes]
            for _ in range(2)
        )
        return Cache(keys, values)


@dataclass(frozen=True)
class Prefill:
    """In the place of a ``Tree``: attention within the tree, whose keys and values go to the rows that begin with them.

    Attributes:
        tree: which tokens may attend to which.
        cache: where keys and values go.
        source, target: (copies,) integers: the token of the tree, and its place in the cache.
    """

    tree: Tree
    cache: Cache
    source: torch.Tensor
    target: torch.Tensor

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        self.cache.write(layer, self.target, key[:, :, self.source], value[:, :, self.source])
        return self.tree.attend(layer, query, key, value, scale)


@dataclass(frozen=True)
class Rows:
    """In the place of a ``Tree``: each token is the newest of a row, and attends to what the cache has of that row.

    Attributes:
        cache: of all rows.
        start: (rows,) int64: the first place of each row in the cache.
        length: (rows,) int64: tokens of each row, the newest included.
    """

    cache: Cache
    start: torch.Tensor
    length: torch.Tensor

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
    ) -> torch.Tensor:
        self.cache.write(layer, self.start + self.length - 1, key, value)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        if query.is_cuda:
            from stratalaw.engine.kernels import row_attention

            return row_attention(query, keys, values, self.start, self.length, scale)
        place = torch.arange(int(self.length.max()), device=query.device)
        exists = place < self.length[:, None]
        places = torch.where(exists, self.start[:, None] + place, 0)
        attended = functional.scaled_dot_product_attention(
            query[0].transpose(0, 1)[:, :, None],
            keys[places].transpose(1, 2),
            values[places].transpose(1, 2),
            attn_mask=exists[:, None, None],
            scale=scale,
            enable_gqa=keys.shape[1] != query.shape[1],
        )
        return attended[None, :, :, 0]


@dataclass
class Stretches:
    """Which stretches of the cache are free: a row gets one that is long enough.

    Rows come in the order of what they need, the longest first, so that a stretch that was given back fits the next.
    """

    tokens: int
    used: int = 0
    free: list[tuple[int, int]] = field(default_factory=list)

    def take(self, needed: int) -> tuple[int, int] | None:
        """The start and the length of a stretch; None if none is long enough now."""
        for i, (_, length) in enumerate(self.free):
            if length >= needed:
                return self.free.pop(i)
        if self.used + needed > self.tokens:
            return None
        self.used += needed
        return self.used - needed, needed

    def give_back(self, stretches: Sequence[tuple[int, int]]) -> None:
        self.free.extend(stretches)
