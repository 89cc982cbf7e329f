"""A model of the ladder in a folder of its own, stage by stage as the workflow runs config/ladder.yaml."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

from stratalaw.jobs import stages
from stratalaw.quantization.gptq import quantize
from stratalaw.study import Study
from stratalaw.study.variants import Quantization


class LadderModel:
    """One model, copied and checked; ``quantize`` and what follows it can be repeated."""

    def __init__(self, study: Study, name: str, folder: Path) -> None:
        self.study, self.name, self.folder = study, name, folder / name
        self.requests, self.batchings = self._files("requests", ".parquet"), self._files("batching", ".safetensors")
        self.documents = self._files("documents", ".parquet")
        # As in a study, whose tables of answers and scores are of MODEL/VARIANT/STRATUM.
        self.answers, self.scores = (
            self._files(f"{kind}/{name}/variant", ".parquet") for kind in ("answers", "scores")
        )
        self.summaries = self._files("summary", ".json")
        stages.provide_model(f"ladder/models/{name}", None, "", str(self.folder))

    def _files(self, kind: str, ending: str) -> list[str]:
        return [str(self.folder / kind / f"{stratum}{ending}") for stratum in self.study.evaluation.strata]

    def record_requests(self) -> None:
        asked = self.study.evaluation.for_requests(), self.study.evaluation.scored_by()
        stages.record_requests(str(self.folder), *asked, self.requests, self.batchings, self.documents)

    def draw_calibration(self, samples: int) -> list[Sequence[int]]:
        """Token ids of calibration samples, seed 0."""
        drawn, tokens = self.folder / f"{samples}-samples" / "s0.parquet", self.study.calibration.tokens
        corpus = self.study.calibration.corpus
        stages.draw_calibration(str(self.folder), {"corpus": corpus}, [], samples, tokens, None, str(drawn))
        return pd.read_parquet(drawn).tokens.tolist()

    def quantize(self, bits: int, group_size: int, samples: list[Sequence[int]]) -> Path:
        """The checkpoint; it replaces an earlier one of the same settings."""
        quantization = Quantization(bits, group_size, len(samples), 0)
        quantize(self.folder, self.folder / quantization.name, quantization, samples, self.study.gptq)
        return self.folder / quantization.name

    @property
    def batched_tokens(self) -> int:
        """Tokens that the recorded batchings run."""
        return sum(_tokens_of(batching) for batching in self.batchings)

    def answer(self, checkpoint: Path) -> None:
        tokens_per_batch = self.study.evaluation.tokens_per_batch
        asked = (self.requests, self.batchings, tokens_per_batch)
        stages.answer_requests(str(self.folder), str(checkpoint), *asked, 1, self.answers)

    def score(self) -> None:
        evaluation = self.study.evaluation.for_scores()
        stages.score_items(evaluation, self.requests, self.documents, self.answers, self.scores, self.summaries, "")

    def adjusted_accuracies(self) -> dict[str, float]:
        """Of what was scored last, by stratum: the mean over benchmarks of (accuracy - chance) / (1 - chance)."""
        found = {}
        for (stratum, benchmarks), summary in zip(self.study.evaluation.strata.items(), self.summaries, strict=True):
            accuracies = json.loads(Path(summary).read_text())
            found[stratum] = np.mean([(accuracies[b.task] - b.chance) / (1 - b.chance) for b in benchmarks])
        return found


def _tokens_of(batching: str) -> int:
    with safe_open(batching, "np") as file:
        return int(file.metadata()["tokens"])
