"""The stage ``answers`` of a variant that is asked some items only."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.jobs import stages
from stratalaw.seals import Seal, seal_of, write_table

ITEMS = 1000
REQUESTS = pd.DataFrame({"task": "chains", "document": range(ITEMS), "kind": "loglikelihood"})
EVALUATION = {"strata": {"reasoning": [{"task": "chains"}]}}
SEAL = Seal("answers", {"model": "m", "variant": "w3", "stratum": "reasoning"}, {"weights": "w", "requests": "r"})


class ScorerOfSigns:
    """An item is right where the log-likelihood is positive."""

    def benchmark_of(self) -> dict[str, str]:
        return {"chains": "chains"}

    def scores(self, answers: pd.DataFrame) -> pd.DataFrame:
        right = (answers.log_likelihood > 0).astype(float)
        return REQUESTS.loc[answers.index, ["task", "document"]].assign(score=right)


class Variant:
    """Loses a fifth of the items; ``asked``: how many it was."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, requests: pd.DataFrame) -> pd.DataFrame:
        self.asked += len(requests)
        return pd.DataFrame({"log_likelihood": np.where(requests.document % 5, 1.0, -1.0)}, index=requests.index)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Asks a variant for a precision; gives its answers, and how many items it was asked."""
    monkeypatch.setattr(stages, "kept_scorer", lambda *_: ScorerOfSigns())
    original = tmp_path / "original.parquet"
    scores = REQUESTS[["task", "document"]].assign(score=1.0)
    about = SEAL.about | {"variant": "bf16"}
    digest = write_table(scores, original, Seal("scores", about, {"requests": "r"}))

    def asked(goal: float, seal: Seal = SEAL) -> tuple[pd.DataFrame, int]:
        variant, blocks = Variant(), tmp_path / "blocks" / "reasoning.parquet"
        table, compared = stages.answer_in_part(
            variant, REQUESTS, seal, EVALUATION, "", goal, str(original), "documents.parquet", blocks
        )
        assert compared == digest
        assert seal_of(blocks, "blocks", SEAL.about).made_from == seal.made_from
        return table, variant.asked

    return asked


def test_a_wish_for_more_goes_on_from_the_file_of_what_was_asked(ask):
    few, first = ask(0.03)
    more, second = ask(0.015)
    assert 0 < first == len(few) < len(more) < ITEMS
    assert second == len(more) - first
    assert ask(0.03)[1] == 0


def test_answers_of_other_weights_or_of_a_damaged_file_are_not_taken_over(ask, tmp_path, caplog):
    first = ask(0.03)[1]
    assert ask(0.03, Seal("answers", SEAL.about, {"weights": "other", "requests": "r"}))[1] == first
    assert "other weights than those that are there now" in caplog.text
    blocks = tmp_path / "blocks" / "reasoning.parquet"
    blocks.write_bytes(blocks.read_bytes()[:-9])
    assert ask(0.03)[1] == first
