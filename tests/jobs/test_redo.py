"""A job is made again by its name, and what is no job of the study is refused in one line."""

from pathlib import Path

import pytest

from stratalaw.jobs.redo import RedoError, job_to_redo
from stratalaw.study import read_study

VARIANT = "q5/w3-g128-c32-s0"


@pytest.fixture(scope="module")
def study():
    return read_study(Path("config/demo.yaml"))


@pytest.mark.parametrize(
    ("name", "first", "output"),
    [
        (VARIANT, None, f"results/checkpoints/{VARIANT}"),
        (VARIANT, "answers", f"results/answers/{VARIANT}/memorization.parquet"),
        ("q5/bf16", None, "results/answers/q5/bf16/memorization.parquet"),
        ("q5", "requests", "results/requests/q5/memorization.parquet"),
        ("q5/s0", None, "results/calibration/q5/s0.parquet"),
        ("demo", "laws", "results/studies/demo/laws.json"),
    ],
)
def test_what_is_made_again(study, name, first, output):
    assert str(job_to_redo(study, name, first).outputs[0]) == output


@pytest.mark.parametrize(
    ("name", "first", "message"),
    [
        ("q5/w3-g128-c32-s1", None, "demo: no job is named q5/w3-g128-c32-s1; did you mean q5/w3-g128-c32-s0"),
        ("../..", None, "demo: no job is named ../.."),
        (VARIANT, "models", f"{VARIANT}: models is not one of its stages (checkpoints, answers, scores)"),
        ("q5/bf16", "checkpoints", "q5/bf16: checkpoints is not one of its stages (answers, scores)"),
    ],
)
def test_what_the_study_has_not_is_refused_in_one_line(study, name, first, message):
    with pytest.raises(RedoError) as refused:
        job_to_redo(study, name, first)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
