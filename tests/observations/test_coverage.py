"""What a study names and what was observed of it."""

from pathlib import Path

import pandas as pd
import pytest

from stratalaw.layout import Results
from stratalaw.observations.coverage import missing_variants, scored_variants
from stratalaw.study import StudyError, read_study

STUDY = read_study(Path(__file__).parents[2] / "config" / "demo.yaml")


def score(results: Path, model: str, variant: str, strata=tuple(STUDY.evaluation.strata)) -> None:
    folder = results / "scores" / model / variant
    folder.mkdir(parents=True)
    for stratum in strata:
        (folder / f"{stratum}.parquet").touch()


def test_sentences_name_the_first_missing_variants_of_each_model():
    names = [f"w4-g128-c4-s{seed}" for seed in range(7)]
    coverage = pd.DataFrame(
        {
            "model": ["a", "a", "b", "c"],
            "named": 9,
            "missing": [names[0], " ".join(names), float("nan"), names[1]],
        }
    )
    assert missing_variants(coverage) == [
        f"not observed, of the 9 variants of a that the study names: {', '.join(names[:5])} and 2 more (coverage.csv)",
        f"not observed, of the 9 variants of c that the study names: {names[1]}",
    ]


def test_only_variants_with_all_scores_and_a_baseline_count(tmp_path):
    for model, variant in (("q3", "bf16"), ("q3", "w4-g16-c32-s0"), ("q5", "w4-g16-c32-s0")):
        score(tmp_path, model, variant)
    score(tmp_path, "q6", "bf16", strata=["memorization"])
    found = scored_variants(STUDY, Results(tmp_path))
    assert found[["model", "variant"]].values.tolist() == [["q3", "bf16"], ["q3", "w4-g16-c32-s0"]]


def test_nothing_scored_is_one_line(tmp_path):
    score(tmp_path, "q5", "w4-g16-c32-s0")
    with pytest.raises(StudyError, match=r"^allow_missing: no model's baseline has been scored yet in "):
        scored_variants(STUDY, Results(tmp_path))
