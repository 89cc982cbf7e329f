"""What each group of matrices adds to each stratum: the paired change of the items' margins when it alone has the
weights of another checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
import torch
from transformers import PreTrainedModel

from stratalaw.engine import (
    LogLikelihoods,
    ResumedPasses,
    can_resume,
    decoder_layers,
    log_likelihoods,
    make_batching,
    share_prefixes,
)
from stratalaw.models.allocation import Placement
from stratalaw.sensitivities.margins import margins, mean_change
from stratalaw.sensitivities.swapping import swapped

LOG = logging.getLogger(__name__)
MEASURED = "measured"


class Subject:
    """A model with the weights of its base checkpoint, what it is asked, and the weights of other checkpoints of it.

    Args:
        model: with the weights of the base; changed in place while it is measured.
        others: the parameters of each other checkpoint, by its variant and their names.
        groups: names of the parameters of each group; see ``parameters_of_groups``.
        asked: requests with ``is_right`` of each stratum; see ``margins.items_of_half``.
        tokens_per_batch: tokens of one forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        others: Mapping[str, Mapping[str, torch.Tensor]],
        groups: Mapping[str, Sequence[str]],
        asked: Mapping[str, pd.DataFrame],
        tokens_per_batch: int,
    ) -> None:
        self.model, self.others, self.groups, self.asked = model, others, groups, asked
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

    def asking(self, asked: Mapping[str, pd.DataFrame]) -> Subject:
        """The same model and weights, asked something else."""
        return Subject(self.model, self.others, self.groups, asked, self.tokens_per_batch)

    def is_fused(self, group: str) -> bool:
        """Whether a group is no plain linear map, as experts in one tensor."""
        modules = (self.model.get_submodule(name.rpartition(".")[0]) for name in self.groups[group])
        return not all(isinstance(module, torch.nn.Linear) for module in modules)

    def answered(self, placement: Placement) -> dict[str, pd.DataFrame]:
        """What ``margins`` says of each item of each stratum, where a placement puts the weights of other
        checkpoints."""
        with swapped(self.model, self._weights(placement)):
            return self._margins(
                log_likelihoods(self.model, *requests, batching=self._batchings[stratum], **self._limits)
                for stratum, requests in self._requests.items()
            )

    def answered_by_group(self) -> Iterator[tuple[str, str, dict[str, pd.DataFrame]]]:
        """``answered`` with each group alone, by group and other checkpoint, from the first layer to the last: layers
        before the group's run once for all groups, where the model allows it."""
        layer_of = self._layers_of_groups() if self._is_resumable() else dict.fromkeys(self.groups, 0)
        passes = ResumedPasses(self.model, list(self._batchings.values()))
        for group in sorted(self.groups, key=layer_of.__getitem__):
            while passes.layer < layer_of[group]:
                passes.advance()
            for variant in self.others:
                if passes.layer == 0:
                    yield group, variant, self.answered({group: variant})
                    continue
                with swapped(self.model, self._weights({group: variant})):
                    found = self._margins(passes.log_likelihoods())
                yield group, variant, found

    def shares_prefixes(self) -> bool:
        """Whether the model takes the requests of an item as a tree, in which each token that they share runs once."""
        max_length = self._limits["max_length"]
        return all(share_prefixes(self.model, *requests, max_length) for requests in self._requests.values())

    def _weights(self, placement: Placement) -> dict[str, torch.Tensor]:
        return {name: self.others[variant][name] for group, variant in placement.items() for name in self.groups[group]}

    def _is_resumable(self) -> bool:
        return self.shares_prefixes() and can_resume(self.model)

    def _layers_of_groups(self) -> dict[str, int]:
        """The number of the first layer that a group's weights are in; 0 for weights that are in none."""
        layers = {
            id(weight): number
            for number, layer in enumerate(decoder_layers(self.model))
            for weight in layer.parameters()
        }
        return {
            group: min(layers.get(id(self.model.get_parameter(name)), 0) for name in names)
            for group, names in self.groups.items()
        }

    def _margins(self, answers: Iterable[LogLikelihoods]) -> dict[str, pd.DataFrame]:
        return {
            stratum: margins(asked, found) for (stratum, asked), found in zip(self.asked.items(), answers, strict=True)
        }


def measured_gains(subject: Subject) -> pd.DataFrame:
    """One row for each group, other checkpoint and stratum: ``group``, ``variant``, ``stratum``, ``kind``, ``gain``
    (nats of an item's margin, their mean; less than 0 for a loss), ``stderr`` and ``n_items``."""
    before = subject.answered({})
    rows: dict[tuple[str, str], list[dict[str, object]]] = {}
    for place, (group, variant, answered) in enumerate(subject.answered_by_group(), 1):
        LOG.info("%s with %s (%d of %d)", group, variant, place, len(subject.groups) * len(subject.others))
        for stratum, after in answered.items():
            gain, stderr = mean_change(after.margin - before[stratum].margin)
            about = {"group": group, "variant": variant, "stratum": stratum, "kind": MEASURED}
            rows.setdefault((group, variant), []).append(
                about | {"gain": gain, "stderr": stderr, "n_items": len(after)}
            )
    return pd.DataFrame([row for group in subject.groups for variant in subject.others for row in rows[group, variant]])
