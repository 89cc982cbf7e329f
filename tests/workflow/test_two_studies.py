"""Two studies in one folder, with the real Snakefile: they share what they have in common, and overwrite nothing."""

import shutil

import yaml

from tests.workflow.conftest import arguments_of, snakemake, write_study
from tests.workflow.warm_snakemake import run_snakemake


def change(path, **changes) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))


def run_mine(folder, *arguments):
    words = arguments_of(folder, *arguments)
    return run_snakemake([word.replace("study.yaml", "mine.yaml") for word in words], folder)


def test_a_study_that_would_overwrite_another_is_refused_and_one_that_shares_is_not(tmp_path):
    write_study(tmp_path)
    made = snakemake(tmp_path, "results/models/q1")
    assert made.returncode == 0, made.stderr
    mine = tmp_path / "mine.yaml"
    shutil.copy(tmp_path / "study.yaml", mine)
    change(mine, name="mine", grids=[{"bits": [3], "group_size": [128], "calibration_size": [2]}])
    planned = run_mine(tmp_path, "--dry-run", "--quiet")
    assert planned.returncode == 0, planned.stderr
    change(mine, evaluation=yaml.safe_load(mine.read_text())["evaluation"] | {"items": 7})
    refused = run_mine(tmp_path, "--dry-run")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        "mine.yaml: its answers of q1 would overwrite those of the study demo (study.yaml), where evaluation.items "
    )


def test_a_variant_that_the_study_does_not_name_is_refused_before_any_job(tmp_path):
    write_study(tmp_path)
    refused = snakemake(tmp_path, "results/scores/q1/w5-g128-c4-s0/memorization.json")
    assert refused.returncode == 1 and not (tmp_path / "results" / "models").exists()
    line = "study.yaml: q1/w5-g128-c4-s0 is no variant of the study; name it in a grid"
    assert refused.stderr.splitlines()[-1] == line
