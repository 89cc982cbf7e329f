"""Requests whose result depends on what else is in their batch, kept apart.

A row should be the same whatever runs beside it. In transformers it is not where positions are scaled by the longest
row of a batch: LongRoPE takes one set of factors up to the length of the original training, and another beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from stratalaw.engine.batches import Integers

LONGROPE = "longrope"
ROPE_TYPE, ORIGINAL_LENGTH = "rope_type", "original_max_position_embeddings"


def kept_apart(model: PreTrainedModel, lengths: Integers, growth: int = 0) -> list[Integers]:
    """Indices of rows that may share batches: those that a model treats alike, because of their lengths.

    Args:
        model: a causal language model of transformers.
        lengths: (rows,) tokens of each.
        growth: tokens that are generated after each row; a row that passes a limit by them is by itself.
    """
    limits = np.array(sorted(set(_limits(model))), dtype=np.int64)
    before, after = (np.searchsorted(limits, ends, side="left") for ends in (lengths, lengths + growth))
    kinds = [np.flatnonzero((before == kind) & (after == kind)) for kind in range(len(limits) + 1)]
    alone = [np.array([row]) for row in np.flatnonzero(before != after)]
    return [rows for rows in (*kinds, *alone) if len(rows)]


def _limits(model: PreTrainedModel) -> Iterator[int]:
    """Lengths beyond which a model treats every row of a batch in another way."""
    parameters: Mapping[str, Any] = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    # Some models have parameters for each kind of layer.
    for kind in (parameters, *(part for part in parameters.values() if isinstance(part, dict))):
        if kind.get(ROPE_TYPE) == LONGROPE:
            yield int(kind[ORIGINAL_LENGTH])
