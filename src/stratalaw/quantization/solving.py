"""The solver of GPTQ: columns are rounded one after the other, and each passes its error on to those after it.

Frantar et al., arXiv 2210.17323, as gptqmodel carries it out: the same levels from the same columns, the same order of
operations. Rows are independent of each other, so that a GPU rounds a block of columns in one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

BLOCK = 128  # columns that pass their errors on to each other before the matrix is updated once, as in gptqmodel


@dataclass(frozen=True)
class Levels:
    """How the levels of a row's group of weights are chosen: ``scale * (code - zero)`` for codes of ``bits`` bits."""

    bits: int
    group_size: int
    """Columns that share a scale and a zero point; -1 for a whole row."""
    symmetric: bool

    @property
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    def n_groups(self, n_columns: int) -> int:
        return 1 if self.group_size == -1 else -(-n_columns // self.group_size)

    def columns_of(self, group: int, n_columns: int) -> slice:
        width = n_columns if self.group_size == -1 else self.group_size
        return slice(group * width, min((group + 1) * width, n_columns))


@dataclass(frozen=True)
class Solution:
    """A matrix after rounding."""

    weights: torch.Tensor
    """(rows, columns): the levels that the weights were rounded to."""
    scales: torch.Tensor
    """(rows, groups)"""
    zeros: torch.Tensor
    """(rows, groups)"""
    error: torch.Tensor
    """(): squared error that rounding adds to the outputs, summed over rows, in the Hessian's units."""


def solve(weights: torch.Tensor, factor: torch.Tensor, levels: Levels, dead: torch.Tensor) -> Solution:
    """Round a matrix so that its outputs change as little as GPTQ can make them.

    Args:
        weights: (rows, columns) float32, contiguous; overwritten.
        factor: (columns, columns) float32, upper triangle U of the inverse Hessian U'U.
        levels: what weights are rounded to.
        dead: (columns,) bool, columns whose input was always zero. Their weights become zero, but count towards the
            levels of a whole row.
    """
    if weights.device.type == "cuda":
        from stratalaw.quantization.solving_kernels import find_levels, round_block
    else:
        find_levels, round_block = find_levels_in_torch, round_block_in_torch
    n_rows, n_columns = weights.shape
    n_groups = levels.n_groups(n_columns)
    # Transposed: what a kernel writes at once lies side by side.
    scales, zeros = weights.new_empty(n_groups, n_rows), weights.new_empty(n_groups, n_rows)
    rounded, errors = weights.new_empty(n_columns, n_rows), weights.new_zeros(n_rows)
    if levels.group_size == -1:
        find_levels(weights, levels, range(1), scales, zeros)
    weights[:, dead] = 0
    for start in range(0, n_columns, BLOCK):
        stop = min(start + BLOCK, n_columns)
        if levels.group_size != -1:
            # Groups that begin in this block, from weights that have the errors of the blocks before it.
            first, last = -(-start // levels.group_size), -(-stop // levels.group_size)
            find_levels(weights, levels, range(first, last), scales, zeros)
        passed_on = round_block(weights, factor, levels, slice(start, stop), scales, zeros, rounded, errors)
        weights[:, stop:] -= passed_on @ factor[start:stop, stop:]
    return Solution(rounded.T, scales.T.contiguous(), zeros.T.contiguous(), errors.sum() / 2)


def find_levels_in_torch(
    weights: torch.Tensor, levels: Levels, groups: range, scales: torch.Tensor, zeros: torch.Tensor
) -> None:
    """Write the scales and zero points, both (groups, rows), of some groups: levels span their range and zero."""
    for group in groups:
        columns = weights[:, levels.columns_of(group, weights.shape[1])]
        low, high = columns.amin(1).clamp(max=0), columns.amax(1).clamp(min=0)
        if levels.symmetric:
            high = torch.maximum(-low, high)
            low = torch.where(low < 0, -high, low)
        empty = (low == 0) & (high == 0)
        low, high = low.masked_fill(empty, -1), high.masked_fill(empty, 1)
        scales[group] = (high - low) / levels.top
        zeros[group] = (levels.top + 1) / 2 if levels.symmetric else torch.round(-low / scales[group])


def round_block_in_torch(
    weights: torch.Tensor,
    factor: torch.Tensor,
    levels: Levels,
    block: slice,
    scales: torch.Tensor,
    zeros: torch.Tensor,
    rounded: torch.Tensor,
    errors: torch.Tensor,
) -> torch.Tensor:
    """Round the columns of a block.

    Args:
        weights, factor, levels: as ``solve`` takes them; weights are left as they are.
        block: its columns.
        scales, zeros: (groups, rows), of every group with a column in the block.
        rounded: (columns, rows), gets the levels of these columns.
        errors: (rows,), gets twice their squared error added.

    Returns:
        (rows, columns of the block): what the columns after the block are to be changed by, times the factor's rows.
    """
    left, triangle = weights[:, block].clone(), factor[block, block]
    passed_on = torch.empty_like(left)
    for column in range(left.shape[1]):
        group = 0 if levels.group_size == -1 else (block.start + column) // levels.group_size
        codes = torch.clamp(torch.round(left[:, column] / scales[group]) + zeros[group], 0, levels.top)
        rounded[block.start + column] = scales[group] * (codes - zeros[group])
        difference = left[:, column] - rounded[block.start + column]
        pivot = triangle[column, column]
        errors += difference.square() / pivot.square()
        passed_on[:, column] = difference / pivot
        left[:, column:] -= passed_on[:, column, None] * triangle[column, column:]
    return passed_on
