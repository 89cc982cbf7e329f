"""Kernels of the solver for GPUs, in Triton; each does what its namesake in ``solving`` does, bit for bit.

Multiplications and additions are rounded one by one and divisions to the nearest number, as torch does.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from stratalaw.quantization.solving import BLOCK, Levels

ROWS = 16  # of a program; more run side by side on the GPU
CHUNK = 32  # columns that are read at once to find the levels of a group
# Added to a number below 2**22 and taken away again, it leaves the nearest integer, the even one of two.
ROUNDER = tl.constexpr(1.5 * 2**23)
FARTHEST = tl.constexpr(2.0**20)  # beyond all codes and zero points


def find_levels(
    weights: torch.Tensor, levels: Levels, groups: range, scales: torch.Tensor, zeros: torch.Tensor
) -> None:
    """See ``find_levels_in_torch``."""
    if not groups:
        return
    n_rows, n_columns = weights.shape
    _find_levels[(triton.cdiv(n_rows, ROWS), len(groups))](
        *(weights, scales, zeros, n_rows, n_columns),
        *(groups.start, n_columns if levels.group_size == -1 else levels.group_size),
        TOP=levels.top,
        SYMMETRIC=levels.symmetric,
        ROWS=ROWS,
        CHUNK=CHUNK,
        num_warps=1,
        enable_fp_fusion=False,
    )


def round_block(
    weights: torch.Tensor,
    factor: torch.Tensor,
    levels: Levels,
    block: slice,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    rounded: torch.Tensor,
    errors: torch.Tensor,
) -> torch.Tensor:
    """See ``round_block_in_torch``."""
    n_rows, n_columns = weights.shape
    passed_on = weights.new_empty(n_rows, block.stop - block.start)
    _round_block[(triton.cdiv(n_rows, ROWS),)](
        *(weights, factor[block, block].contiguous(), scales, zeros, rounded, errors, passed_on),
        *(n_rows, n_columns, block.start, block.stop - block.start),
        n_columns if levels.group_size == -1 else levels.group_size,
        TOP=levels.top,
        ROWS=ROWS,
        COLUMNS=BLOCK,
        num_warps=4,
        enable_fp_fusion=False,
    )
    return passed_on


@triton.jit
def _nearest(value):
    return (tl.minimum(tl.maximum(value, -FARTHEST), FARTHEST) + ROUNDER) - ROUNDER


@triton.jit(do_not_specialize=["first_group"])
def _find_levels(
    weights, scales, zeros, n_rows, n_columns, first_group, group_size,
    TOP: tl.constexpr, SYMMETRIC: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    group = first_group + tl.program_id(1)
    stop = tl.minimum((group + 1) * group_size, n_columns)
    lows = tl.zeros((ROWS, CHUNK), tl.float32)
    highs = tl.zeros((ROWS, CHUNK), tl.float32)
    for start in range(group * group_size, stop, CHUNK):
        columns = start + tl.arange(0, CHUNK)
        tile = tl.load(
            weights + rows.to(tl.int64)[:, None] * n_columns + columns[None, :],
            mask=(rows < n_rows)[:, None] & (columns < stop)[None, :],
            other=0.0,
        )
        lows = tl.minimum(lows, tile)
        highs = tl.maximum(highs, tile)
    low, high = tl.min(lows, 1), tl.max(highs, 1)
    if SYMMETRIC:
        high = tl.maximum(-low, high)
        low = tl.where(low < 0, -high, low)
    empty = (low == 0) & (high == 0)
    low = tl.where(empty, -1.0, low)
    high = tl.where(empty, 1.0, high)
    scale = tl.div_rn(high - low, tl.full((ROWS,), TOP, tl.float32))
    zero = tl.full((ROWS,), (TOP + 1) // 2, tl.float32) if SYMMETRIC else _nearest(tl.div_rn(-low, scale))
    tl.store(scales + group * n_rows + rows, scale, mask=rows < n_rows)
    tl.store(zeros + group * n_rows + rows, zero, mask=rows < n_rows)


@triton.jit(do_not_specialize=["first"])
def _round_block(
    weights, triangle, scales, zeros, rounded, errors, passed_on, n_rows, n_columns, first, width, group_size,
    TOP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    in_matrix = rows < n_rows
    tile_mask = in_matrix[:, None] & (columns < width)[None, :]
    # Columns already rounded hold the error that they passed on, those after them the weights that are left.
    tile = tl.load(
        weights + rows.to(tl.int64)[:, None] * n_columns + (first + columns)[None, :], mask=tile_mask, other=0.0
    )
    error = tl.load(errors + rows, mask=in_matrix, other=0.0)
    for i in range(width):
        group = (first + i) // group_size
        scale = tl.load(scales + group * n_rows + rows, mask=in_matrix, other=1.0)
        zero = tl.load(zeros + group * n_rows + rows, mask=in_matrix, other=0.0)
        pivot = tl.load(triangle + i * width + i) + tl.zeros((ROWS,), tl.float32)
        after = tl.load(triangle + i * width + columns, mask=(columns > i) & (columns < width), other=0.0)
        weight = tl.sum(tl.where(columns[None, :] == i, tile, 0.0), 1)
        code = tl.minimum(tl.maximum(_nearest(tl.div_rn(weight, scale)) + zero, 0.0), TOP * 1.0)
        level = scale * (code - zero)
        tl.store(rounded + (first + i).to(tl.int64) * n_rows + rows, level, mask=in_matrix)
        difference = weight - level
        error += tl.div_rn(difference * difference, pivot * pivot)
        change = tl.div_rn(difference, pivot)
        tile = tl.where(columns[None, :] == i, change[:, None], tile - change[:, None] * after[None, :])
    tl.store(errors + rows, error, mask=in_matrix)
    tl.store(passed_on + rows.to(tl.int64)[:, None] * width + columns[None, :], tile, mask=tile_mask)
