"""A variant that is missing is named wherever something rests on the others, and none is missing unasked."""

import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from stratalaw.calibration.samples import read_corpus, sample
from stratalaw.cli import app
from stratalaw.observations.coverage import missing_variants
from stratalaw.report.summary import observed_of_named
from tests.workflow.conftest import OBSERVATIONS, snakemake

COVERAGE, LAWS = OBSERVATIONS.with_name("coverage.csv"), OBSERVATIONS.with_name("laws.json")
LOST = "w4-g128-c4-s1"  # its calibration set, of another seed, has a token that the model cannot take


def token_of_the_second_draw(folder: Path, corpus: str, tokens: int) -> int:
    """A token of the calibration set of seed 1 that neither that of seed 0 nor any request has."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "results" / "models" / "q1")
    drawn = [
        set(chain(*sample(read_corpus(Path(corpus)), tokenizer.encode, samples=4, tokens=tokens, seed=seed).tokens))
        for seed in (0, 1)
    ]
    asked = pd.concat([pd.read_parquet(path) for path in folder.glob("results/requests/q1/*.parquet")])
    return min(drawn[1] - drawn[0] - set(np.concatenate([*asked.context, *asked.continuation])))


@pytest.fixture
def with_one_unquantizable(folder, whole, tmp_path) -> Path:
    """A copy of the whole study, to which a variant is added whose activations, and so Hessians, are no numbers."""
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    study = yaml.safe_load((tmp_path / "study.yaml").read_text())
    source = study["models"][0]["source"]
    token = token_of_the_second_draw(folder, study["calibration"]["corpus"], study["calibration"]["tokens"])
    model = AutoModelForCausalLM.from_pretrained(source)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = type(model.lm_head.weight)(model.lm_head.weight.detach().clone())
    model.model.embed_tokens.weight.data[token] = float("nan")
    model.save_pretrained(tmp_path / "q1")
    AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / "q1")
    study["models"][0]["source"] = str(tmp_path / "q1")
    only = {"bits": [4], "group_size": [128], "calibration_size": [4], "calibration_seed": [1], "models": ["q1"]}
    study["grids"].append(only)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return tmp_path


def test_a_variant_that_cannot_be_quantized_is_named_everywhere(with_one_unquantizable, capsys, monkeypatch):
    folder = with_one_unquantizable
    made = snakemake(folder)
    assert made.returncode == 0, made.stderr
    observations = pd.read_csv(folder / OBSERVATIONS)
    assert set(observations[observations.model == "q1"].variant) == {"bf16", "w4-g128-c4-s0", "w8-g128-c4-s0"}
    coverage = pd.read_csv(folder / COVERAGE).set_index(["model", "stratum"])
    assert (coverage.loc["q1", "missing"] == LOST).all() and coverage.loc["q4", "missing"].isna().all()
    (failure,) = pd.read_csv(folder / OBSERVATIONS.with_name("failures.csv")).itertuples()
    assert (failure.stage, failure.job, failure.cause) == ("checkpoints", f"q1/{LOST}", "uninvertible Hessian")
    missing = f"not observed, of the 4 variants of q1 that the study names: {LOST}"
    assert json.loads((folder / LAWS).read_text())["notes"][0] == missing
    assert missing in (folder / OBSERVATIONS.with_name("summary.rst")).read_text()
    assert observed_of_named(observations, 5) == "4 of 5"
    shown = CliRunner().invoke(app, ["show", str(folder / LAWS)]).stdout
    assert missing in " ".join(shown.split())
    monkeypatch.chdir(folder)
    status = " ".join(CliRunner().invoke(app, ["status", "study.yaml"], env={"COLUMNS": "200"}).stdout.split())
    assert "checkpoints: 1 job: uninvertible Hessian" in status and failure.line in status
    again = snakemake(folder, "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    assert snakemake(folder, "--report", "report.html").returncode == 0
    report = (folder / "report.html").read_text()
    assert "jobs that failed" in report and "variants named and observed" in report


def test_what_is_not_scored_is_left_out_only_when_that_is_asked_for(folder, whole, tmp_path):
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    lost = "q1/w4-g128-c4-s0"
    for stage in ("checkpoints", "answers", "scores"):
        shutil.rmtree(tmp_path / "results" / stage / lost)
    part = snakemake(tmp_path, str(COVERAGE), config=["allow_missing=true"])
    assert part.returncode == 0, part.stderr
    assert not (tmp_path / "results" / "checkpoints" / lost).exists()
    assert missing_variants(pd.read_csv(tmp_path / COVERAGE)) == [
        "not observed, of the 3 variants of q1 that the study names: w4-g128-c4-s0"
    ]
    all_of_it = snakemake(tmp_path, str(COVERAGE))
    assert all_of_it.returncode == 0, all_of_it.stderr
    assert missing_variants(pd.read_csv(tmp_path / COVERAGE)) == []
    assert (tmp_path / OBSERVATIONS).read_bytes() == (folder / OBSERVATIONS).read_bytes()


def test_nothing_scored_is_one_line(folder, tmp_path):
    shutil.copy(folder / "study.yaml", tmp_path)
    refused = snakemake(tmp_path, "-n", config=["allow_missing=true"])
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "allow_missing: no model's baseline has been scored yet in results; run without it first"
    )
