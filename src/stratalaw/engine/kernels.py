"""Kernels for GPUs, in Triton: attention on a prefix tree, and steps that transformers takes in several passes.

Each gives what the code that it replaces gives, rounding to the data type where that code rounds; sums are in float32.
Numbers that change from batch to batch are not specialized, so that a kernel is compiled once for a model (and kept on
disk for the next process).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

HIDDEN_SCORE = tl.constexpr(-1e30)  # finite, so that a block of nothing but hidden scores gives no NaN
LOG2_E = 1.4426950408889634
ELEMENTS = 4096  # per program of the elementwise kernels
VOCABULARY_BLOCK = 4096


def tree_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    end: torch.Tensor,
    needed: torch.Tensor,
    n_needed: torch.Tensor,
    scale: float,
    block_queries: int,
    block_keys: int,
) -> torch.Tensor:
    """Attention of each token to its ancestors in a prefix tree and itself, with a running softmax over blocks of keys
    (Dao, arXiv 2307.08691) that leaves out blocks without an ancestor.

    Args:
        query: (1, heads, tokens, head size), the last dimension contiguous.
        key, value: (1, heads of keys and values, tokens, head size), likewise.
        end: (tokens,) int64; see ``attention``.
        needed, n_needed: see ``Tree.blocks``.
        scale: factor of the attention scores.
        block_queries, block_keys: sizes of the blocks that ``needed`` refers to.

    Returns:
        (1, tokens, heads, head size).
    """
    _, heads, tokens, size = query.shape
    out = torch.empty((1, tokens, heads, size), dtype=query.dtype, device=query.device)
    is_float32 = query.dtype == torch.float32
    _tree_attention[(heads, len(needed))](
        *(query, key, value, out, end, needed, n_needed),
        *(tokens, heads, heads // key.shape[1], scale * LOG2_E, needed.stride(0)),
        *(query.stride(1), query.stride(2), key.stride(1), key.stride(2), value.stride(1), value.stride(2)),
        SIZE=size,
        SIZE_PADDED=max(16, triton.next_power_of_2(size)),
        BLOCK_QUERIES=block_queries,
        BLOCK_KEYS=block_keys,
        PRECISION="ieee" if is_float32 else "tf32",
        num_warps=8,
        num_stages=1 if is_float32 else 2,
    )
    return out


@triton.jit(do_not_specialize=["tokens", "needed_stride", "heads", "group"])
def _tree_attention(
    query,
    key,
    value,
    out,
    end,
    needed,
    n_needed,
    tokens,
    heads,
    group,
    scale,
    needed_stride,
    query_head,
    query_token,
    key_head,
    key_token,
    value_head,
    value_token,
    SIZE: tl.constexpr,
    SIZE_PADDED: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    head = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1).to(tl.int64)
    i = block * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    feature = tl.arange(0, SIZE_PADDED)
    is_token, is_feature = i[:, None] < tokens, feature[None, :] < SIZE
    queries = tl.load(
        query + head * query_head + i[:, None] * query_token + feature[None, :], mask=is_token & is_feature, other=0.0
    )
    largest = tl.full([BLOCK_QUERIES], HIDDEN_SCORE, tl.float32)
    total = tl.zeros([BLOCK_QUERIES], tl.float32)
    mean = tl.zeros([BLOCK_QUERIES, SIZE_PADDED], tl.float32)
    key += (head // group) * key_head
    value += (head // group) * value_head
    for n in range(tl.load(n_needed + block)):
        j = tl.load(needed + block * needed_stride + n).to(tl.int64) * BLOCK_KEYS + tl.arange(0, BLOCK_KEYS)
        exists = j < tokens
        keys = tl.load(
            key + j[None, :] * key_token + feature[:, None], mask=exists[None, :] & (feature[:, None] < SIZE), other=0.0
        )
        scores = tl.dot(queries, keys, input_precision=PRECISION) * scale
        last = tl.load(end + j, mask=exists, other=0)
        scores = tl.where((j[None, :] <= i[:, None]) & (i[:, None] < last[None, :]), scores, HIDDEN_SCORE)
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - new_largest[:, None])
        shrink = tl.exp2(largest - new_largest)
        total = total * shrink + tl.sum(weights, 1)
        values = tl.load(
            value + j[:, None] * value_token + feature[None, :], mask=exists[:, None] & is_feature, other=0.0
        )
        mean = tl.dot(weights.to(values.dtype), values, mean * shrink[:, None], input_precision=PRECISION)
        largest = new_largest
    attended = (mean / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + (i[:, None] * heads + head) * SIZE + feature[None, :], attended, mask=is_token & is_feature)


def row_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    start: torch.Tensor,
    length: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attention of the newest token of each row to all tokens of that row; each key is read once for all heads that
    share it.

    Args:
        query: (1, heads, rows, head size), the last dimension contiguous.
        keys, values: (places, heads of keys and values, head size), contiguous: all rows, one after the other.
        start, length: (rows,) int64: the stretch of places of each row.
        scale: factor of the attention scores.

    Returns:
        (1, rows, heads, size of the values' heads).
    """
    _, heads, rows, size = query.shape
    shared, value_size = keys.shape[1], values.shape[2]
    out = torch.empty((1, rows, heads, value_size), dtype=query.dtype, device=query.device)
    is_float32 = query.dtype == torch.float32
    _row_attention[(rows, shared)](
        *(query, keys, values, out, start, length, scale * LOG2_E, query.stride(1), query.stride(2), heads, shared),
        GROUP=heads // shared,
        GROUP_PADDED=max(16, triton.next_power_of_2(heads // shared)),
        SIZE=size,
        SIZE_PADDED=max(16, triton.next_power_of_2(size)),
        VALUE_SIZE=value_size,
        VALUE_PADDED=max(16, triton.next_power_of_2(value_size)),
        BLOCK_KEYS=32 if is_float32 else 64,
        PRECISION="ieee" if is_float32 else "tf32",
        num_warps=4,
        num_stages=1 if is_float32 else 3,
    )
    return out


@triton.jit(do_not_specialize=["heads", "shared"])
def _row_attention(
    query,
    key,
    value,
    out,
    start,
    length,
    scale,
    query_head,
    query_row,
    heads,
    shared,
    GROUP: tl.constexpr,
    GROUP_PADDED: tl.constexpr,
    SIZE: tl.constexpr,
    SIZE_PADDED: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    VALUE_PADDED: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    member = tl.arange(0, GROUP_PADDED)
    feature, value_feature = tl.arange(0, SIZE_PADDED), tl.arange(0, VALUE_PADDED)
    is_member, is_feature, is_value = member < GROUP, feature < SIZE, value_feature < VALUE_SIZE
    queries = tl.load(
        query + (head * GROUP + member[:, None]) * query_head + row * query_row + feature[None, :],
        mask=is_member[:, None] & is_feature[None, :],
        other=0.0,
    )
    largest = tl.full([GROUP_PADDED], HIDDEN_SCORE, tl.float32)
    total = tl.zeros([GROUP_PADDED], tl.float32)
    mean = tl.zeros([GROUP_PADDED, VALUE_PADDED], tl.float32)
    first, tokens = tl.load(start + row), tl.load(length + row)
    for block in range(0, tokens, BLOCK_KEYS):
        place = block + tl.arange(0, BLOCK_KEYS)
        exists = place < tokens
        line = (first + place) * shared + head
        keys = tl.load(
            key + line[None, :] * SIZE + feature[:, None], mask=exists[None, :] & is_feature[:, None], other=0.0
        )
        scores = tl.dot(queries, keys, input_precision=PRECISION) * scale
        scores = tl.where(exists[None, :], scores, HIDDEN_SCORE)
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - new_largest[:, None])
        shrink = tl.exp2(largest - new_largest)
        total = total * shrink + tl.sum(weights, 1)
        values = tl.load(
            value + line[:, None] * VALUE_SIZE + value_feature[None, :],
            mask=exists[:, None] & is_value[None, :],
            other=0.0,
        )
        mean = tl.dot(weights.to(values.dtype), values, mean * shrink[:, None], input_precision=PRECISION)
        largest = new_largest
    attended = (mean / total[:, None]).to(out.dtype.element_ty)
    target = out + (row * heads + head * GROUP + member[:, None]) * VALUE_SIZE + value_feature[None, :]
    tl.store(target, attended, mask=is_member[:, None] & is_value[None, :])


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """``x`` (…, width) over the root of its mean square, rounded, times ``weight`` (width,)."""
    x = x.contiguous()
    width = x.shape[-1]
    padded = triton.next_power_of_2(width)
    rows = max(1, ELEMENTS // padded)
    n_rows = x.numel() // width
    out = torch.empty_like(x)
    _rms_norm[(triton.cdiv(n_rows, rows),)](x, weight, out, n_rows, epsilon, WIDTH=width, PADDED=padded, ROWS=rows)
    return out


@triton.jit(do_not_specialize=["n_rows"])
def _rms_norm(x, weight, out, n_rows, epsilon, WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, PADDED)[None, :]
    inside = (row < n_rows) & (column < WIDTH)
    values = tl.load(x + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    mean_square = tl.sum(values * values, 1) / WIDTH
    rounded = (values * tl.rsqrt(mean_square + epsilon)[:, None]).to(out.dtype.element_ty)
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0)
    scaled = rounded.to(tl.float32) * scale.to(tl.float32)
    tl.store(out + row * WIDTH + column, scaled.to(out.dtype.element_ty), mask=inside)


def silu_product(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate)``, rounded, times ``up``; written over ``gate``."""
    gate, up = gate.contiguous(), up.contiguous()
    _silu_product[(triton.cdiv(gate.numel(), ELEMENTS),)](gate, up, gate.numel(), BLOCK=ELEMENTS)
    return gate


@triton.jit(do_not_specialize=["n"])
def _silu_product(gate, up, n, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    x = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    silu = (x / (1.0 + tl.exp(-x))).to(gate.dtype.element_ty)
    product = silu.to(tl.float32) * tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(gate + place, product.to(gate.dtype.element_ty), mask=inside)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding, halves paired: ``x * cos + rotate_half(x) * sin``, written over ``x``.

    Args:
        x: (1, heads, tokens, size), the last dimension contiguous.
        cos, sin: (1, tokens, size).
    """
    _, heads, tokens, size = x.shape
    cos, sin = cos.contiguous(), sin.contiguous()
    _rotate[(tokens,)](
        *(x, cos, sin, x.stride(1), x.stride(2)),
        HEADS=heads,
        HEADS_PADDED=triton.next_power_of_2(heads),
        HALF=size // 2,
        HALF_PADDED=triton.next_power_of_2(size // 2),
    )
    return x


@triton.jit
def _rotate(
    x,
    cos,
    sin,
    head_stride,
    token_stride,
    HEADS: tl.constexpr,
    HEADS_PADDED: tl.constexpr,
    HALF: tl.constexpr,
    HALF_PADDED: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS_PADDED)[:, None].to(tl.int64)
    column = tl.arange(0, HALF_PADDED)[None, :]
    is_column = column < HALF
    inside = (head < HEADS) & is_column
    kind = x.dtype.element_ty
    place = x + token * token_stride + head * head_stride + column
    table = token * 2 * HALF + column
    first = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(place + HALF, mask=inside, other=0.0).to(tl.float32)
    cos_first = tl.load(cos + table, mask=is_column, other=0.0).to(tl.float32)
    cos_second = tl.load(cos + table + HALF, mask=is_column, other=0.0).to(tl.float32)
    sin_first = tl.load(sin + table, mask=is_column, other=0.0).to(tl.float32)
    sin_second = tl.load(sin + table + HALF, mask=is_column, other=0.0).to(tl.float32)
    new_first = (first * cos_first).to(kind).to(tl.float32) - (second * sin_first).to(kind).to(tl.float32)
    new_second = (second * cos_second).to(kind).to(tl.float32) + (first * sin_second).to(kind).to(tl.float32)
    tl.store(place, new_first.to(kind), mask=inside)
    tl.store(place + HALF, new_second.to(kind), mask=inside)


def log_normalizers(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log of the sum of exponentials (float32) and the first of the largest (int64) of each row of logits (rows,
    vocabulary)."""
    logits = logits.contiguous()
    rows, vocabulary = logits.shape
    log_sum = torch.empty(rows, dtype=torch.float32, device=logits.device)
    likeliest = torch.empty(rows, dtype=torch.int64, device=logits.device)
    _log_normalizers[(rows,)](logits, log_sum, likeliest, vocabulary, BLOCK=VOCABULARY_BLOCK, num_warps=8)
    return log_sum, likeliest


@triton.jit
def _log_normalizers(logits, log_sum, likeliest, vocabulary, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits += row * vocabulary
    largest = tl.load(logits).to(tl.float32)
    total = largest * 0.0
    place = row * 0
    for start in range(0, vocabulary, BLOCK):
        column = start + tl.arange(0, BLOCK)
        values = tl.load(logits + column, mask=column < vocabulary, other=float("-inf")).to(tl.float32)
        here, where = tl.max(values, 0, return_indices=True)
        place = tl.where(here > largest, start + where, place)
        new_largest = tl.maximum(largest, here)
        total = total * tl.exp(largest - new_largest) + tl.sum(tl.exp(values - new_largest), 0)
        largest = new_largest
    tl.store(log_sum + row, largest + tl.log(total))
    tl.store(likeliest + row, place)
