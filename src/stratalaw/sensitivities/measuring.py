"""What each group of matrices adds to each stratum: the paired change of the items' margins when it alone gets more
bits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel

from stratalaw.engine import log_likelihoods, make_batching
from stratalaw.sensitivities.margins import margins, mean_change
from stratalaw.sensitivities.swapping import swapped

LOG = logging.getLogger(__name__)
MEASURED = "measured"


class Subject:
    """A model with few bits, what it is asked, and the weights of its checkpoint with more bits.

    Args:
        model: with the weights of the smaller checkpoint; changed in place while it is measured.
        other: the parameters of the larger checkpoint, by name.
        groups: names of the parameters of each group; see ``parameters_of_groups``.
        asked: requests with ``is_right`` of each stratum; see ``requests_of_half``.
        tokens_per_batch: tokens of one forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        other: Mapping[str, torch.Tensor],
        groups: Mapping[str, Sequence[str]],
        asked: Mapping[str, pd.DataFrame],
        tokens_per_batch: int,
    ) -> None:
        self.model, self.other, self.groups, self.asked = model, other, groups, asked
        self.tokens_per_batch = tokens_per_batch
        self._limits = {
            "tokens_per_batch": tokens_per_batch,
            "max_length": model.config.get_text_config().max_position_embeddings,
        }
        self._requests = {
            stratum: (rows.context.tolist(), rows.continuation.tolist()) for stratum, rows in asked.items()
        }
        self._batchings = {
            stratum: make_batching(*requests, **self._limits) for stratum, requests in self._requests.items()
        }

    def is_fused(self, group: str) -> bool:
        """Whether a group is no plain linear map, as experts in one tensor."""
        modules = (self.model.get_submodule(name.rpartition(".")[0]) for name in self.groups[group])
        return not all(isinstance(module, torch.nn.Linear) for module in modules)

    def answered(self, chosen: Iterable[str]) -> dict[str, pd.DataFrame]:
        """What ``margins`` says of each item of each stratum, with the weights of the larger checkpoint in some
        groups."""
        with swapped(self.model, self.other, self.groups, chosen):
            found = {
                stratum: log_likelihoods(self.model, *requests, batching=self._batchings[stratum], **self._limits).total
                for stratum, requests in self._requests.items()
            }
        return {stratum: margins(self.asked[stratum], total) for stratum, total in found.items()}


def measured_gains(subject: Subject) -> pd.DataFrame:
    """One row for each group and stratum: ``group``, ``stratum``, ``kind``, ``gain`` (nats of an item's margin, their
    mean), ``stderr`` and ``n_items``."""
    before, rows = subject.answered([]), []
    for place, group in enumerate(subject.groups, 1):
        LOG.info("%s (%d of %d)", group, place, len(subject.groups))
        for stratum, after in subject.answered([group]).items():
            gain, stderr = mean_change(after.margin - before[stratum].margin)
            about = {"group": group, "stratum": stratum, "kind": MEASURED}
            rows.append(about | {"gain": gain, "stderr": stderr, "n_items": len(after)})
    return pd.DataFrame(rows)
