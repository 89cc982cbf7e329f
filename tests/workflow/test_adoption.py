"""A finished study that was copied is planned anew, until `stratalaw adopt` has found it whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import PROFILE, ROOT, snakemake
from tests.workflow.test_redo import jobs_in

ANSWERS = "results/answers/q1/w4-g128-c4-s0/reasoning.parquet"


@pytest.fixture
def copied(folder, whole, tmp_path) -> Path:
    """The finished study, copied without its time stamps and without snakemake's records; its models came last."""
    copy = tmp_path / "copy"
    shutil.copytree(folder / "results", copy / "results", copy_function=shutil.copyfile)
    shutil.copy(folder / "study.yaml", copy)
    for model in (copy / "results" / "models").iterdir():
        os.utime(model / ".snakemake_timestamp")
    return copy


def stratalaw(command: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    code = "from stratalaw.cli import app; app()"
    return subprocess.run(
        [sys.executable, "-c", code, command, "study.yaml", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )


def adopt(folder: Path) -> subprocess.CompletedProcess:
    return stratalaw("adopt", folder, "--snakefile", str(ROOT / "Snakefile"), *PROFILE)


def test_a_copied_study_is_adopted_once_it_was_found_whole(copied):
    planned = snakemake(copied, "-n")
    assert {"requests", "checkpoints", "answers", "scores", "laws"} <= jobs_in(planned).keys()
    for told in (planned.stderr, stratalaw("status", copied).stdout):
        assert "older than what they were made from (first: " in told and "stratalaw adopt study.yaml" in told

    answers = (copied / ANSWERS).read_bytes()
    (copied / ANSWERS).write_bytes(answers[:100] + bytes([answers[100] ^ 1]) + answers[101:])
    refused = adopt(copied)
    assert refused.returncode == 1 and f"{ANSWERS}: damaged or edited" in refused.stdout
    assert jobs_in(snakemake(copied, "-n")) == jobs_in(planned)

    (copied / ANSWERS).write_bytes(answers)
    adopted = adopt(copied)
    assert adopted.returncode == 0, adopted.stderr
    assert "Taken on trust" in adopted.stdout and "Nothing to be done" in adopted.stdout + adopted.stderr
    assert jobs_in(snakemake(copied, "-n")) == {}


def test_a_setting_that_has_changed_is_still_seen(folder, copied):
    shutil.copytree(folder / ".snakemake", copied / ".snakemake")
    study = yaml.safe_load((copied / "study.yaml").read_text())
    study["gptq"] |= {"damping": 0.02}
    (copied / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    adopted = adopt(copied)
    assert adopted.returncode == 0 and "Taken on trust" not in adopted.stdout
    jobs = jobs_in(snakemake(copied, "-n"))
    assert jobs["checkpoints"] == 4 and "requests" not in jobs
